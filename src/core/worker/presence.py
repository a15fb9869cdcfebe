"""Lets others see that a worker works, on what and with how much of its machine, for as long as it does.

Beside the lease, and without any say: when the record cannot be written, the task goes on all the same. A task of a
moment leaves no record, and costs no write.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from core import workers
from core.errors import RecordChanged, ServiceError
from core.ports import Record, RecordStore
from core.workers import Usage, Worker

log = logging.getLogger(__name__)

FIRST_SECONDS = 2.0


@contextmanager
def shown(
    records: RecordStore,
    worker: Worker,
    *,
    measure: Callable[[], Usage],
    now: Callable[[], datetime],
    first_seconds: float = FIRST_SECONDS,
    every_seconds: float = workers.BEAT.total_seconds(),
) -> Iterator[None]:
    """The record of `worker` is there, from `first_seconds` on, and as old as `every_seconds` at most."""
    closing = threading.Event()
    written: list[Record] = []

    def beat() -> None:
        wait = first_seconds
        while not closing.wait(wait):
            wait = every_seconds
            try:
                seen = replace(worker, usage=measure(), seen_at=now())
                written[:] = _written(records, workers.to_record(seen), written)
            except Exception as error:
                log.warning("not seen", extra={"action": "presence", "reason": type(error).__name__})

    thread = threading.Thread(target=beat, name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()
        _delete(records, written)


def _written(records: RecordStore, new: Record, before: list[Record]) -> list[Record]:
    try:
        return [records.replace(new, before[0]) if before else records.create(new)]
    except RecordChanged:  # swept, because we were slow; or a write of ours, whose answer was lost
        found = records.find(new.kind, new.record_id)
        return [found] if found else []


def _delete(records: RecordStore, written: list[Record]) -> None:
    try:
        for record in written:
            records.delete(record)
    except (RecordChanged, ServiceError) as error:  # it goes stale, and is swept
        log.warning("not taken away", extra={"action": "presence", "reason": type(error).__name__})
