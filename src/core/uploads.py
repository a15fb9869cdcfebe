"""Uploads as one caller sees them: begun, completed, used by tasks, deleted; and the sweep that ends them in time.

An upload expires a while after it was begun, completed or last registered with. Its end is written into the record
first, and then its bytes are deleted, so that no crash leaves what nobody knows of; and once more an hour later, since
a part that was on its way may have arrived meanwhile.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core import open_uploads
from core.batches import get_batch
from core.errors import (
    BatchNotFound,
    FileTooLarge,
    InternalError,
    InvalidArgument,
    RecordChanged,
    TaskNotFound,
    UploadIncomplete,
    UploadNotFound,
)
from core.ports import Record, RecordStore, Services
from core.seen import Caller
from core.upload import Upload, UploadStatus, UploadStore, dumps, loads, part_size_bytes

log = logging.getLogger(__name__)

KIND = "upload"
BEING_BEGUN = timedelta(minutes=1)  # by then one that was counted has its record, or never will
CLEAR_AGAIN = timedelta(hours=1)
LOOK_AGAIN = timedelta(minutes=10)  # whether the tasks that use one whose time is over have ended
KEPT_AT_MOST = timedelta(
    days=6
)  # from its beginning, however often it is used; on AWS a rule of the bucket ends it then
MOST_TASKS = 100  # that an upload is kept for beyond its time; the newest of them
_ROUNDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The uploads of `caller`, of which it may have `most_open` open, 0 for any number; each is kept for `ttl`."""

    records: RecordStore
    store: UploadStore
    caller: Caller
    ttl: timedelta
    most_open: int = 0

    def begin(self, filename: str, size_bytes: int, *, upload_id: str, most_bytes: int, now: datetime) -> Upload:
        """A new upload, open. Raises FileTooLarge, TooManyRequests."""
        if size_bytes > most_bytes:
            message = f"The file has {size_bytes} bytes, and at most {most_bytes} are taken."
            raise FileTooLarge(message, details={"size_bytes": size_bytes, "max_bytes": most_bytes})
        if self.most_open:
            self._enlist(upload_id, now=now)
        upload = Upload(
            upload_id=upload_id,
            filename=filename,
            size_bytes=size_bytes,
            part_size_bytes=part_size_bytes(size_bytes),
            transfer=self.store.begin(upload_id),
            created_at=now,
            expires_at=now + min(self.ttl, KEPT_AT_MOST),
            key_name=self.caller.name,
        )
        try:
            self.records.create(_written(upload))
        except BaseException:  # nobody would ever come for it
            self.store.delete(upload_id, upload.transfer)
            raise
        return upload

    def get(self, upload_id: str, *, now: datetime) -> Upload:
        """Raises UploadNotFound, also for another's and for one whose time is over."""
        return self._find(upload_id, now=now)[1]

    def missing(self, upload: Upload) -> tuple[int, ...]:
        """The numbers of the parts that are still to come."""
        if upload.status is UploadStatus.COMPLETE:
            return ()
        received = self.store.received(upload.upload_id, upload.transfer) or {}
        return upload.missing({number: part.size_bytes for number, part in received.items()})

    def complete(self, upload_id: str, *, now: datetime) -> Upload:
        """The upload, whole from here on. Raises UploadNotFound, UploadIncomplete."""
        for _ in range(_ROUNDS):
            record, upload = self._find(upload_id, now=now)
            if upload.status is UploadStatus.COMPLETE:
                return upload
            if not self._finished(upload):
                continue
            done = replace(upload, status=UploadStatus.COMPLETE, expires_at=self._later(upload, now=now))
            try:
                self.records.replace(_written(done), record)
            except RecordChanged:  # by another request to complete it, or to delete it
                continue
            return done
        raise UploadNotFound(details={"upload_id": upload_id})  # its bytes are gone, whatever the record says

    def delete(self, upload_id: str, *, now: datetime) -> None:
        """Raises UploadNotFound."""
        for _ in range(_ROUNDS):
            record, _ = self._find(upload_id, now=now)
            try:
                _drop(self.records, self.store, record, now=now)
            except RecordChanged:
                continue
            return
        raise InternalError("The upload changed too often.", details={"upload_id": upload_id})

    def fault(self, upload_id: str, *, now: datetime) -> str | None:
        """Why it cannot be an input, as the end of a sentence that begins with the upload; None when it can."""
        try:
            upload = self.get(upload_id, now=now)
        except UploadNotFound:
            return "is not there: it has expired, was deleted, or is another's; upload the file again."
        if upload.status is UploadStatus.COMPLETE:
            return None
        return f"is not complete: send the parts that are missing, then POST /ffmpeg/uploads/{upload_id}/complete."

    def hold(self, upload_id: str, *, task_id: str, field: str, now: datetime) -> None:
        """Keep it for the task, and for `ttl` from now. Raises InvalidArgument when it cannot be an input."""
        for _ in range(_ROUNDS):
            fault = self.fault(upload_id, now=now)
            if fault:
                raise InvalidArgument(f"The upload of {field} {fault}", details={"field": field})
            try:
                record, upload = self._find(upload_id, now=now)
                task_ids = (*upload.task_ids, task_id)[-MOST_TASKS:]
                held = replace(upload, task_ids=task_ids, expires_at=self._later(upload, now=now))
                self.records.replace(_written(held), record)
            except (RecordChanged, UploadNotFound):
                continue
            return
        raise InternalError("The upload changed too often.", details={"upload_id": upload_id})

    def _enlist(self, upload_id: str, *, now: datetime) -> None:
        def is_open(other: str, since: datetime) -> bool:
            record = self.records.find(KIND, other)
            if record is None:
                return now - since < BEING_BEGUN
            upload = loads(record.body)
            return upload.status is UploadStatus.OPEN and upload.expires_at > now

        records, name, most = self.records, self.caller.name, self.most_open
        open_uploads.enlist(records, name, upload_id, most=most, is_open=is_open, now=now)

    def _find(self, upload_id: str, *, now: datetime) -> tuple[Record, Upload]:
        record = self.records.find(KIND, upload_id)
        if record:
            upload = loads(record.body)
            gone = upload.status is UploadStatus.DELETED or upload.expires_at <= now
            if not gone and self.caller.sees(upload):
                return record, upload
        raise UploadNotFound(details={"upload_id": upload_id})

    def _later(self, upload: Upload, *, now: datetime) -> datetime:
        return min(now + self.ttl, upload.created_at + KEPT_AT_MOST)

    def _finished(self, upload: Upload) -> bool:
        """Whether the store has it whole. Raises UploadIncomplete."""
        received = self.store.received(upload.upload_id, upload.transfer)
        if received is None:  # another request has finished it, or deleted it
            return self.store.size(upload.upload_id) == upload.size_bytes
        missing = upload.missing({number: part.size_bytes for number, part in received.items()})
        if missing:
            details = {"upload_id": upload.upload_id, "missing_parts": list(missing)}
            raise UploadIncomplete(
                f"{len(missing)} of {len(upload.parts)} parts are missing or not whole: send those in "
                "details.missing_parts, then complete it again.",
                details=details,
            )
        return self.store.finish(upload.upload_id, upload.transfer, received)


