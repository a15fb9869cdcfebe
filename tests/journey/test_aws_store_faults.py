"""DynamoDB that throttles, fails, is silent or loses its answers, seen through the real boto3 and a faulty network.

Whatever happens on the way, the store says what is so: written, not written, somebody was faster, or it cannot tell
now. None of the calls outlasts its bounds.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import boto3
import pytest
from botocore.config import Config

from core import moves, sweep
from core.aws.record_store import DynamoRecordStore
from core.aws.table import RETRY_AFTER_SECONDS
from core.aws.task_store import DynamoTaskStore
from core.errors import (
    InternalError,
    ServiceError,
    ServiceUnavailable,
    TaskChanged,
    TaskExists,
    TaskNotFound,
    TooManyRequests,
)
from core.execute import execute
from core.local.object_store import FolderObjectStore
from core.ports import Services
from core.register import Registration, register
from core.settings import Settings
from core.task import Status, Task
from support import aws_faults, moto_server
from support.aws_faults import CLOSED, GARBLED, LATE, LOST, MISSUMMED, SILENT, TRUNCATED, Fault, Faults, after, error
from support.builders import NOW, a_task, task_in
from support.moto_server import Moto
from support.recording import RecordingDispatcher

TRIES = 2
LATER = NOW + timedelta(minutes=1)
THROTTLED = error("ProvisionedThroughputExceededException")


@pytest.fixture
def faults(aws: Moto) -> Iterator[Faults]:
    with aws_faults.serving(aws.url) as serving:
        yield serving


def a_store(url: str) -> DynamoTaskStore:
    return DynamoTaskStore(moto_server.TABLE, client=aws_faults.client("dynamodb", url, tries=TRIES))


@pytest.fixture
def store(faults: Faults) -> DynamoTaskStore:
    """The store as seen through the faulty network."""
    return a_store(faults.url)


@pytest.fixture
def truth(aws: Moto) -> DynamoTaskStore:
    """The store as it is."""
    return DynamoTaskStore(moto_server.TABLE)


WRITTEN = None
# What happens to PutItem, whether each time; what `replace` then gives, and whether the table has the write.
WRITES: dict[str, tuple[Fault, bool, type[ServiceError] | None, bool]] = {
    "throttled once": (THROTTLED, False, WRITTEN, True),
    "throttled": (THROTTLED, True, TooManyRequests, False),
    "throttled by rate": (error("ThrottlingException"), True, TooManyRequests, False),
    "throttled by account": (error("RequestLimitExceeded"), True, TooManyRequests, False),
    "500 once": (error("InternalServerError", 500), False, WRITTEN, True),
    "500": (error("InternalServerError", 500), True, ServiceUnavailable, False),
    "503": (error("ServiceUnavailable", 503), True, ServiceUnavailable, False),
    "closed before it arrives, once": (CLOSED, False, WRITTEN, True),
    "closed before it arrives": (CLOSED, True, ServiceUnavailable, False),
    "answer lost once": (LOST, False, WRITTEN, True),
    "answer lost": (LOST, True, WRITTEN, True),
    "answer late once": (LATE, False, WRITTEN, True),
    "answer late": (LATE, True, WRITTEN, True),
    "silent": (SILENT, True, ServiceUnavailable, False),
    "answer garbled once": (GARBLED, False, WRITTEN, True),
    "answer garbled": (GARBLED, True, WRITTEN, True),
    "answer cut once": (TRUNCATED, False, WRITTEN, True),
    "answer cut": (TRUNCATED, True, WRITTEN, True),
    "checksum wrong once": (MISSUMMED, False, WRITTEN, True),
    "checksum wrong": (MISSUMMED, True, WRITTEN, True),
    "token expired": (error("ExpiredTokenException"), True, InternalError, False),
    "access denied": (error("AccessDeniedException"), True, InternalError, False),
    "no such table": (error("ResourceNotFoundException"), True, InternalError, False),
    "invalid": (error("ValidationException"), True, InternalError, False),
    "in a transaction": (error("TransactionConflictException"), True, ServiceUnavailable, False),
}


@pytest.mark.parametrize("name", WRITES)
def test_replace_says_what_is_so(faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore, name: str) -> None:
    fault, always, raised, written = WRITES[name]
    task = truth.create(a_task())
    queued = moves.execute(task, now=NOW)
    faults.on("PutItem", fault, always=always)

    outcome = _outcome(lambda: store.replace(queued, task))

    expected = replace(queued, version=2) if written else task
    assert (outcome, truth.get(task.task_id)) == (raised or expected, expected)


def _outcome(act: Callable[[], object]) -> object:
    """What it gives, or the class of what it raises."""
    try:
        return act()
    except ServiceError as error:
        return type(error)


def test_throttling_says_when_to_come_again(faults: Faults, store: DynamoTaskStore) -> None:
    faults.on("PutItem", THROTTLED, always=True)
    with pytest.raises(TooManyRequests) as caught:
        store.create(a_task())
    assert caught.value.details == {"retry_after_seconds": RETRY_AFTER_SECONDS}
    assert faults.requests["PutItem"] == TRIES


def test_no_answer_in_time_is_none(faults: Faults, truth: DynamoTaskStore) -> None:
    """By the real clock, which all other cases of silence here do without."""
    bounds = Config(read_timeout=0.2, retries={"mode": "standard", "total_max_attempts": TRIES})
    client = boto3.client("dynamodb", endpoint_url=faults.url, config=bounds)
    task = a_task()
    faults.on("PutItem", aws_faults.HELD, always=True)
    assert _outcome(lambda: DynamoTaskStore(moto_server.TABLE, client=client).create(task)) is ServiceUnavailable
    assert _outcome(lambda: truth.get(task.task_id)) is TaskNotFound


def test_what_was_not_heard_of_and_cannot_be_read_is_not_said_to_be_undone(
    faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore
) -> None:
    task = truth.create(a_task())
    faults.on("PutItem", LOST, THROTTLED)
    faults.on("GetItem", THROTTLED, always=True)
    with pytest.raises(ServiceUnavailable):
        store.replace(moves.execute(task, now=NOW), task)
    assert truth.get(task.task_id).status is Status.QUEUED


def test_replace_that_somebody_has_overwritten_is_to_be_decided_anew(
    faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore
) -> None:
    task = truth.create(task_in(Status.QUEUED))

    def claim() -> None:
        queued = truth.get(task.task_id)
        truth.replace(moves.claim(queued, now=NOW, owner="worker-1"), queued)

    faults.on("PutItem", after(claim, CLOSED), CLOSED)
    with pytest.raises(TaskChanged):
        store.replace(moves.submitted(task, now=NOW, job_id="job-1"), task)
    assert (truth.get(task.task_id).version, truth.get(task.task_id).status) == (3, Status.RUNNING)


def test_replace_of_a_record_that_went_meanwhile_says_so(
    faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore
) -> None:
    task = truth.create(a_task())
    faults.on("PutItem", after(lambda: truth.forget(replace(task, version=2)), CLOSED), CLOSED)
    with pytest.raises(TaskNotFound):
        store.replace(moves.execute(task, now=NOW), task)


CREATES: dict[str, tuple[Fault, type[ServiceError] | None]] = {
    "answer lost": (LOST, None),
    "answer late": (LATE, None),
    "silent": (SILENT, ServiceUnavailable),
    "throttled": (THROTTLED, TooManyRequests),
}


@pytest.mark.parametrize("name", CREATES)
def test_create_says_what_is_so(faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore, name: str) -> None:
    fault, raised = CREATES[name]
    task = a_task()
    faults.on("PutItem", fault, always=True)
    outcome = _outcome(lambda: store.create(task))
    there = _outcome(lambda: truth.get(task.task_id))
    assert (outcome, there) == ((raised, TaskNotFound) if raised else (replace(task, version=1),) * 2)


@pytest.mark.parametrize("fault", [LOST, LATE, CLOSED, THROTTLED], ids=["lost", "late", "closed", "throttled"])
def test_create_of_what_another_has_created_is_refused(
    faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore, fault: Fault
) -> None:
    theirs = truth.create(a_task())
    faults.on("PutItem", fault, always=True)
    with pytest.raises(TaskExists):
        store.create(replace(theirs, version=0, correlation_id="mine"))
    assert truth.get(theirs.task_id) == theirs


FORGETS: dict[str, tuple[Fault, bool, type[ServiceError] | None, bool]] = {
    "throttled once": (THROTTLED, False, None, True),
    "throttled": (THROTTLED, True, TooManyRequests, False),
    "answer lost once": (LOST, False, None, True),
    "answer lost": (LOST, True, None, True),
    "silent": (SILENT, True, ServiceUnavailable, False),
    "access denied": (error("AccessDeniedException"), True, InternalError, False),
}


@pytest.mark.parametrize("name", FORGETS)
def test_forget_says_what_is_so(faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore, name: str) -> None:
    fault, always, raised, gone = FORGETS[name]
    task = truth.create(task_in(Status.FAILED))
    faults.on("DeleteItem", fault, always=always)
    outcome = _outcome(lambda: store.forget(task))
    assert (outcome, _outcome(lambda: truth.get(task.task_id))) == (raised, TaskNotFound if gone else task)


def test_forget_of_another_version_or_of_nothing_is_refused(
    faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore
) -> None:
    task = truth.create(task_in(Status.FAILED))
    faults.on("DeleteItem", CLOSED, always=True)
    with pytest.raises(TaskChanged):
        store.forget(replace(task, version=7))
    faults.heal()
    with pytest.raises(TaskChanged):
        store.forget(replace(task, version=7))
    store.forget(task)
    with pytest.raises(TaskNotFound):
        store.forget(task)


READS: dict[str, tuple[Fault, bool, type[ServiceError] | None]] = {
    "throttled once": (THROTTLED, False, None),
    "throttled": (THROTTLED, True, TooManyRequests),
    "500 once": (error("InternalServerError", 500), False, None),
    "500": (error("InternalServerError", 500), True, ServiceUnavailable),
    "answer cut once": (TRUNCATED, False, None),
    "answer cut": (TRUNCATED, True, ServiceUnavailable),
    "answer garbled once": (GARBLED, False, None),
    "answer garbled": (GARBLED, True, ServiceUnavailable),
    "checksum wrong once": (MISSUMMED, False, None),
    "silent": (SILENT, True, ServiceUnavailable),
    "token expired": (error("ExpiredTokenException"), True, InternalError),
}


@pytest.mark.parametrize("name", READS)
def test_get_gives_the_task_or_says_why_not(
    faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore, name: str
) -> None:
    fault, always, raised = READS[name]
    task = truth.create(a_task())
    faults.on("GetItem", fault, always=always)
    assert _outcome(lambda: store.get(task.task_id)) == (raised or task)


def test_nobody_listens(aws: Moto, faults: Faults, truth: DynamoTaskStore) -> None:
    task = truth.create(a_task())
    store = a_store("http://127.0.0.1:1")
    for act in (
        lambda: store.get(task.task_id),
        lambda: store.create(a_task()),
        lambda: store.replace(moves.execute(task, now=NOW), task),
        lambda: store.due(LATER, limit=10),
    ):
        assert _outcome(act) is ServiceUnavailable
    assert truth.get(task.task_id) == task


def test_due_gives_what_could_be_read(faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore) -> None:
    tasks = [
        truth.create(replace(task_in(Status.QUEUED), dispatch_due_at=NOW + timedelta(seconds=number)))
        for number in range(4)
    ]
    faults.on("GetItem", aws_faults.PASS, aws_faults.PASS, THROTTLED, THROTTLED)
    assert store.due(LATER, limit=10) == tasks[:2]
    faults.on("GetItem", THROTTLED, THROTTLED)
    assert _outcome(lambda: store.due(LATER, limit=10)) is TooManyRequests
    for fault, raised in ((THROTTLED, TooManyRequests), (GARBLED, ServiceUnavailable)):
        faults.on("Query", fault, always=True)
        assert _outcome(lambda: store.due(LATER, limit=10)) is raised


def test_one_unreadable_row_does_not_hide_the_others(store: DynamoTaskStore, truth: DynamoTaskStore) -> None:
    first = truth.create(task_in(Status.QUEUED))
    bad = {"task_id": {"S": "bad"}, "version": {"N": "1"}, "due_shard": {"S": "0"}, "due_at": {"N": "1"}}
    for body in ({"body": {"S": "{"}}, {"body": {"S": "{}"}}, {}):
        boto3.client("dynamodb").put_item(TableName=moto_server.TABLE, Item={**bad, **body})
        assert store.due(LATER, limit=10) == [first]


@pytest.fixture
def services(store: DynamoTaskStore, tmp_path_factory: pytest.TempPathFactory) -> Services:
    objects = FolderObjectStore(tmp_path_factory.mktemp("objects"), base_url="http://127.0.0.1:1", secret=b"secret")
    return Services(
        store=store, records=DynamoRecordStore(moto_server.TABLE), objects=objects, dispatcher=RecordingDispatcher()
    )


WANTED = Registration(
    command="-i a.mp4 b.mp4", input_files={"a.mp4": "https://media.example/a.mp4"}, output_files=("b.mp4",)
)


def registered(store: DynamoTaskStore) -> tuple[Task, bool]:
    task, again = register(
        store, WANTED, settings=Settings(), task_id="unused", correlation_id="c", now=NOW, idempotency_key="key-1"
    )
    return task, again


@pytest.mark.parametrize("fault", [LOST, SILENT, THROTTLED], ids=["lost", "silent", "throttled"])
def test_register_with_a_key_gives_one_task_whatever_the_first_answer_was(
    faults: Faults, store: DynamoTaskStore, truth: DynamoTaskStore, fault: Fault
) -> None:
    faults.on("PutItem", fault, fault)
    first = _outcome(lambda: registered(store))
    task, again = registered(store)
    assert again == (first not in (TooManyRequests, ServiceUnavailable))
    assert truth.get(task.task_id) == task
    assert boto3.client("dynamodb").scan(TableName=moto_server.TABLE)["Count"] == 1


# What happens to the two writes of execute, one after the other; its outcome, and the jobs that were asked for.
EXECUTES: dict[str, tuple[tuple[Fault, ...], type[ServiceError] | None, int]] = {
    "first write lost": ((LOST, LOST), None, 1),
    "first write throttled": ((THROTTLED, THROTTLED), TooManyRequests, 0),
    "first write silent": ((SILENT, SILENT), ServiceUnavailable, 0),
    "second write lost": ((aws_faults.PASS, LOST, LOST), None, 1),
    "second write throttled": ((aws_faults.PASS, THROTTLED, THROTTLED), TooManyRequests, 1),
    "second write silent": ((aws_faults.PASS, SILENT, SILENT), ServiceUnavailable, 1),
}


@pytest.mark.parametrize("name", EXECUTES)
def test_execute_loses_no_task(faults: Faults, services: Services, truth: DynamoTaskStore, name: str) -> None:
    plan, raised, jobs = EXECUTES[name]
    dispatcher = services.dispatcher
    assert isinstance(dispatcher, RecordingDispatcher)
    task = truth.create(a_task())
    faults.on("PutItem", *plan)

    outcome = _outcome(lambda: execute(services, task.task_id, now=NOW))

    assert len(dispatcher.submitted) == jobs
    stored = truth.get(task.task_id)
    assert outcome == (raised or stored)
    if stored.status is Status.PENDING:  # and the caller was told so, and calls again
        stored = execute(services, task.task_id, now=NOW)
    # whatever it was, the sweep brings it to a job that the record names
    sweep.sweep(services, now=LATER)
    assert truth.get(task.task_id).job_id == f"job-{len(dispatcher.submitted)}"


def test_sweep_attends_to_all_that_it_can_write(faults: Faults, services: Services, truth: DynamoTaskStore) -> None:
    tasks = [truth.create(task_in(Status.QUEUED)) for _ in range(12)]
    faults.on("PutItem", *[THROTTLED] * 8)
    moved = sweep.sweep(services, now=LATER)
    submitted = [task for task in tasks if truth.get(task.task_id).job_id]
    assert 0 < moved == len(submitted) <= 12
    sweep.sweep(services, now=LATER)
    assert all(truth.get(task.task_id).job_id for task in tasks)
