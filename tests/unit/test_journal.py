"""The log of an attempt: bounded, in whole lines, and read from the newest attempt that has one."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from core import moves
from core.errors import NotFound, ResultGone
from core.ports import Services
from core.read_log import MAX_BYTES, read_log
from core.task import Failure, FailureCode, Status, Task, Timings
from core.worker.journal import Journal
from support.builders import NOW, task_in


def test_a_journal_is_what_was_added_line_by_line() -> None:
    journal = Journal()
    assert journal.text() == ""
    journal.add("$ ffmpeg", "says this")
    journal.add("and ends")
    assert journal.text() == "$ ffmpeg\nsays this\nand ends\n"


@pytest.mark.parametrize("line", ["x" * 500, "日" * 500, "\ud800" * 500, "short"])
def test_a_long_journal_loses_its_beginning(line: str) -> None:
    journal = Journal()
    journal.add("the beginning", *[line] * 20_000, "the end")
    text = journal.text()
    size = len(text.encode(errors="replace"))
    assert MAX_BYTES - 2000 < size <= MAX_BYTES
    first, *rest, last = text.splitlines()
    assert (first, set(rest), last) == ("(what came before is left out)", {line}, "the end")


def test_a_long_journal_keeps_its_end_in_order() -> None:
    journal = Journal()
    journal.add(*map(str, range(20_000)))
    kept = [int(line) for line in journal.text().splitlines()[1:]]
    assert kept == list(range(kept[0], 20_000))


def test_a_journal_that_just_fits_is_whole() -> None:
    journal = Journal()
    journal.add("x" * (MAX_BYTES - 32))
    assert journal.text() == "x" * (MAX_BYTES - 32) + "\n"


def kept(services: Services, tmp_path: Path, task: Task, fence: int) -> None:
    path, text = tmp_path / "log", f"attempt {fence}".encode()
    path.write_bytes(text)
    key, sha256 = services.log_key(task, fence), hashlib.sha256(text).hexdigest()
    services.objects.put_file(key, path, sha256=sha256, content_type="text/plain")
    path.unlink()


@pytest.mark.parametrize(("there", "expected"), [([1], 1), ([1, 2], 2), ([3, 1], 3), ([2], 2)])
def test_the_newest_log_is_read(services: Services, tmp_path: Path, there: list[int], expected: int) -> None:
    task = replace(task_in(Status.RUNNING), fence=3)
    for fence in there:
        kept(services, tmp_path, task, fence)
    assert read_log(services, task) == f"attempt {expected}".encode()


@pytest.mark.parametrize("status", list(Status))
def test_a_task_without_a_log_says_so(services: Services, tmp_path: Path, status: Status) -> None:
    task = task_in(status)
    kept(services, tmp_path, task_in(status), 1)
    with pytest.raises(NotFound) as refused:
        read_log(services, task)
    assert refused.value.details == {"task_id": task.task_id, "status": status.value}


NEVER = "none of its attempts has come to the end of a run of ffmpeg"
LOST = "ffmpeg ended, but what it said could not be stored"


@pytest.mark.parametrize(
    ("code", "details", "begun", "why"),
    [
        (
            FailureCode.DISK_FULL,
            {"exit_code": 228, "log": ["No space left on device"]},
            True,
            f"{LOST}. The end of it is in the task's error.details.log",
        ),
        (FailureCode.DISK_FULL, {}, False, NEVER),  # the inputs did not fit
        (FailureCode.UPLOAD_FAILED, {}, True, f"{NEVER}, or what it said could not be stored"),
        (FailureCode.MEDIA_INVALID, {"input": "in.mp4"}, False, NEVER),
    ],
)
def test_why_a_failed_task_has_no_log(
    services: Services, code: FailureCode, details: dict[str, object], begun: bool, why: str
) -> None:
    timings = Timings(transcode_seconds=1.5 if begun else None)
    task = replace(task_in(Status.FAILED), error=Failure.of(code, "It failed.", details=details), timings=timings)
    with pytest.raises(NotFound, match=f"^The task has no log: {re.escape(why)}\\.$"):
        read_log(services, task)


def test_a_completed_task_without_a_log_has_lost_it(services: Services) -> None:
    with pytest.raises(NotFound, match=LOST):
        read_log(services, task_in(Status.COMPLETED))


def test_a_log_that_was_deleted_is_gone(services: Services, tmp_path: Path) -> None:
    task = moves.delete(task_in(Status.FAILED), now=NOW)
    kept(services, tmp_path, task, 1)
    with pytest.raises(ResultGone):
        read_log(services, task)


def test_no_output_can_have_the_key_of_a_log(services: Services) -> None:
    task = task_in(Status.COMPLETED)
    assert not services.log_key(task, 1).startswith(f"{services.folder(task)}/")
    assert services.log_key(task, 1).startswith(f"{services.output_prefix}/")


def test_a_journal_whose_end_is_wordier_than_its_beginning_is_bounded_too() -> None:
    journal = Journal()
    journal.add(*["a"] * 30_000, *["x" * 500] * 500)
    assert MAX_BYTES - 1000 < len(journal.text()) <= MAX_BYTES
