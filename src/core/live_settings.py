"""Settings that an admin changes while the service runs: which they are, what they may be, and what holds now.

What is stored goes before what the environment says, one by one; what is not stored is the environment's. One record
has all of them and is written as a whole, over the version that was read, so that of two changes at once none is half
done. Every process reads it anew when what it knows is FRESH old: it needs no other news of a change.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from core.errors import InternalError, InvalidArgument, RecordChanged, ServiceError, SettingsChanged
from core.ports import Record, RecordStore
from core.settings import Settings

if TYPE_CHECKING:
    from core.presets import Own

log = logging.getLogger(__name__)

FRESH = timedelta(seconds=5)
ROUNDS = 10
KIND, RECORD_ID = "settings", "live"
# Each with the type that a value has in JSON.
NAMES: Mapping[str, type] = {
    "default_preset": str,
    "default_quality": str,
    "result_ttl_hours": int,
    "max_concurrent_tasks": int,
}
ON_AWS_AT_MOST = (
    "result_ttl_hours can be from 1 to {most} on AWS: the bucket's own rule deletes outputs soon after that, and goes "
    "by the template's parameter ResultTtlDays; raise that first."
)
_KINDS = {str: "text", int: "a whole number"}
NOT_ON_AWS = (
    "max_concurrent_tasks is for one machine: on AWS the vCPUs of the template's parameters GpuVcpus and CpuVcpus "
    "bound how many tasks run at once."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What was set, by name; in version 0 nothing ever was."""

    values: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    changed_at: datetime | None = None
    changed_by: str | None = None  # the name of the key, where there is sign-in


def applied(settings: Settings, stored: Stored) -> Settings:
    """The settings as they hold: those that are stored, as far as they still may be, and else the environment's."""
    holds = settings
    for name, value in stored.values.items():
        if settings.backend != "aws" or not _fault_on_aws(name, value, settings):
            holds = holds.with_one(name, str(value))
    return holds


def judged(given: Mapping[str, object], settings: Settings, own_presets: "Own" = None) -> Mapping[str, Any]:
    """What is to be stored of what is given; null is the environment's. Raises InvalidArgument with every fault."""
    values = {name: value for name, value in given.items() if value is not None}
    own = own_presets or settings.presets_folder
    found = ((name, _fault(name, value, settings, own)) for name, value in values.items())
    faults = [{"field": name, "message": fault} for name, fault in found if fault]
    if faults:
        raise InvalidArgument(faults[0]["message"], details={"field": faults[0]["field"], "errors": faults})
    return values


def _fault(name: str, value: object, settings: Settings, own_presets: "Own") -> str | None:
    if name not in NAMES:
        return f"{name} is not among what can be set: {', '.join(NAMES)}."
    if type(value) is not NAMES[name]:
        return f"{name} must be {_KINDS[NAMES[name]]}."
    if settings.backend == "aws" and (fault := _fault_on_aws(name, value, settings)):
        return fault
    try:
        settings.with_one(name, str(value))
        if name == "default_preset":
            from core import presets  # only here: it takes its time to be imported

            presets.find(str(value), own_presets)
    except ValueError as fault:
        return f"{name} {fault}."
    except InvalidArgument as unknown:
        return unknown.message
    return None


def _fault_on_aws(name: str, value: Any, settings: Settings) -> str | None:
    if name == "max_concurrent_tasks":
        return NOT_ON_AWS
    most = settings.result_ttl_hours
    if name == "result_ttl_hours" and most and (value > most or value == 0):
        return ON_AWS_AT_MOST.format(most=most)
    return None


class LiveSettings:
    """The settings of a process, `settings` being its environment's."""

    def __init__(self, records: RecordStore, settings: Settings, own_presets: "Own" = None) -> None:
        self._records = records
        self._own_presets = own_presets
        self._settings = settings
        self._known = Stored()
        self._read_at: datetime | None = None

    def current(self, *, now: datetime) -> Settings:
        """What holds now, or FRESH ago. Raises as the store does, unless something was read before."""
        if self._read_at is None or now - self._read_at >= FRESH:
            try:
                self._note(_stored(self._record()), now=now)
            except ServiceError as error:
                if self._read_at is None:
                    raise
                log.warning("the settings as they were", extra={"action": "settings_stale"}, exc_info=error)
        return applied(self._settings, self._known)

    def stored(self, *, now: datetime) -> Stored:
        """What is stored at this moment."""
        self._note(_stored(self._record()), now=now)
        return self._known

    def put(
        self, given: Mapping[str, object], *, now: datetime, changed_by: str | None, expected: int | None = None
    ) -> Stored:
        """Store these, and nothing else, in the place of what is stored; `expected` is the version that it must have.

        Raises InvalidArgument and SettingsChanged, and then nothing is stored.
        """
        values = judged(given, self._settings, self._own_presets)
        body = json.dumps({"values": values, "changed_at": now.isoformat(), "changed_by": changed_by})
        for _ in range(ROUNDS):
            found = self._record()
            version = found.version if found else 0
            if expected not in (None, version):
                raise SettingsChanged(details={"version": version})
            try:
                self._note(_stored(self._write(body, found, now=now)), now=now)
                return self._known
            except RecordChanged:
                continue
        raise InternalError("The settings changed too often to be set.")

    def _record(self) -> Record | None:
        return self._records.find(KIND, RECORD_ID)

    def _write(self, body: str, found: Record | None, *, now: datetime) -> Record:
        created_at = found.created_at if found else now
        record = Record(kind=KIND, record_id=RECORD_ID, body=body, created_at=created_at)
        return self._records.replace(record, found) if found else self._records.create(record)

    def _note(self, stored: Stored, *, now: datetime) -> None:
        if stored.version >= self._known.version:  # another thread may have read, or written, something newer
            self._known = stored
        self._read_at = now


def _stored(record: Record | None) -> Stored:
    """What a record says, as far as this version knows it."""
    if record is None:
        return Stored()
    data = json.loads(record.body)
    return Stored(
        values={name: value for name, value in data["values"].items() if name in NAMES},
        version=record.version,
        changed_at=datetime.fromisoformat(data["changed_at"]),
        changed_by=data["changed_by"],
    )
