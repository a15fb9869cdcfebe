"""Events of an array job: what a slice's worker has left goes on at once, and nothing is taken from the event itself.

As in test_aws_events.py, tasks and batches are in real SQLite stores, and what AWS Batch would say is set by the test.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core import batches, moves, sweep_batches
from core.aws import batch_event
from core.aws.batch_event import Slice
from core.aws.object_store import S3ObjectStore
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.batch import Batch, Source, task_id
from core.errors import DispatchUnavailable, TaskNotFound
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import JobState, Services, Sighting
from core.task import Ending, Notice, NoticeStatus, Status, Task, Timings
from support import aws_faults, lambda_process, moto_server
from support.aws_faults import says
from support.builders import NOW, a_task, an_output
from support.lambda_module import imported
from support.moto_server import Moto
from support.recording import RecordingChannel, RecordingDispatcher

EVENTS = lambda_process.ROOT / "events"
BATCH_ID = "00000000-0000-4000-8000-000000000000"  # which stands in the sample
RUNNING, COMING = Sighting(JobState.RUNNING), Sighting(JobState.COMING)
LATER = NOW + timedelta(seconds=30)
JOB = "job-1"

batch_events = imported("handlers.batch_events")


def event(name: str = "slice_failed", **detail: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    made["detail"].update(detail)
    return made


@pytest.fixture
def dispatcher() -> RecordingDispatcher:
    """Whose parent goes on."""
    return RecordingDispatcher(jobs={JOB: RUNNING})


@pytest.fixture
def services(tmp_path: Path, dispatcher: RecordingDispatcher) -> Iterator[Services]:
    store, records = SqliteTaskStore(tmp_path / "tasks.db"), SqliteRecordStore(tmp_path / "tasks.db")
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    yield Services(store=store, records=records, objects=objects, dispatcher=dispatcher)
    store.close()
    records.close()


def a_batch(services: Services, **changes: Any) -> Batch:
    """Stored: of eight tasks in slices of three, handed over as JOB."""
    made = Batch(
        batch_id=BATCH_ID,
        template=a_task(
            task_id=BATCH_ID,
            command="-i {name} {stem}.mkv",
            input_files={"{name}": "{url}"},
            output_files=("{stem}.mkv",),
        ),
        count=8,
        per_slice=3,
        created_at=NOW,
        correlation_id="corr-1",
        job_id=JOB,
        dispatch_due_at=NOW + timedelta(hours=1),
    )
    sources = [Source(f"{number}.mp4", f"https://media.example/{number}.mp4") for number in range(8)]
    return batches.create_batch(services, replace(made, **changes), sources[: changes.get("count", 8)])


def a_row(services: Services, batch: Batch, number: int, *, job_id: str = f"{JOB}:1") -> Task:
    """A task that a worker of the slice has claimed."""
    task = batch.task(number, Source(f"{number}.mp4", f"https://media.example/{number}.mp4"))
    return services.store.create(moves.claim(task, now=NOW, owner="worker-1", job_id=job_id))


def completed(services: Services, task: Task) -> Task:
    done = moves.complete(task, now=NOW, fence=1, outputs=(an_output(task.task_id),), output_count=1, timings=Timings())
    return services.store.replace(done, task)


def deliver(services: Services, made: Mapping[str, Any]) -> list[Task]:
    part = batch_event.slice_of(made, queues=[moto_server.QUEUE])
    assert part
    return [task for task in batch_events.look_at_slice(services, part, now=LATER) if task]


def rows(services: Services) -> list[int]:
    return sorted(member.number for member in services.store.members(BATCH_ID))


@pytest.mark.parametrize(
    ("array", "number"),
    [
        ({"index": 12, "statusSummary": {}}, 12),
        ({"index": 0}, 0),
        ({"size": 3, "statusSummary": {"FAILED": 3}}, None),
        (None, None),
        ([], None),
        ({"index": -1}, None),
        ({"index": True}, None),
        ({"index": "1"}, None),
    ],
)
def test_an_event_tells_the_batch_and_the_slice(array: object, number: int | None) -> None:
    found = batch_event.slice_of(event(arrayProperties=array), queues=[moto_server.QUEUE])
    assert found == Slice(BATCH_ID, number)
    assert batch_event.task_of(event(arrayProperties=array), queues=[moto_server.QUEUE]) is None


FOREIGN: Mapping[str, dict[str, Any]] = {
    "another service": {**event(), "source": "aws.ec2"},
    "another queue": event(jobQueue="arn:aws:batch:eu-central-1:123456789012:job-queue/other"),
    "another job": event(jobName="nightly-report"),
    "a task's": event(jobName=f"task-{BATCH_ID}"),
    "an id that no batch has": event(jobName=f"batch-{BATCH_ID[:-1]}1"),
    "a name that only starts like ours": event(jobName=f"batch-{BATCH_ID}-2"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_event_is_of_no_batch(name: str) -> None:
    assert batch_event.slice_of(FOREIGN[name], queues=[moto_server.QUEUE]) is None


def test_a_slice_whose_worker_is_gone_goes_on_without_the_others_end(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    # given a worker that has completed one task, died in the next one, and never came to the third
    batch = a_batch(services)
    done, running = completed(services, a_row(services, batch, 3)), a_row(services, batch, 4)

    # when its event comes
    told = deliver(services, event())

    # then the task that it held has a job of its own, and the one without a row gets one with the next sweep
    lost = services.store.get(running.task_id)
    assert (lost.status, lost.job_id, [tried.ending for tried in lost.attempts]) == (
        Status.QUEUED,
        "job-1",
        [Ending.LOST],
    )
    made = services.store.get(task_id(BATCH_ID, 5))
    assert (made.status, made.dispatch_due_at, made.batch_id) == (Status.QUEUED, LATER, BATCH_ID)
    assert [task.task_id for task in dispatcher.submitted] == [running.task_id]
    # and the other slices are left alone
    assert rows(services) == [3, 4, 5]
    assert [task for task in told if task.status.ended] == [services.store.get(done.task_id)]


@pytest.mark.parametrize("state", [RUNNING, COMING], ids=["running", "coming"])
def test_the_word_of_a_childs_event_is_not_believed(
    services: Services, dispatcher: RecordingDispatcher, state: Sighting
) -> None:
    batch = a_batch(services)
    running = a_row(services, batch, 3)
    dispatcher.jobs[f"{JOB}:1"] = state
    assert deliver(services, event(status="FAILED")) == [running]
    assert services.store.get(running.task_id) == running
    assert rows(services) == [3]


def test_what_a_slices_worker_has_ended_is_told_of(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = a_batch(services)
    ends = [completed(services, a_row(services, batch, number)) for number in (3, 4, 5)]
    for task in ends:
        services.store.replace(replace(task, notices=(Notice(channel="webhook", due_at=NOW),)), task)
    channel = RecordingChannel()

    told = deliver(replace(services, channels={"webhook": channel}), event(status="SUCCEEDED"))

    assert sorted(task.task_id for task in channel.delivered) == [task.task_id for task in ends]
    assert [services.store.get(task.task_id).notices[0].status for task in ends] == 3 * [NoticeStatus.DELIVERED]
    assert {metric for task in told for metric in batch_events.figures(task)} == {
        "TasksCompleted",
        "GpuWorkerSeconds",
        "SecondsToDone",
    }


def test_a_task_that_went_on_by_itself_is_measured_by_its_own_event_only(services: Services) -> None:
    batch = a_batch(services)
    completed(services, a_row(services, batch, 3, job_id="a-job-of-its-own"))
    completed(services, a_row(services, batch, 4))
    assert [task.task_id for task in deliver(services, event())] == [task_id(BATCH_ID, 4)]


def test_looking_stops_in_time(services: Services) -> None:
    batch = a_batch(services)
    running = a_row(services, batch, 4)
    looked = batch_events.look_at_slice(services, Slice(BATCH_ID, 1), now=LATER, stopped=lambda: True)
    assert looked == [None]
    assert services.store.get(running.task_id) == running  # and is the sweep's


def test_the_parents_end_is_about_the_batch(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = a_batch(services)
    dispatcher.jobs = {}
    for number in (0, 1):
        completed(services, a_row(services, batch, number, job_id=f"{JOB}:0"))
    assert deliver(services, event(arrayProperties={"size": 3, "statusSummary": {"FAILED": 2}})) == []
    assert rows(services) == list(range(8))
    for number in range(2, 8):
        stored = services.store.get(task_id(BATCH_ID, number))
        completed(services, services.store.replace(moves.claim(stored, now=NOW, owner="worker-1"), stored))
    deliver(services, event(arrayProperties={"size": 3}))
    assert batches.get_batch(services, BATCH_ID).finished_at == LATER


def test_the_plain_job_of_one_slice_is_about_both(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = a_batch(services, count=2)
    dispatcher.jobs = {}
    done = completed(services, a_row(services, batch, 0, job_id=f"{JOB}:0"))
    assert [task.task_id for task in deliver(services, event(arrayProperties=None))] == [
        done.task_id,
    ]
    assert rows(services) == [0, 1]


@pytest.mark.parametrize(
    "changes",
    [{"canceled_at": NOW}, {"finished_at": NOW}, {"job_id": None}],
    ids=["canceled", "finished", "not handed over yet"],
)
def test_of_some_batches_no_row_is_made(services: Services, changes: dict[str, Any]) -> None:
    a_batch(services, **changes)
    assert deliver(services, event()) == []
    assert rows(services) == []


@pytest.mark.parametrize("number", [3, 10_000])
def test_a_slice_that_there_is_not_is_ignored(services: Services, number: int) -> None:
    a_batch(services)
    assert deliver(services, event(arrayProperties={"index": number})) == []
    assert rows(services) == []


def test_an_event_of_an_unknown_batch_is_ignored(services: Services) -> None:
    assert deliver(services, event()) == []
    with pytest.raises(TaskNotFound):
        services.store.get(task_id(BATCH_ID, 3))


def test_an_aws_batch_that_somebody_must_mend_is_raised(services: Services, dispatcher: RecordingDispatcher) -> None:
    a_batch(services)
    dispatcher.refusing = True
    with pytest.raises(DispatchUnavailable):
        deliver(services, event())
    dispatcher.refusing, dispatcher.delaying = False, True
    assert deliver(services, event()) == []
    assert rows(services) == []


def test_events_in_any_number_leave_what_a_sweep_would(services: Services, dispatcher: RecordingDispatcher) -> None:
    """Each child's event and the parent's, all of them thrice: each task is handed over, and no task twice."""
    a_batch(services)
    dispatcher.jobs = {}
    arrays: list[dict[str, Any]] = [{"index": 2}, {"index": 0}, {"size": 3}, {"index": 1}]
    for array in 3 * arrays:
        deliver(services, event(arrayProperties=array))
    sweep_batches.sweep_batches(services, now=LATER + timedelta(hours=2))
    assert rows(services) == list(range(8))
    assert sorted(task.task_id for task in dispatcher.submitted) == [task_id(BATCH_ID, n) for n in range(8)]


# The function itself


def test_the_function_looks_after_the_slice_of_an_event(aws: Moto, tmp_path: Path) -> None:
    services = Services(
        store=DynamoTaskStore(moto_server.TABLE),
        records=DynamoRecordStore(moto_server.TABLE),
        objects=S3ObjectStore(moto_server.BUCKET),
        dispatcher=RecordingDispatcher(),
    )
    batch = a_batch(services)
    done, running = completed(services, a_row(services, batch, 3)), a_row(services, batch, 4)
    states = {JOB: "PENDING", f"{JOB}:1": "FAILED"}

    def described(request: dict[str, Any]) -> dict[str, Any]:
        known = [job_id for job_id in request["jobs"] if job_id in states]
        return {"jobs": [{"jobId": job_id, "jobName": "x", "status": states[job_id]} for job_id in known]}

    with aws_faults.serving(aws.url) as faults:
        faults.on("DescribeJobs", says(described), always=True)
        env = {**aws.env, **moto_server.SETTINGS, "AWS_ENDPOINT_URL": faults.url}
        with lambda_process.started(env, tmp_path, module="handlers.batch_events") as function:
            for made in (event(), event(jobName="batch-other")):
                function.invoke(made)
            records = function.log()

    assert rows(services) == [3, 4, 5]
    assert services.store.get(running.task_id).status is Status.QUEUED
    assert faults.calls["SubmitJob"] == 1  # for the one that was lost; the one that was never begun is the sweep's
    (metrics,) = [record for record in records if "_aws" in record]
    assert metrics["TasksCompleted"] == [1.0]
    assert services.store.get(done.task_id) == done
    actions = [(record["action"], record.get("batch_id")) for record in records if "action" in record]
    assert actions[0] == ("slice_left", BATCH_ID)
    assert actions[-1][0] == "event_ignored"
