"""Events of AWS Batch: doubled, overtaken, foreign, malformed or lost, they change nothing that they should not.

The tasks are in a real SQLite store and move by their real moves; what AWS Batch would say of its jobs is set by the
test, and no event is believed. The function itself runs on moto's AWS.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from core import moves, sweep
from core.aws import batch_event
from core.aws.task_store import DynamoTaskStore
from core.errors import DispatchUnavailable, TaskNotFound
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import JobState, Services, Sighting
from core.submit import AGAIN_AFTER
from core.task import Ending, Progress, Stage, Status, Task, Timings
from support import aws_faults, lambda_process, moto_server
from support.aws_faults import Faults, says
from support.builders import NOW, a_task, an_output, task_in
from support.lambda_module import imported
from support.moto_server import Moto
from support.recording import RecordingDispatcher

EVENTS = lambda_process.ROOT / "events"
PLACEHOLDER = "00000000-0000-4000-8000-000000000000"
LATER = NOW + timedelta(seconds=30)
RUNNING, COMING, GONE = (Sighting(state) for state in (JobState.RUNNING, JobState.COMING, JobState.GONE))
LIFE = ("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED")

batch_events = imported("handlers.batch_events")


def event(name: str = "job_failed", task_id: str = PLACEHOLDER, **detail: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text().replace(PLACEHOLDER, task_id))
    made["detail"].update(detail)
    return made


@pytest.fixture
def dispatcher() -> RecordingDispatcher:
    return RecordingDispatcher()


@pytest.fixture
def services(tmp_path: Path, dispatcher: RecordingDispatcher) -> Iterator[Services]:
    store, records = SqliteTaskStore(tmp_path / "tasks.db"), SqliteRecordStore(tmp_path / "tasks.db")
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    yield Services(store=store, records=records, objects=objects, dispatcher=dispatcher)
    store.close()
    records.close()


def deliver(services: Services, event: Mapping[str, Any], *, now: datetime = LATER) -> None:
    task_id = batch_event.task_of(event, queues=[moto_server.QUEUE])
    assert task_id
    batch_events.look(services, task_id, now=now)


def submitted(**changes: Any) -> Task:
    return moves.submitted(task_in(Status.QUEUED, **changes), now=NOW, job_id="job-0")


def running() -> Task:
    return moves.claim(submitted(), now=NOW, owner="worker-1", job_id="job-0")


def test_events_in_any_order_change_nothing_in_a_life_that_goes_well(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    """All 120 orders of the five events of a job, one after each step of its task's life, each of them twice."""
    store = services.store
    for order in permutations(LIFE):
        task = store.create(a_task())
        for step, status in enumerate(order):
            task, job = _next(store.get(task.task_id), step)
            stored = store.replace(task, replace(task, version=step + 1))
            dispatcher.jobs["job-0"] = job
            for _ in range(2):
                deliver(services, event(task_id=task.task_id, status=status), now=NOW)
                assert store.get(task.task_id) == stored
        assert store.get(task.task_id).status is Status.COMPLETED
    assert dispatcher.submitted == []


def _next(task: Task, step: int) -> tuple[Task, Sighting]:
    """The task after that step of its life, and how its job is then."""
    if step == 0:
        return moves.execute(task, now=NOW), COMING
    if step == 1:
        return moves.submitted(task, now=NOW, job_id="job-0"), COMING
    if step == 2:
        return moves.claim(task, now=NOW, owner="worker-1", job_id="job-0"), RUNNING
    if step == 3:
        progress = Progress(percent=50.0)
        return moves.report(
            task, now=NOW, fence=1, stage=Stage.TRANSCODING, progress=progress, timings=Timings()
        ), RUNNING
    outputs = (an_output(task.task_id),)
    return moves.complete(task, now=NOW, fence=1, outputs=outputs, output_count=1, timings=Timings()), GONE


