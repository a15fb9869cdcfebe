"""One task, from claim to its end: fetch -> probe -> run -> upload, in that order, readable top to bottom.

Each step either gives what the next one needs or raises TaskFailed, which becomes the task's error. Whatever happens,
the task's folder is gone afterwards. A task that is not ours to work on is left alone.
"""

import contextlib
import hashlib
import logging
import os
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from threading import Event

from core import destination, moves, urls, workers
from core.errors import (
    InvalidArgument,
    ServiceError,
    TaskChanged,
    TaskEnded,
    TaskNotFound,
    TaskNotReady,
)
from core.ffmpeg import build, compute, failure, fallback, probe, progress
from core.ffmpeg.command import Command
from core.ports import InputUnreadable, Services
from core.settings import Settings
from core.task import Failure, FailureCode, Media, Output, Progress, Stage, Status, Task, Timings
from core.worker import (
    collect,
    fetch,
    fetch_object,
    planned,
    presence,
    process,
    sandbox,
    scratch,
    transcode,
    upload,
)
from core.worker.failed import Stopped, TaskFailed, raise_worst
from core.worker.journal import Journal
from core.worker.report import Reporter
from core.worker.sandbox import Folder

log = logging.getLogger(__name__)

CLAIM_ATTEMPTS = 5
# What a task shows of its outputs; all are stored. A row of DynamoDB holds 400 KB, of which a request may take 256.
MAX_LISTED_OUTPUTS = 400
MAX_DESCRIBED_OUTPUTS = 100
PARALLEL_DOWNLOADS = 8
LOG_TYPE = "text/plain; charset=utf-8"


class Outcome(Enum):
    RECORDED = "recorded"  # the task has ended and says how, or will be tried again later
    NOT_OURS = "not_ours"  # it has ended, is unknown, or another worker's: nothing is left to do for us
    GIVEN_UP = "given_up"  # we were told to stop; the task waits for another worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker process brings to its task. `prober` is already running, `stop` is set when it must end."""

    services: Services
    settings: Settings
    ffmpeg: str
    prober: process.Conversation
    layers: sandbox.Layers
    stop: Event
    now: Callable[[], datetime]
    job_id: str | None = None  # what the dispatcher calls us
    cards: tuple[str, ...] = ()  # the models of this machine's GPUs
    report_every_seconds: float = 2.0
    measure: Callable[[], workers.Usage] | None = None  # what it uses, for others to see; None: they do not see it


def run(worker: Worker, task_id: str) -> Outcome:
    """Work on the task until it has ended, or somebody else must. Raises only when the store cannot be reached."""
    if worker.stop.is_set():  # before there was anything to give back; a claim would be one of three
        return Outcome.GIVEN_UP
    try:
        task = claimed(worker, task_id)
    except (TaskEnded, TaskNotReady, TaskNotFound) as refusal:
        log.info("not ours", extra={"action": "claim_refused", "reason": refusal.code})
        return Outcome.NOT_OURS
    return work(worker, task)


def work(worker: Worker, task: Task) -> Outcome:
    """The same for a task that is claimed."""
    log.info("claimed", extra={"action": "claimed", "fence": task.fence})
    with _shown(worker, task), _reporter(worker, task) as reporter:
        outcome = _outcome(worker, task, reporter)
        try:
            settled = _settled(worker, reporter, outcome)
        except Stopped:
            settled = None
    log.info("settled", extra={"action": settled.status.value if settled else "given_up"})
    if settled is None or settled.status is not Status.COMPLETED:
        _discard(worker, task)
    if settled is None:
        return Outcome.NOT_OURS
    if settled.status is Status.COMPLETED and settled.delete_input:
        _delete_input(worker, settled.input_files.get(settled.delete_input, ""))
    return Outcome.GIVEN_UP if outcome is None else Outcome.RECORDED


def claimed(worker: Worker, task_id: str) -> Task:
    """The task, held by us. Raises TaskEnded, TaskNotReady or TaskNotFound when it is not to be had."""
    for _ in range(CLAIM_ATTEMPTS):
        task = worker.services.store.get(task_id)
        with contextlib.suppress(TaskChanged):
            return worker.services.store.replace(claim(worker, task), task)
    raise TaskNotReady("The task changes too fast to be claimed.")


