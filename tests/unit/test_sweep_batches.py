"""The sweep of batches: whatever was lost on the way, a batch goes on and ends."""

from dataclasses import replace
from datetime import timedelta

import pytest

from core import manifest, moves
from core.batch import Batch, Member, task_id
from core.batch_record import write
from core.batches import get_batch, put_manifest, read_manifest
from core.cancel_batch import cancel_batch
from core.errors import BatchNotFound
from core.find import find_task
from core.moves import QUEUE_PATIENCE
from core.ports import JobState, Services, Sighting
from core.sweep_batches import (
    KEPT_FOR,
    MOST_ROWS,
    PAUSE,
    Step,
    decide,
    look_after_batch,
    reconcile_batches,
    sweep_batches,
)
from core.sweep_slice import sweep_slice
from core.task import KEEP_RECORD, Status
from support.batches import registered
from support.builders import NOW, a_task
from support.recording import RecordingDispatcher

SECOND = timedelta(seconds=1)
LATER = NOW + QUEUE_PATIENCE
BATCH = Batch(
    batch_id="3f0c1f60-0000-4000-8000-000000000000",
    template=a_task(),
    count=2,
    per_slice=1,
    created_at=NOW,
    correlation_id="corr-1",
    job_id="job-1",
)
UNSENT = replace(BATCH, job_id=None)
CANCELED = replace(BATCH, canceled_at=NOW)
LIVE, DONE, FAILED = Member(0, Status.RUNNING), Member(0, Status.COMPLETED), Member(1, Status.FAILED)
COMING, RUNNING, GONE = JobState.COMING, JobState.RUNNING, JobState.GONE


@pytest.mark.parametrize(
    ("batch", "job", "members", "step"),
    [
        (UNSENT, GONE, [], Step.SUBMIT),
        (UNSENT, GONE, [DONE], Step.SUBMIT),
        (UNSENT, GONE, [DONE, FAILED], Step.FINISH),
        (BATCH, COMING, [], Step.WAIT),
        (BATCH, RUNNING, [DONE], Step.WAIT),
        (BATCH, GONE, [], Step.MAKE_ROWS),
        (BATCH, GONE, [DONE], Step.MAKE_ROWS),
        (BATCH, GONE, [LIVE, FAILED], Step.WAIT),
        (BATCH, GONE, [DONE, FAILED], Step.FINISH),
        (CANCELED, GONE, [], Step.FINISH),
        (CANCELED, RUNNING, [DONE], Step.FINISH),
        (CANCELED, GONE, [LIVE], Step.CANCEL),
        (replace(BATCH, finished_at=NOW), GONE, [DONE, FAILED], Step.KEEP),
        (replace(BATCH, finished_at=NOW), GONE, [], Step.FORGET),
    ],
)
def test_the_next_step_follows_from_what_there_is(
    batch: Batch, job: JobState, members: list[Member], step: Step
) -> None:
    assert decide(batch, job=job, members=members) is step


def members(services: Services, batch: Batch) -> dict[int, Status]:
    return {one.number: one.status for one in services.store.members(batch.batch_id)}


def test_a_batch_that_was_not_handed_over_is_handed_over(services: Services, dispatcher: RecordingDispatcher) -> None:
    dispatcher.losing = True
    batch = registered(services)
    dispatcher.losing = False
    assert batch.dispatch_due_at

    assert sweep_batches(services, now=batch.dispatch_due_at - SECOND) == 0
    assert sweep_batches(services, now=batch.dispatch_due_at) == 1

    assert len(dispatcher.batches) == 2
    assert get_batch(services, batch.batch_id).job_id == "batch-job-2"


def test_a_batch_whose_workers_are_there_is_let_be(services: Services, dispatcher: RecordingDispatcher) -> None:
    batch = registered(services)
    dispatcher.jobs["batch-job-1"] = Sighting(RUNNING)
    sweep_batches(services, now=LATER)
    assert (len(dispatcher.batches), members(services, batch)) == (1, {})
    assert sweep_batches(services, now=LATER + SECOND) == 0


