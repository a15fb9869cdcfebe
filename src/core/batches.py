"""Batches as they are kept: the record, and the manifest in the object store."""

import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from core import batch_record, manifest
from core.batch import Batch, Source
from core.batch_record import KIND
from core.batch_view import BatchView, view
from core.change import ROUNDS
from core.errors import BatchNotFound, InternalError, RecordChanged
from core.manifest import Manifest
from core.ports import Services


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
    _put_manifest(services, batch, manifest.write(sources))
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
    content = services.objects.read(services.manifest_key(batch), most_bytes=manifest.MOST_BYTES)
    if content is None:
        raise InternalError("The list of the batch's files is gone.", details={"batch_id": batch.batch_id})
    return Manifest(content)


def view_batch(services: Services, batch_id: str) -> BatchView:
    """What is to be seen of the batch now. Raises BatchNotFound."""
    batch = get_batch(services, batch_id)
    return view(batch, services.store.members(batch_id), read_manifest(services, batch))


def _put_manifest(services: Services, batch: Batch, content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="manifest.") as folder:
        path = Path(folder) / "manifest"
        path.write_bytes(content)
        services.objects.put_file(
            services.manifest_key(batch),
            path,
            sha256=sha256(content).hexdigest(),
            content_type=manifest.CONTENT_TYPE,
        )