def _shown(worker: Worker, task: Task) -> contextlib.AbstractContextManager[None]:
    if worker.measure is None:
        return contextlib.nullcontext()
    host, now = socket.gethostname(), worker.now()
    us = workers.Worker(
        task_id=task.task_id, fence=task.fence, host=host, started_at=now, seen_at=now, usage=workers.Usage()
    )
    return presence.shown(worker.services.records, us, measure=worker.measure, now=worker.now)


def claim(worker: Worker, task: Task) -> Task:
    owner = f"{socket.gethostname()}:{os.getpid()}"
    return moves.claim(task, now=worker.now(), owner=owner, job_id=worker.job_id)


def _reporter(worker: Worker, task: Task) -> Reporter:
    store, every = worker.services.store, worker.report_every_seconds
    return Reporter(store, task, stop=worker.stop, now=worker.now, every_seconds=every)


def _outcome(worker: Worker, task: Task, reporter: Reporter) -> tuple[Output, ...] | Failure | None:
    """The stored outputs, or why there are none; None when the worker was told to stop."""
    journal = Journal()
    try:
        with _folder(worker, task) as folder:
            try:
                return _transcoded(worker, task, folder, reporter, journal)
            finally:
                _keep(worker, task, folder, journal)
    except TaskFailed as failed:
        return failed.failure
    except Stopped:
        return None
    except Exception:
        log.exception("unexpected", extra={"action": "internal_error"})
        return Failure.of(FailureCode.INTERNAL_ERROR, "Something went wrong on our side; the worker's log has it.")


def _settled(worker: Worker, reporter: Reporter, outcome: tuple[Output, ...] | Failure | None) -> Task:
    """The task as it leaves us. Raises Stopped when it is no longer ours to say."""
    first = timedelta(seconds=worker.settings.retry_delay_seconds)

    def leave(task: Task, timings: Timings) -> Task:
        now, fence = worker.now(), reporter.fence
        if outcome is None:
            return moves.release(task, now=now, fence=fence)
        if isinstance(outcome, Failure):
            retry_after = moves.backoff(fence, first=first, chance=random.random())  # noqa: S311 - a pause, no secret
            return moves.fail(task, now=now, fence=fence, error=outcome, timings=timings, retry_after=retry_after)
        listed, count = _listed(outcome), len(outcome)
        return moves.complete(task, now=now, fence=fence, outputs=listed, output_count=count, timings=timings)

    return reporter.settle(leave)


def _keep(worker: Worker, task: Task, folder: Folder, journal: Journal) -> None:
    """Store the log, if there is one; that it cannot be stored is no reason for the task to fail."""
    content = journal.text().encode(errors="replace")
    if not content or worker.stop.is_set():
        return
    path, key = folder.root / "log", worker.services.log_key(task, task.fence)
    sha256 = hashlib.sha256(content).hexdigest()

    def on_piece() -> None:
        if worker.stop.is_set():
            raise Stopped

    try:
        path.write_bytes(content)
        worker.services.objects.put_file(key, path, sha256=sha256, content_type=LOG_TYPE, on_piece=on_piece)
    except (OSError, ServiceError, Stopped) as error:
        log.warning("the log could not be kept", extra={"action": "log_not_kept", "reason": type(error).__name__})


def _discard(worker: Worker, task: Task) -> None:
    """Delete what we may have stored; what we cannot is left to the sweep."""
    with contextlib.suppress(ServiceError):
        worker.services.objects_of(task).delete(f"{worker.services.folder(task)}/{task.fence}")


def _delete_input(worker: Worker, url: str) -> None:
    """Best effort: the task has ended, and one that is left behind does no harm."""
    services = worker.services
    try:
        place = urls.check(url, field="the input", policy=worker.settings.url_policy)
        if isinstance(place, urls.File) and services.folders:
            services.folders.delete(place.path)
        if isinstance(place, urls.Object) and services.inputs:
            services.inputs.delete(place.bucket, place.key)
    except (InputUnreadable, ServiceError) as error:
        log.warning("the input was not deleted", extra={"action": "input_not_deleted", "reason": str(error)})