def test_without_workers_the_tasks_are_handed_over_one_by_one(services: Services) -> None:
    """Some at a time, and those that have a row keep it."""
    batch = registered(services, MOST_ROWS + 5)
    first = find_task(services, task_id(batch.batch_id, 0))
    services.store.create(moves.claim(first, now=NOW, owner="worker"))

    sweep_batches(services, now=LATER)

    assert members(services, batch) == {0: Status.RUNNING} | dict.fromkeys(range(1, MOST_ROWS + 1), Status.QUEUED)
    due = services.store.due(LATER, limit=1000)
    assert len(due) == MOST_ROWS + 1  # and the one whose lease is over
    assert sweep_batches(services, now=LATER + SECOND) == 0
    sweep_batches(services, now=LATER + PAUSE)
    assert len(members(services, batch)) == batch.count


def test_a_batch_whose_list_is_gone_waits_for_it(services: Services) -> None:
    batch = registered(services)
    list_of_files = read_manifest(services, batch)
    services.objects.delete(services.batch_folder(batch.batch_id))

    assert sweep_batches(services, now=LATER) == 1
    assert sweep_slice(services, batch.batch_id, 0, now=LATER) == []

    assert (members(services, batch), get_batch(services, batch.batch_id).due_at) == ({}, LATER + PAUSE)
    put_manifest(services, batch, manifest.write(list_of_files))
    sweep_batches(services, now=LATER + PAUSE)
    assert members(services, batch) == dict.fromkeys(range(3), Status.QUEUED)


def test_a_batch_whose_dispatcher_cannot_be_asked_stays_due(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    batch = registered(services)
    dispatcher.refusing = True
    assert sweep_batches(services, now=LATER) == 0
    assert members(services, batch) == {}
    dispatcher.refusing = False
    assert sweep_batches(services, now=LATER) == 1


def test_a_record_that_cannot_be_read_keeps_the_sweep_from_no_other(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    dispatcher.losing = True
    good, bad = registered(services, now=NOW), registered(services, now=NOW - SECOND)
    current = write(get_batch(services, bad.batch_id))
    services.records.replace(replace(current, body='{"of": "a later version"}'), current)
    dispatcher.losing = False

    assert sweep_batches(services, now=LATER) == 1

    assert get_batch(services, good.batch_id).job_id


def test_a_batch_ends_with_its_last_task_and_is_forgotten_later(services: Services) -> None:
    batch = registered(services, 2)
    for number in range(2):
        task = moves.claim(find_task(services, task_id(batch.batch_id, number)), now=NOW, owner="worker")
        services.store.create(moves.complete(task, now=NOW, fence=1, outputs=(), output_count=0, timings=task.timings))

    look_after_batch(services, batch.batch_id, now=NOW + SECOND)

    ended = get_batch(services, batch.batch_id)
    assert (ended.finished_at, ended.counts) == (
        NOW + SECOND,
        {"queued": 0, "running": 0, "completed": 2, "failed": 0, "canceled": 0},
    )
    key = services.manifest_key(batch)
    assert sweep_batches(services, now=NOW + KEEP_RECORD) == 0
    assert services.objects.head(key)
    # and as long as there are rows of it: their ids are from its own, which a key may give to another one
    over = NOW + SECOND + KEEP_RECORD
    assert sweep_batches(services, now=over) == 1
    assert services.objects.head(key)
    assert sweep_batches(services, now=over) == 0
    for number in range(2):
        services.store.forget(services.store.get(task_id(batch.batch_id, number)))
    assert sweep_batches(services, now=over + KEPT_FOR) == 1
    assert services.objects.head(key) is None
    with pytest.raises(BatchNotFound):
        get_batch(services, batch.batch_id)
    look_after_batch(services, batch.batch_id, now=NOW)  # which is no error


def test_at_a_start_what_wants_workers_gets_them_in_order(services: Services, dispatcher: RecordingDispatcher) -> None:
    second = registered(services, now=NOW + SECOND)
    first = registered(services)
    canceled = registered(services)
    cancel_batch(services, canceled.batch_id, now=NOW)
    over = registered(services)
    current = get_batch(services, over.batch_id)
    services.records.replace(write(replace(current, finished_at=NOW)), write(current))
    all_rows = registered(services, 1)
    services.store.create(find_task(services, task_id(all_rows.batch_id, 0)))
    dispatcher.batches.clear()

    again = reconcile_batches(services, now=NOW + 2 * SECOND)

    assert [one.batch_id for one in again] == [first.batch_id, second.batch_id]
    assert [one.batch_id for one in dispatcher.batches] == [first.batch_id, second.batch_id]
