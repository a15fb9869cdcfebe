"""Which file a request for a result is about, or why there is none."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core import moves
from core.errors import NotFound, ResultGone, ServiceError, TaskEnded, TaskNotReady, TranscodeFailed
from core.ports import Services
from core.result import MAX_NAMED, result_key
from core.task import Status, Task
from support.builders import NOW, an_output, task_in

MINUTE = timedelta(minutes=1)


def key(services: Services, task: Task, filename: str | None = None) -> str:
    return result_key(services.objects, task, filename, now=NOW, ask_again_seconds=7)


def refusal(services: Services, task: Task, filename: str | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as refused:
        key(services, task, filename)
    return refused.value


def completed(*filenames: str, **changes: Any) -> Task:
    task = task_in(Status.COMPLETED, **changes)
    outputs = tuple(an_output(task.task_id, filename=name, key=f"o/{task.task_id}/1/{name}") for name in filenames)
    return replace(task, outputs=outputs, output_count=len(outputs))


def test_the_first_output_is_the_result(services: Services) -> None:
    task = completed("b.mp4", "a/c.ts")
    assert key(services, task) == f"o/{task.task_id}/1/b.mp4"


def test_an_output_is_found_by_its_name_with_its_folders(services: Services) -> None:
    task = completed("b.mp4", "a/c.ts")
    assert key(services, task, "a/c.ts") == f"o/{task.task_id}/1/a/c.ts"


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (Status.PENDING, "execute it first"),
        (Status.QUEUED, "ask again later"),
        (Status.RUNNING, "ask again later"),
    ],
)
def test_before_its_end_a_task_has_no_result(services: Services, status: Status, remedy: str) -> None:
    task = task_in(status)
    refused = refusal(services, task)
    assert type(refused) is TaskNotReady
    assert refused.message == f"The task is {status}, so there is no result yet; {remedy}."
    assert refused.details == {"task_id": task.task_id, "status": status.value, "retry_after_seconds": 7}


def test_a_canceled_task_has_no_result_and_never_will(services: Services) -> None:
    task = task_in(Status.CANCELED)
    refused = refusal(services, task)
    assert type(refused) is TaskEnded
    assert refused.details == {"task_id": task.task_id, "status": "canceled"}


@pytest.mark.parametrize("deleted", [False, True])
def test_a_failed_task_says_why_also_when_it_was_deleted(services: Services, deleted: bool) -> None:
    failed = task_in(Status.FAILED)
    task = moves.delete(failed, now=NOW) if deleted else failed
    refused = refusal(services, task)
    assert type(refused) is TranscodeFailed
    assert refused.message == "The task has failed: The input is not a video."
    error = {"code": "MEDIA_INVALID", "message": "The input is not a video.", "retryable": False, "details": {}}
    assert refused.details == {"task_id": task.task_id, "status": "failed", "error": error}


@pytest.mark.parametrize(
    "changes",
    [
        {"purged_at": NOW - MINUTE, "expires_at": NOW + MINUTE},
        {"purged_at": NOW - MINUTE},
        {"expires_at": NOW - MINUTE},
    ],
)
def test_what_was_deleted_or_has_had_its_time_is_gone(services: Services, changes: dict[str, Any]) -> None:
    task = replace(completed("a.mp4"), **changes)
    refused = refusal(services, task)
    assert type(refused) is ResultGone
    assert refused.details == {"task_id": task.task_id, "gone_at": (NOW - MINUTE).isoformat()}


def test_a_result_is_there_until_its_time_is_over(services: Services) -> None:
    task = replace(completed("a.mp4"), expires_at=NOW + timedelta(microseconds=1))
    assert key(services, task) == task.outputs[0].key
    assert type(refusal(services, replace(task, expires_at=NOW))) is ResultGone


@pytest.mark.parametrize("filename", ["", "c.mp4", "A.mp4", "../1/a.mp4", "a.mp4/", "/a.mp4", "a\0", "x" * 5000])
def test_another_name_is_not_found_and_the_names_are_said(services: Services, filename: str) -> None:
    task = completed("a.mp4", "b.mp4")
    for there in (task, replace(task, output_count=500)):
        refused = refusal(services, there, filename)
        assert type(refused) is NotFound
        assert refused.details == {
            "task_id": task.task_id,
            "filenames": ["a.mp4", "b.mp4"],
            "output_count": there.output_count,
        }
        assert "x" * 100 not in refused.message


def test_of_many_names_some_are_said(services: Services) -> None:
    task = completed(*(f"{number:03}.ts" for number in range(30)))
    refused = refusal(services, task, "none")
    assert refused.details["filenames"] == [f"{number:03}.ts" for number in range(MAX_NAMED)]
    assert refused.message.endswith("019.ts, and 10 more.")


def test_a_file_that_the_task_does_not_list_is_found_in_the_store(services: Services, tmp_path: Path) -> None:
    task = replace(completed("a.m3u8"), output_count=2)
    segment, content = f"o/{task.task_id}/1/a/999.ts", b"segment"
    (tmp_path / "made").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    services.objects.put_file(segment, tmp_path / "made", sha256=sha256, content_type="video/mp2t")
    assert key(services, task, "a/999.ts") == segment
    assert type(refusal(services, replace(task, output_count=1), "a/999.ts")) is NotFound