def test_events_in_any_order_replace_a_dead_worker_once(services: Services, dispatcher: RecordingDispatcher) -> None:
    """All 120 orders again, when the worker has died after it claimed the task."""
    for number, order in enumerate(permutations(("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "FAILED")), start=1):
        task = services.store.create(running())
        dispatcher.jobs = {f"job-{number}": COMING}
        for status in order:
            for _ in range(2):
                deliver(services, event(task_id=task.task_id, status=status))
        after = services.store.get(task.task_id)
        assert (after.status, after.job_id, after.fence) == (Status.QUEUED, f"job-{number}", 1)
        assert [attempt.ending for attempt in after.attempts] == [Ending.LOST]
        assert len(dispatcher.submitted) == number


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("job", [RUNNING, COMING, GONE], ids=["running", "coming", "gone"])
@pytest.mark.parametrize("name", ["job_failed", "queue_blocked"])
def test_an_event_moves_a_task_only_as_the_table_allows(
    services: Services, dispatcher: RecordingDispatcher, status: Status, job: Sighting, name: str
) -> None:
    task = services.store.create(replace(task_in(status), job_id="job-0"))
    dispatcher.jobs = {"job-0": job, "job-1": COMING}
    for _ in range(3):
        deliver(services, event(name, task.task_id), now=NOW)
    after = services.store.get(task.task_id)
    if job is GONE and status is Status.RUNNING:
        assert (after.status, after.job_id, after.fence) == (Status.QUEUED, "job-1", 1)
    elif job is GONE and status is Status.QUEUED:
        assert after == replace(
            moves.unsubmitted(task, now=NOW, delay=AGAIN_AFTER, reason="The worker ended before it took the task."),
            version=2,
        )
    else:
        assert after == task


@pytest.mark.parametrize("word", ["FAILED", "SUCCEEDED"])
def test_the_word_of_an_event_is_not_believed(services: Services, dispatcher: RecordingDispatcher, word: str) -> None:
    task = services.store.create(running())
    dispatcher.jobs["job-0"] = RUNNING
    deliver(services, event(task_id=task.task_id, status=word, statusReason="Host EC2 terminated."))
    assert services.store.get(task.task_id) == task


def test_an_event_of_an_older_job_does_not_touch_the_newer_ones_worker(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(replace(running(), job_id="job-new"))
    dispatcher.jobs["job-new"] = RUNNING
    deliver(services, event(task_id=task.task_id, jobId="job-0", status="FAILED"))
    assert services.store.get(task.task_id) == task


def test_what_was_said_of_a_job_is_not_applied_to_its_successor(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    """A new job claims the task between the question and the answer, which is about the old one."""
    task = services.store.create(running())

    class Slow(RecordingDispatcher):
        def look(self, tasks: Any) -> Mapping[str, Sighting]:
            seen = super().look(tasks)
            if "job-new" not in self.jobs:
                self.jobs["job-new"] = RUNNING
                lost = services.store.replace(moves.lose(task, now=LATER, fence=1, gone=True), task)
                claimed = moves.claim(lost, now=LATER, owner="worker-2", job_id="job-new")
                services.store.replace(claimed, lost)
            return seen

    slow = Slow()
    deliver(replace(services, dispatcher=slow), event(task_id=task.task_id))
    after = services.store.get(task.task_id)
    assert (after.status, after.fence, after.job_id, slow.submitted) == (Status.RUNNING, 2, "job-new", [])


def test_a_blocked_queue_shows_its_reason_at_once(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(submitted())
    reason = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    dispatcher.jobs["job-0"] = Sighting(JobState.COMING, reason)
    for _ in range(3):
        deliver(services, event("queue_blocked", task.task_id))
    assert services.store.get(task.task_id) == replace(
        moves.waiting(task, now=LATER, reason=reason), version=task.version + 1 if task.version else 2
    )


FOREIGN: Mapping[str, dict[str, Any]] = {
    "another service": {**event(), "source": "aws.ec2"},
    "another kind": {**event(), "detail-type": "Batch Service Job Queue Blocked"},
    "a schedule": json.loads((EVENTS / "sweep.json").read_text()),
    "another queue": event(jobQueue="arn:aws:batch:eu-central-1:123456789012:job-queue/other"),
    "a queue of nearly our name": event(jobQueue="arn:aws:batch:eu-central-1:123456789012:job-queue/not-transcode"),
    "another job": event(jobName="nightly-report"),
    "a name that only starts like ours": event(jobName=f"task-{PLACEHOLDER}-2"),
    "a name that only ends like ours": event(jobName=f"my-task-{PLACEHOLDER}"),
    "no id in its name": event(jobName="task-"),
    "an id in capitals": event(jobName=f"task-{PLACEHOLDER[:-1]}A"),
    "a path in its name": event(jobName="task-../../etc/passwd"),
    "a line break after its name": event(jobName=f"task-{PLACEHOLDER}\n"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_event_is_of_no_task(name: str) -> None:
    assert batch_event.task_of(FOREIGN[name], queues=[moto_server.QUEUE]) is None


def _without(*path: str) -> dict[str, Any]:
    made = event()
    *outer, last = path
    record = made
    for field in outer:
        record = record[field]
    del record[last]
    return made


MALFORMED: Mapping[str, Any] = {
    "nothing": None,
    "a list": [],
    "a word": "event",
    "a number": 7,
    "empty": {},
    "no source": _without("source"),
    "no kind": _without("detail-type"),
    "a source that is no text": {**event(), "source": ["aws.batch"]},
    "a kind that is nothing": {**event(), "detail-type": None},
    "no detail": _without("detail"),
    "detail that is nothing": {**event(), "detail": None},
    "detail that is text": {**event(), "detail": json.dumps(event()["detail"])},
    "detail that is a list": {**event(), "detail": [event()["detail"]]},
    "empty detail": {**event(), "detail": {}},
    "no name": _without("detail", "jobName"),
    "an empty name": event(jobName=""),
    "a name that is a number": event(jobName=42),
    "a name that is a record": event(jobName={"S": f"task-{PLACEHOLDER}"}),
    "no queue": _without("detail", "jobQueue"),
    "a queue that is nothing": event(jobQueue=None),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_event_is_raised(name: str) -> None:
    with pytest.raises(batch_event.Malformed):
        batch_event.task_of(MALFORMED[name], queues=[moto_server.QUEUE])


@pytest.mark.parametrize("queue", [moto_server.QUEUE, "arn:aws:batch:eu-central-1:123456789012:job-queue/transcode"])
def test_the_queue_may_be_set_by_its_name_or_its_arn(queue: str) -> None:
    assert batch_event.task_of(event(), queues=["another", queue]) == PLACEHOLDER


def test_an_event_of_an_unknown_task_is_ignored(services: Services) -> None:
    deliver(services, event())
    with pytest.raises(TaskNotFound):
        services.store.get(PLACEHOLDER)


def test_a_batch_that_somebody_must_mend_is_raised(services: Services, dispatcher: RecordingDispatcher) -> None:
    task = services.store.create(running())
    dispatcher.refusing = True
    with pytest.raises(DispatchUnavailable):
        deliver(services, event(task_id=task.task_id))
    assert services.store.get(task.task_id) == task


# The clocks: no event arrives at all, and the sweep comes once a minute.

SWEEP_EVERY = timedelta(minutes=1)


def repaired_after(services: Services, task: Task, *, first_sweep: datetime, job_id: str) -> datetime:
    """When the sweep, from `first_sweep` on, has given the task another job than `job_id`."""
    now = first_sweep
    while (stored := services.store.get(task.task_id)).job_id in (None, job_id) or stored.status is not Status.QUEUED:
        assert now < first_sweep + timedelta(minutes=10), "never repaired"
        sweep.sweep(services, now=now)
        now += SWEEP_EVERY
    return now - SWEEP_EVERY


@pytest.mark.parametrize("offset", range(0, 60, 5))
def test_without_any_event_the_sweep_repairs_all_within_five_minutes(services: Services, offset: int) -> None:
    first = NOW + timedelta(seconds=offset)
    lost = {
        "never handed over": (task_in(Status.QUEUED), timedelta(seconds=15 + 60)),
        "not taken by a throttled AWS Batch": (
            moves.unsubmitted(task_in(Status.QUEUED), now=NOW, delay=AGAIN_AFTER * 1.5),
            timedelta(seconds=90),
        ),
        "its job ended before it claimed": (submitted(), timedelta(minutes=5)),
        "its worker died": (running(), timedelta(seconds=150)),
        "its worker gave it back": (moves.release(running(), now=NOW, fence=1), timedelta(seconds=60)),
    }
    for name, (task, bound) in lost.items():
        stored = services.store.create(task)
        took = repaired_after(services, stored, first_sweep=first, job_id="job-0") - NOW
        assert took <= bound <= timedelta(minutes=5), name


@pytest.mark.parametrize("offset", range(0, 60, 5))
def test_a_job_that_never_claimed_is_replaced_soon_after_its_event(services: Services, offset: int) -> None:
    task = services.store.create(submitted())
    deliver(services, event(task_id=task.task_id), now=NOW)
    first = NOW + timedelta(seconds=offset)
    assert repaired_after(services, task, first_sweep=first, job_id="job-0") - NOW <= timedelta(seconds=80)


def test_the_bound_from_a_workers_death_to_the_next_claim(services: Services, dispatcher: RecordingDispatcher) -> None:
    """By the sweep alone, at whatever second it comes: the lease and one minute. The worker dies after a heartbeat."""
    took = []
    for offset in range(60):
        task = services.store.create(running())
        when = repaired_after(services, task, first_sweep=NOW + timedelta(seconds=offset), job_id="job-0")
        handed_over = services.store.get(task.task_id)
        claimed = moves.claim(handed_over, now=when, owner="worker-2", job_id=handed_over.job_id)
        assert claimed.fence == 2
        took.append((when - NOW).total_seconds())
    assert (min(took), max(took)) == (90, 149)


def test_by_its_jobs_event_a_dead_worker_is_replaced_at_once(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    task = services.store.create(running())
    deliver(services, event(task_id=task.task_id), now=NOW)
    handed_over = services.store.get(task.task_id)
    assert (handed_over.status, handed_over.job_id) == (Status.QUEUED, "job-1")
    assert moves.claim(handed_over, now=NOW, owner="worker-2", job_id="job-1").fence == 2


def test_the_next_attempt_of_the_same_job_claims_at_once() -> None:
    assert moves.claim(running(), now=NOW, owner="worker-2", job_id="job-0").fence == 2


# The function itself


@pytest.fixture
def faults(aws: Moto) -> Iterator[Faults]:
    with aws_faults.serving(aws.url) as serving:
        yield serving


def test_the_function_looks_after_the_task_of_an_event(aws: Moto, faults: Faults, tmp_path: Path) -> None:
    store = DynamoTaskStore(moto_server.TABLE)
    task = store.create(running())

    def described(request: dict[str, Any]) -> dict[str, Any]:
        states = {"job-0": "FAILED"}
        return {"jobs": [{"jobId": job, "status": states.get(job, "PENDING")} for job in request["jobs"]]}

    faults.on("DescribeJobs", says(described), always=True)
    env = {**aws.env, **moto_server.SETTINGS, "AWS_ENDPOINT_URL": faults.url}
    with lambda_process.started(env, tmp_path, module="handlers.batch_events") as function:
        for made in (event(task_id=task.task_id), event(task_id=task.task_id), event(jobName="other"), event()):
            function.invoke(made)
        records = function.log()

    after = store.get(task.task_id)
    assert after.status is Status.QUEUED
    assert after.job_id not in (None, "job-0")
    actions = [(record["action"], record.get("task_id")) for record in records if "action" in record]
    assert actions[0] == ("sweep_lose", task.task_id)
    assert [action for action, _ in actions[-2:]] == ["event_ignored", "event_ignored"]
    assert {record["correlation_id"] for record in records} == {event()["id"]}
    assert moto_server.COMMAND[-1] not in function.log_file.read_text()  # nothing of the event itself


def test_the_function_ends_badly_with_what_it_cannot_handle(aws: Moto) -> None:
    context = lambda_process.Context(aws_request_id="request-1")
    for name in ("empty", "no detail", "no name"):
        with pytest.raises(batch_event.Malformed):
            batch_events.handler(MALFORMED[name], context)
