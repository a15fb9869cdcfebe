"""Register a batch: check all of its tasks, then store one list of them and one record, and ask for the workers.

What all tasks have in common is judged once, as register judges a task with gaps in its names; of each file there is
its URL to judge, and what its name makes of the others. The idempotency key becomes the batch's id, as in register.
"""

import hashlib
import json
import logging
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid5

from core import batch_uploads, urls
from core.batch import MOST_TASKS, NAME, STEM, URL, Batch, Source, batch_id_of, filled, per_slice, with_name
from core.batches import create_batch, get_batch, read_files
from core.errors import BatchNotFound, IdempotencyConflict, InvalidArgument, RecordChanged
from core.ffmpeg import names, validate
from core.moves import SUBMIT_GRACE
from core.ports import InputUnreadable, Services
from core.register import Registration, fingerprint_of, id_of, judged
from core.settings import Settings
from core.submit import submit_batch
from core.task import Task
from core.uploads import Uploads

if TYPE_CHECKING:
    from core.presets import Own

log = logging.getLogger(__name__)

MOST_FAULTS = 20  # that are told of
_PREFIX = re.compile("s3://[^/]+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWanted:
    """What a caller asks for. The files come from one of `sources`, `folder` and `prefix`.

    The registration is as for one task, with NAME and STEM in command and outputs; its input_files are those that all
    tasks have besides.
    """

    registration: Registration
    sources: tuple[Source, ...] | None = None
    folder: str | None = None  # an absolute path
    prefix: str | None = None  # s3://bucket/prefix
    concurrency: int | None = None
    delete_inputs: bool = False

    @property
    def field(self) -> str:
        """What the request calls the place that the files come from."""
        if self.sources is not None:
            return "inputs"
        return "input_prefix" if self.folder is None else "input_folder"


class RegisteredBatch(NamedTuple):
    batch: Batch
    again: bool  # whether the same request had registered it before
    sources: Sequence[Source]


class _Fault(NamedTuple):
    place: int  # among the files, from 0
    file: str
    error: InvalidArgument


def register_batch(
    services: Services,
    wanted: BatchWanted,
    *,
    settings: Settings,
    batch_id: str,
    correlation_id: str,
    now: datetime,
    idempotency_key: str | None = None,
    key_name: str | None = None,
    most_live: int = 0,
    uploads: Uploads | None = None,
    own_presets: "Own" = None,
) -> RegisteredBatch:
    """The batch, stored and handed over if the dispatcher takes it now; else the sweep hands it over.

    `batch_id` is any UUID; `most_live` is how many tasks of the key may be live at once, 0 for any number; `uploads`
    are those that may be inputs, and are kept for the batch.
    Raises InvalidArgument, CommandNotAllowed, UrlNotAllowed or IdempotencyConflict, and then stores nothing.
    """
    manifest, fingerprint = f"{batch_id}.jsonl.gz", None
    if idempotency_key is not None:
        batch_id, fingerprint = _id_of(idempotency_key, key_name), _fingerprint(wanted)
        try:
            return _same(services, get_batch(services, batch_id_of(batch_id)), fingerprint)
        except BatchNotFound:
            pass
    policy = replace(settings.url_policy, uploads=uploads is not None)
    common, given = wanted.registration.input_files, _sources(services, wanted, policy)
    sources, unusable = batch_uploads.look_up(uploads, given, common=common, now=now)
    template = judged(
        _with_gaps(wanted.registration, policy),
        settings=settings,
        own_presets=own_presets or settings.presets_folder,
        task_id=batch_id_of(batch_id),
        correlation_id=correlation_id,
        now=now,
    )
    _check(template, sources, policy, unusable, field=wanted.field)
    batch_uploads.hold(uploads, sources, common=common, batch_id=template.task_id, now=now)
    concurrency = min(filter(None, (wanted.concurrency, most_live)), default=None)
    workers = settings.max_concurrent_tasks if settings.backend == "local" else None
    batch = Batch(
        batch_id=batch_id_of(batch_id),
        template=replace(template, key_name=key_name),
        count=len(sources),
        per_slice=per_slice(sources, workers=workers, concurrency=concurrency),
        created_at=now,
        correlation_id=correlation_id,
        concurrency=concurrency,
        delete_inputs=wanted.delete_inputs,
        key_name=key_name,
        fingerprint=fingerprint,
        manifest=manifest,
        dispatch_due_at=now + SUBMIT_GRACE,
    )
    try:
        stored = create_batch(services, batch, sources)
    except RecordChanged:
        if fingerprint is None:
            raise
        return _same(services, get_batch(services, batch.batch_id), fingerprint)  # by the same request, just now
    return RegisteredBatch(submit_batch(services, stored, now=now), again=False, sources=sources)


def _id_of(key: str, key_name: str | None) -> str:
    """Not that of the task with the same key, which would be among those of the batch's own tasks."""
    return str(uuid5(UUID(id_of(key, key_name)), "batch"))


def _same(services: Services, batch: Batch, fingerprint: str | None) -> RegisteredBatch:
    if batch.fingerprint != fingerprint:
        raise IdempotencyConflict(details={"batch_id": batch.batch_id})
    return RegisteredBatch(batch, again=True, sources=read_files(services, batch))


def _fingerprint(wanted: BatchWanted) -> str:
    given = (
        fingerprint_of(wanted.registration),
        wanted.sources,
        wanted.folder,
        wanted.prefix,
        wanted.concurrency,
        wanted.delete_inputs,
    )
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()


def _with_gaps(common: Registration, policy: urls.Policy) -> Registration:
    if NAME in common.input_files:
        raise _refusal("input_files", f"{NAME} is each file itself: leave it out of input_files.")
    for name, url in common.input_files.items():
        urls.check(url, field=f"input_files.{name}", policy=policy)
        if with_name(url, "") != url:
            message = (
                f"The URL of {name} is the same for all tasks: {NAME} and {STEM} stand in names and in the command."
            )
            raise _refusal(f"input_files.{name}", message)
    return replace(common, input_files={NAME: URL, **common.input_files})


def _sources(services: Services, wanted: BatchWanted, policy: urls.Policy) -> Sequence[Source]:
    if sum(way is not None for way in (wanted.sources, wanted.folder, wanted.prefix)) != 1:
        raise _refusal("inputs", "Give exactly one of inputs, input_folder and input_prefix.")
    if wanted.sources is not None:
        if wanted.delete_inputs:
            message = "delete_inputs is for the files of an input_folder or an input_prefix: leave it out."
            raise _refusal("delete_inputs", message)
        return _of_a_number(wanted.sources, wanted.field)
    try:
        return _of_a_number(_listed(services, wanted, policy), wanted.field)
    except InputUnreadable as error:
        raise _refusal(wanted.field, f"The {wanted.field} {error}") from error


def _listed(services: Services, wanted: BatchWanted, policy: urls.Policy) -> Sequence[Source]:
    most = MOST_TASKS + 1
    if wanted.folder is not None:
        if services.folders is None:
            raise InputUnreadable("is for one machine: on AWS, give an input_prefix.", retryable=False)
        return services.folders.list(wanted.folder, limit=most)
    if not _PREFIX.match(wanted.prefix or ""):
        raise InputUnreadable("must have the form s3://bucket/prefix, or s3://bucket/ for all of it.", retryable=False)
    place = urls.check(f"{wanted.prefix}x", field="input_prefix", policy=policy)
    if services.inputs is None or not isinstance(place, urls.Object):
        raise InputUnreadable("is for AWS: on one machine, give an input_folder.", retryable=False)
    return services.inputs.list(place.bucket, place.key[:-1], limit=most)


def _of_a_number(sources: Sequence[Source], field: str) -> Sequence[Source]:
    if not sources:
        raise _refusal(field, f"There are no files in {field}: a batch is of at least one.")
    if len(sources) > MOST_TASKS:
        raise _refusal(field, f"There are more than {MOST_TASKS} files in {field}: make several batches of them.")
    return sources


def _check(
    template: Task, sources: Sequence[Source], policy: urls.Policy, unusable: Mapping[int, str], *, field: str
) -> None:
    """Raises what is wrong with the first that is (UrlNotAllowed, InvalidArgument), with the others in its details."""
    faults = list(_faults(template, sources, policy, unusable))
    if not faults:
        return
    first = faults[0]
    message = f"{len(faults)} of {len(sources)} files cannot be taken. The first, {first.file}: {first.error.message}"
    told = [{"index": fault.place, "file": fault.file, "reason": fault.error.message} for fault in faults[:MOST_FAULTS]]
    raise type(first.error)(message, details={"field": field, "count": len(faults), "files": told})


def _faults(
    template: Task, sources: Sequence[Source], policy: urls.Policy, unusable: Mapping[int, str]
) -> Iterator[_Fault]:
    declared = (*template.input_files, *template.output_files)
    elsewhere = any(NAME in word or STEM in word for word in shlex.split(template.command) if word not in declared)
    first_at: dict[str, int] = {}
    for index, source in enumerate(sources):
        name = source.name
        try:
            if (before := first_at.setdefault(source.url, index)) != index:
                raise InvalidArgument(f"Its URL is in the list before, at index {before}: give each once.")
            urls.check(source.url, field=name, policy=policy)
            if index in unusable:
                raise InvalidArgument(f"The upload {unusable[index]}")
            made = [with_name(one, name) for one in declared]
            if len(max(made, key=len)) > names.MAX_CHARACTERS or not names.PLAIN.fullmatch(name):
                _check_whole(template, source, also_command=elsewhere)
            if len({one.casefold() for one in made}) < len(made):
                raise InvalidArgument("Two files of its task would have the same name.")
        except InvalidArgument as error:
            yield _Fault(index, name, error)


def _check_whole(template: Task, source: Source, *, also_command: bool) -> None:
    """For names that are long or have other characters than plain ones."""
    task = filled(template, source)
    if also_command:  # where such a name might mean something
        validate.check(task.command, input_names=task.input_files, output_names=task.output_files)
        return
    roles: tuple[tuple[names.Role, Collection[str]], ...] = (("input", task.input_files), ("output", task.output_files))
    for role, declared in roles:
        for name in declared:
            if fault := names.fault(name, role):
                raise InvalidArgument(f"The {role} name {name[: names.MAX_CHARACTERS]!r} {fault}")


def _refusal(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, details={"field": field})