def sweep(services: Services, *, now: datetime, limit: int = 100, stopped: Callable[[], bool] = lambda: False) -> int:
    """Attend to the uploads whose time is over, at most `limit`, the longest over first; returns how many moved."""
    if services.uploads is None:
        return 0
    moved = 0
    for record in services.records.due(KIND, now, limit=limit):
        if stopped():
            break
        try:
            _attend(services, services.uploads, record, now=now)
            moved += 1
        except RecordChanged:  # by somebody else
            moved += 1
        except Exception:
            log.exception("not attended to", extra={"action": "upload_sweep_failed", "upload_id": record.record_id})
    return moved


def _attend(services: Services, store: UploadStore, record: Record, *, now: datetime) -> None:
    upload, records = loads(record.body), services.records
    if upload.status is UploadStatus.DELETED:
        store.delete(record.record_id, upload.transfer)
        records.delete(record)
    elif any(_is_live(services, task_id) for task_id in upload.task_ids):
        records.replace(replace(record, due_at=now + LOOK_AGAIN), record)
    else:
        log.info("upload", extra={"action": "upload_expired", "upload_id": record.record_id})
        _drop(records, store, record, now=now)


def _is_live(services: Services, task_id: str) -> bool:
    """Whether the task is, or the batch that has that id."""
    try:
        return services.store.get(task_id).status.live
    except TaskNotFound:
        with suppress(BatchNotFound):
            return get_batch(services, task_id).finished_at is None
    return False


def _drop(records: RecordStore, store: UploadStore, record: Record, *, now: datetime) -> None:
    upload = replace(loads(record.body), status=UploadStatus.DELETED)
    records.replace(replace(_written(upload), due_at=now + CLEAR_AGAIN), record)
    store.delete(upload.upload_id, upload.transfer)


def _written(upload: Upload) -> Record:
    return Record(
        kind=KIND,
        record_id=upload.upload_id,
        body=dumps(upload),
        created_at=upload.created_at,
        due_at=upload.expires_at,
    )
