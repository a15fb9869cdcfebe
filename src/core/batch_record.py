"""A batch as a record and back."""

from dataclasses import replace

from core import record
from core.batch import Batch
from core.ports import Record

KIND = "batch"


def write(batch: Batch) -> Record:
    return Record(
        kind=KIND,
        record_id=batch.batch_id,
        body=record.write(batch),
        created_at=batch.created_at,
        due_at=batch.due_at,
        version=batch.version,
    )


def read(found: Record) -> Batch:
    return replace(record.read(Batch, found.body), version=found.version)
