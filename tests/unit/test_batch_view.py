"""What is to be seen of a batch, from its rows."""

from dataclasses import replace
from datetime import timedelta

import pytest

from core.batch import Batch, Member, Source, lost, task_id
from core.batch_view import LIST_GONE, MOST_SHOWN, File, Line, view
from core.task import Status
from support.builders import NOW, a_task

BATCH = Batch(
    batch_id="3f0c1f60-0000-4000-8000-000000000000",
    template=a_task(),
    count=4,
    per_slice=2,
    created_at=NOW,
    correlation_id="corr-1",
)
SOURCES = [Source(f"clip-{number}.mp4", "https://media.example/x") for number in range(4)]
SECOND = timedelta(seconds=1)
QUEUED, RUNNING, COMPLETED, FAILED, CANCELED = (
    Status.QUEUED,
    Status.RUNNING,
    Status.COMPLETED,
    Status.FAILED,
    Status.CANCELED,
)


@pytest.mark.parametrize(
    ("members", "canceled", "status", "percent"),
    [
        ([], False, QUEUED, 0.0),
        ([QUEUED], False, QUEUED, 0.0),
        ([RUNNING], False, RUNNING, 12.5),
        ([COMPLETED], False, RUNNING, 25.0),
        ([COMPLETED, RUNNING], False, RUNNING, 37.5),
        ([COMPLETED] * 4, False, COMPLETED, 100.0),
        ([COMPLETED, FAILED] * 2, False, FAILED, 100.0),
        ([COMPLETED] * 3 + [CANCELED], False, COMPLETED, 100.0),
        ([CANCELED] * 4, False, CANCELED, 100.0),
        ([COMPLETED], True, CANCELED, 100.0),
        ([COMPLETED, RUNNING], True, CANCELED, 87.5),
        ([], True, CANCELED, 100.0),
    ],
)
def test_the_status_of_a_batch_is_that_of_its_tasks(
    members: list[Status], canceled: bool, status: Status, percent: float
) -> None:
    batch = replace(BATCH, canceled_at=NOW) if canceled else BATCH

    seen = view(batch, [Member(number, one, percent=50.0) for number, one in enumerate(members)], SOURCES)

    assert (seen.status, seen.percent) == (status, percent)
    assert sum(seen.counts.values()) == BATCH.count
    assert seen.counts.keys() == set(Status) - {Status.PENDING}


def test_what_came_of_the_files_is_told_by_their_names() -> None:
    failed = Member(2, FAILED, NOW + 2 * SECOND, error="The input is empty.")
    done = Member(1, COMPLETED, NOW + 3 * SECOND, percent=100.0)

    seen = view(BATCH, [failed, done], SOURCES)

    assert seen.failures == (
        File(
            number=2,
            name="clip-2.mp4",
            task_id=task_id(BATCH.batch_id, 2),
            finished_at=NOW + 2 * SECOND,
            error="The input is empty.",
        ),
    )
    assert seen.converted == (
        File(number=1, name="clip-1.mp4", task_id=task_id(BATCH.batch_id, 1), finished_at=NOW + 3 * SECOND),
    )
    assert seen.log == (
        Line(at=NOW, text="4 tasks registered"),
        Line(at=NOW + 2 * SECOND, text="clip-2.mp4: failed: The input is empty."),
        Line(at=NOW + 3 * SECOND, text="clip-1.mp4: completed"),
    )


def test_without_their_list_files_are_called_by_their_indexes() -> None:
    members = [Member(number, COMPLETED, NOW + SECOND) for number in range(4)]

    seen = view(BATCH, members, lost(4))

    assert (seen.status, [file.name for file in seen.converted]) == (COMPLETED, [f"file-{n}" for n in range(4)])
    assert seen.log[-1] == Line(at=NOW + SECOND, text=LIST_GONE)


def test_of_many_the_newest_lines_and_the_first_files_are_shown() -> None:
    many = replace(BATCH, count=300)
    sources = [Source(f"{number}.mp4", "https://media.example/x") for number in range(300)]
    members = [Member(number, COMPLETED, NOW + number * SECOND) for number in range(300)]

    seen = view(many, members, sources)

    assert [line.text for line in seen.log] == [f"{number}.mp4: completed" for number in range(200, 300)]
    assert [file.number for file in seen.converted] == list(range(MOST_SHOWN))


def test_a_batch_that_has_ended_is_remembered_without_its_rows() -> None:
    ended = replace(BATCH, finished_at=NOW, counts={"completed": 3, "failed": 1})
    seen = view(ended, [], SOURCES)
    assert (seen.status, seen.percent, seen.counts[COMPLETED], seen.counts[FAILED]) == (FAILED, 100.0, 3, 1)
