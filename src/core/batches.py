"""Batches as they are kept: the record, and the manifest in the object store."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from core import batch_record, manifest
from core.batch import Batch, Lost, Source, lost
from core.batch_record import KIND
from core.batch_view import LIST_GONE, BatchView, view
from core.change import ROUNDS
from core.errors import BatchNotFound, InternalError, ListGone, RecordChanged
from core.manifest import Manifest
from core.ports import Services
from core.task import Status, Task


def get_batch(services: Services, batch_id: str) -> Batch:
    """The batch as it is now. Raises BatchNotFound."""
    found = services.records.find(KIND, batch_id)
    if found is None:
        raise BatchNotFound(details={"batch_id": batch_id})
    return batch_record.read(found)


def create_batch(services: Services, batch: Batch, sources: Sequence[Source]) -> Batch:
    """The batch, stored: its manifest first, so that whoever finds the batch finds that too. Raises RecordChanged.

    Of requests for one batch at the same time each writes a manifest, and the record names that of the one that won.
    """
    put_manifest(services, batch, manifest.write(sources))
    return batch_record.read(services.records.create(batch_record.write(batch)))


def change_batch(services: Services, batch_id: str, move: Callable[[Batch], Batch]) -> Batch:
    """The batch as moved and stored. Raises BatchNotFound, and what the move raises."""
    for _ in range(ROUNDS):
        batch = get_batch(services, batch_id)
        try:
            return replace_batch(services, move(batch), batch)
        except RecordChanged:
            continue
    raise InternalError("The batch changed too often.", details={"batch_id": batch_id})


def replace_batch(services: Services, new: Batch, previous: Batch) -> Batch:
    """Raises RecordChanged when somebody was faster."""
    if new == previous:
        return previous
    written = services.records.replace(batch_record.write(new), batch_record.write(previous))
    return batch_record.read(written)


def read_manifest(services: Services, batch: Batch) -> Manifest:
    """Raises ListGone where it is not as it was written: somebody has been at the objects."""
    content = services.objects.read(services.manifest_key(batch), most_bytes=manifest.MOST_BYTES)
    try:
        found = Manifest(content or b"")
    except ValueError:
        raise ListGone(details={"batch_id": batch.batch_id}) from None
    if len(found) != batch.count:
        raise ListGone(details={"batch_id": batch.batch_id})
    return found


def read_files(services: Services, batch: Batch) -> Sequence[Source]:
    """Its files for whoever only looks: one whose list is gone can still be seen, and canceled."""
    try:
        return read_manifest(services, batch)
    except ListGone:
        return lost(batch.count)


def without_row(batch: Batch, index: int, files: Sequence[Source]) -> Task:
    """The task as anybody sees it who looks before a worker has come to it."""
    task = batch.task(index, files[index])
    waits = isinstance(files, Lost) and task.status is Status.QUEUED
    return replace(task, queue_reason=LIST_GONE) if waits else task


def view_batch(services: Services, batch_id: str) -> BatchView:
    """What is to be seen of the batch now. Raises BatchNotFound."""
    batch = get_batch(services, batch_id)
    return view(batch, services.store.members(batch_id), read_files(services, batch))


def put_manifest(services: Services, batch: Batch, content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="manifest.") as folder:
        path = Path(folder) / "manifest"
        path.write_bytes(content)
        services.objects.put_file(
            services.manifest_key(batch),
            path,
            sha256=sha256(content).hexdigest(),
            content_type=manifest.CONTENT_TYPE,
        )