def _listed(outputs: tuple[Output, ...]) -> tuple[Output, ...]:
    bare = (replace(output, media=None) for output in outputs[MAX_DESCRIBED_OUTPUTS:MAX_LISTED_OUTPUTS])
    return (*outputs[:MAX_DESCRIBED_OUTPUTS], *bare)


@contextlib.contextmanager
def _folder(worker: Worker, task: Task) -> Iterator[Folder]:
    place = worker.settings.scratch.absolute()
    scratch.clear(place)
    folder = Folder(place / f"{task.task_id}.{task.fence}")
    with (
        scratch.held(place, lambda: sandbox.make(folder, worker.layers)),
        # It stands in the folder, and must not see it go.
        collect.released(worker.prober),
    ):
        yield folder


def _transcoded(worker: Worker, task: Task, folder: Folder, reporter: Reporter, journal: Journal) -> tuple[Output, ...]:
    _check_destination(worker, task)
    command = planned.known(task)
    refusal = _refusal(worker, task, command)  # before anything is fetched
    examine = collect.examiner(worker.prober, folder.root, sandbox.for_prober(worker.layers, folder))
    local_names = _download(worker, task, folder)
    media = {name: _examined(folder.inputs / local, name, examine) for name, local in local_names.items()}
    reporter.enter(Stage.TRANSCODING)
    known = {name: facts for name, facts in media.items() if facts}
    wanted = transcode.Transcode(
        command=command,
        inputs=local_names,
        media=known,
        folder=folder,
        ffmpeg=worker.ffmpeg,
        layers=worker.layers,
        settings=worker.settings,
        timeout_seconds=task.timeout_seconds,
    )
    wanted, runs = _made(wanted, task, worker, reporter, journal)
    if refusal:
        wanted = replace(wanted, command=_cpu_form(wanted.command, reporter, journal, why=refusal))
    _run(wanted, worker, task, reporter, journal, runs=runs)
    planned.write_beside(task, folder.outputs, known, examine)
    reporter.enter(Stage.UPLOADING)
    files = collect.collect(folder.outputs, task.output_files, examine=examine)
    prefix = f"{worker.services.folder(task)}/{task.fence}"
    return upload.upload(worker.services.objects_of(task), files, prefix=prefix, stop=worker.stop)


def _check_destination(worker: Worker, task: Task) -> None:
    """Raise TaskFailed, before there is any work in it, when the outputs may not go where they are to any more."""
    try:
        destination.check(task.destination, worker.settings.destinations)
    except InvalidArgument as refusal:
        message = f"The outputs cannot be stored: {refusal.message}"
        raise TaskFailed.of(FailureCode.UPLOAD_FAILED, message, retryable=False, details=refusal.details) from refusal


def _refusal(worker: Worker, task: Task, command: Command) -> str | None:
    """Why it is known beforehand that the CPU form will be needed; None when it is not. Raises TaskFailed."""
    refusal = compute.refusal(command, worker.cards if task.compute == "gpu" else ())
    if refusal is None or task.gpu_fallback:
        return refusal
    # On one machine it will be no other at the next try.
    retryable = False if worker.settings.backend == "local" else None
    raise TaskFailed.of(
        FailureCode.GPU_UNAVAILABLE,
        f"{refusal} Use libx264, libx265 or libsvtav1, or allow gpu_fallback.",
        retryable=retryable,
    )


def _made(
    wanted: transcode.Transcode, task: Task, worker: Worker, reporter: Reporter, journal: Journal
) -> tuple[transcode.Transcode, int]:
    """The transcode with the command that the task's recipe becomes, if it has one; and how many runs that makes."""
    if task.recipe is None:
        return wanted, 1
    planned.refuse_unfit(task, task.recipe, wanted.media)
    said, runs = None, 1
    if measuring := planned.measuring(task, task.recipe):
        first = replace(wanted, command=measuring, log_level="info")
        runs = 2
        follow = _followed(reporter, 0, runs)
        said = transcode.run(first, on_progress=follow, journal=journal, stop=worker.stop)
        sandbox.clear(wanted.folder)
    command = planned.made(task, task.recipe, wanted.media, said)
    if command.text != task.command:
        reporter.made(command.text)
    return replace(wanted, command=command), runs


def _followed(reporter: Reporter, index: int, of: int) -> Callable[[Progress], None]:
    return lambda news: reporter.progressed(progress.part(news, index, of))


def _cpu_form(command: Command, reporter: Reporter, journal: Journal, *, why: str) -> Command:
    try:
        form = fallback.to_cpu(command)
    except fallback.NoCpuForm as reason:  # register has seen to it; a stored row is input too
        raise TaskFailed.of(FailureCode.GPU_UNAVAILABLE, f"{why} {reason}", retryable=False) from reason
    log.warning("on the CPU instead", extra={"action": "gpu_fallback", "reason": why})
    reporter.note(f"Ran on the CPU, as {form.text} - {why}")
    journal.add(f"On the CPU, because: {why}")
    return form


def _run(
    wanted: transcode.Transcode, worker: Worker, task: Task, reporter: Reporter, journal: Journal, *, runs: int
) -> None:
    """Transcode; once more in the CPU form when the card refuses and the caller allows it."""
    follow = _followed(reporter, runs - 1, runs)
    try:
        transcode.run(wanted, on_progress=follow, journal=journal, stop=worker.stop)
    except TaskFailed as failed:
        asked = task.gpu_fallback and compute.needs(wanted.command) == "gpu"
        if not asked or not failure.is_refused_by_gpu(failed.failure):
            raise
        form = _cpu_form(wanted.command, reporter, journal, why=failed.failure.message)
        sandbox.clear(wanted.folder)
        again = replace(wanted, command=form)
        transcode.run(again, on_progress=follow, journal=journal, stop=worker.stop)


def _download(worker: Worker, task: Task, folder: Folder) -> dict[str, str]:
    """All inputs at once; gives each one's name in the inputs folder. The first to fail ends the others."""
    limits = fetch.Limits(max_bytes=worker.settings.max_input_bytes)
    local_names = {name: build.local_name(index, name) for index, name in enumerate(task.input_files)}
    failed = Event()
    policy = worker.settings.url_policy
    with (
        fetch.Client(limits, policy) as http,
        ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix="fetch") as pool,
    ):

        def download(name: str) -> None:
            source = fetch.Source(name=name, url=task.input_files[name])
            path = folder.inputs / local_names[name]
            try:
                _fetched(worker, http, source, path, stopped=lambda: failed.is_set() or worker.stop.is_set())
            except BaseException:
                failed.set()
                raise

        errors = [future.exception() for future in [pool.submit(download, name) for name in local_names]]
    raise_worst(errors)
    return local_names


def _fetched(
    worker: Worker, http: fetch.Client, source: fetch.Source, path: Path, *, stopped: Callable[[], bool]
) -> None:
    services, policy, most = worker.services, worker.settings.url_policy, worker.settings.max_input_bytes
    if source.url.startswith(fetch_object.SCHEMES):
        places = fetch_object.Places(services.inputs, services.folders, services.uploads)
        fetch_object.fetch_object(places, source, path, policy=policy, max_bytes=most, stopped=stopped)
    else:
        fetch.fetch(http, source, path, stopped=stopped)
    sandbox.show(path, worker.layers)


def _examined(path: Path, name: str, examine: collect.Examine) -> Media | None:
    """What the input holds; None when the prober cannot tell, and ffmpeg, which reads more, is to decide."""
    if path.stat().st_size == 0:
        raise _invalid(name, "is empty (0 bytes).")
    probed = examine(path, name)
    if probed.media is None:
        with path.open("rb") as file:
            looks = probe.what_it_looks_like(file.read(512))
        if looks:
            raise _invalid(name, f"is not media: the source sent {looks}.")
    return probed.media


def _invalid(name: str, what: str) -> TaskFailed:
    return TaskFailed.of(FailureCode.MEDIA_INVALID, f"The input {name} {what}", details={"input": name})
