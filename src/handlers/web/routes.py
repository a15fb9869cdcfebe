"""The operations, each from a request to a verb of core and back. What they promise in words is in docs.py.

Answers are written by pydantic straight into the response: FastAPI would validate its own output once more.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from core import health
from core.batches import get_batch
from core.cancel import cancel
from core.delete import delete
from core.errors import TaskNotFound, UnsupportedMediaType
from core.execute import execute
from core.find import find_task
from core.live_settings import LiveSettings
from core.load import Machine
from core.notify import notify
from core.ports import Services
from core.preview import preview
from core.read_log import read_log
from core.register import MAX_KEY_LENGTH, Defaults, register
from core.result import result_key
from core.seen import STRANGER, SeenRecords, SeenTasks
from core.settings import Settings
from core.task import Status, Task
from core.task_list import list_batch, list_tasks
from handlers.web import admin, batches, cursors, log_keys, models, options, registration, uploads
from handlers.web.sign_in import caller

if TYPE_CHECKING:
    from core.presets import Own

# How often progress is stored, and so how soon it is worth asking again.
POLL_SECONDS = {"local": 1, "aws": 5}
MAX_POLL_SECONDS = 30

USUAL_PAGE = 50
MAX_PAGE = 200

# A link is somebody's for a time, and a log is somebody's own.
_NOT_STORED = {"Cache-Control": "no-store"}

# Every id that we gave out looks like this, and nothing else is worth a question to the store.
_TASK_ID = re.compile(r"[A-Za-z0-9-]{1,64}")

TaskId = Annotated[str, Path(description="The `task_id` that register answered with.")]
Filename = Annotated[str, Path(description="The name of an output, with the folders in it, if there are any.")]
ExecuteToo = Annotated[bool, Query(description="Execute the task in the same call.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="A name of your own for this request, such as a UUID. Sent again with the same body, it is "
        f"answered with the task that it made the first time. 1 to {MAX_KEY_LENGTH} printable ASCII characters; held "
        "as long as the task.",
        examples=["order-4711-opening"],
    ),
]


OfStatus = Annotated[Status | None, Query(description="Only tasks that are in this status.")]
OfBatch = Annotated[str | None, Query(description="Only tasks of the batch with this id.")]
Limit = Annotated[int, Query(description="The most tasks on a page.", ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(description="The `next_cursor` of the page before; without one, the newest.")]


async def json_body(request: Request) -> None:
    """Raise UnsupportedMediaType unless the body says that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What the routes need, and the routes. Plain functions: core is synchronous, so they run in threads."""

    all_services: Services
    settings: Settings
    ffmpeg_version: str
    sandbox: str | None
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    count: Callable[[str], None]
    machine: Callable[[], Machine] | None
    live: LiveSettings
    one_at_a_time: Lock = field(default_factory=Lock)

    @property
    def services(self) -> Services:
        """What the caller of this request may use: other callers' tasks are not in it."""
        whole = self.all_services
        store = SeenTasks(whole.store, caller(), self.one_at_a_time)
        return replace(whole, store=store, records=SeenRecords(whole.records, caller()))

    @property
    def admin(self) -> admin.Admin:
        """The operations for admins, who may see what all others do."""
        return admin.Admin(
            services=self.all_services, settings=self.settings, live=self.live, clock=self.clock, machine=self.machine
        )

    @property
    def of_uploads(self) -> uploads.UploadOperations:
        services, settings = self.all_services, self.settings
        return uploads.UploadOperations(services=services, settings=settings, clock=self.clock, new_id=self.new_id)

    @property
    def own_presets(self) -> "Own":
        """Where the operator has more than those of the package."""
        return self.all_services.presets or self.settings.presets_folder

    def register(
        self, body: registration.Registration, execute: ExecuteToo = False, idempotency_key: IdempotencyKey = None
    ) -> Response:
        now = self.clock()
        task, again = register(
            self.services.store,
            body.to_domain(),
            settings=self.live.current(now=now),
            task_id=self.new_id(),
            correlation_id=log_keys.correlation_id(),
            now=now,
            idempotency_key=idempotency_key,
            key_name=caller().name,
            uploads=self.of_uploads.uploads(caller()),
            own_presets=self.own_presets,
        )
        log_keys.note(task_id=task.task_id)
        if not again:
            self.count("TasksRegistered")
        if execute and not task.status.ended:
            task = self._executed(task.task_id)
        return self._shown(task, 200 if again else 201, {"Location": f"/ffmpeg/status/{task.task_id}"})

    def validate(self, body: registration.Registration) -> Response:
        wanted = body.to_domain()
        # A command leaves nothing to the settings at run time, and is judged without a look at what is stored.
        settings = self.settings if wanted.command else self.live.current(now=self.clock())
        asking = caller()
        found = preview(
            wanted,
            policy=settings.url_policy,
            max_output_bytes=settings.max_output_bytes,
            most_seconds=settings.task_timeout_seconds,
            destinations=settings.destinations,
            default=Defaults.of(settings),
            upload_fault=lambda upload_id: self.of_uploads.uploads(asking).fault(upload_id, now=self.clock()),
            own_presets=self.own_presets,
        )
        return _json(models.shown_preview(found), 200)

    def presets(self) -> Response:
        from core import presets  # only here: most callers never ask

        return _json(options.shown_presets(presets.shelf(self.own_presets)), 200)

    def execute(self, task_id: TaskId) -> Response:
        return self._shown(self._executed(_checked(task_id)), 202)

    def cancel(self, task_id: TaskId) -> Response:
        task = cancel(self.services, _checked(task_id), now=self.clock())
        self.count("TasksCanceled")
        return self._shown(task, 202)

    def notify(self, task_id: TaskId) -> Response:
        return self._shown(notify(self.services, _checked(task_id), now=self.clock()), 202)

    def status(self, task_id: TaskId) -> Response:
        asked = _checked(task_id)
        return self._shown(find_task(self.services, asked), 200)

    def result(self, task_id: TaskId) -> Response:
        return self._linked(_checked(task_id), None)

    def result_file(self, task_id: TaskId, filename: Filename) -> Response:
        return self._linked(_checked(task_id), filename)

    def log(self, task_id: TaskId) -> Response:
        text = read_log(self.services, find_task(self.services, _checked(task_id)))
        return PlainTextResponse(text, headers={**_NOT_STORED, "X-Content-Type-Options": "nosniff"})

    def tasks(
        self,
        status: OfStatus = None,
        batch_id: OfBatch = None,
        limit: Limit = USUAL_PAGE,
        cursor: Cursor = None,
    ) -> Response:
        below = None if cursor is None else cursors.read(cursor)
        if batch_id is None:
            page = list_tasks(self.services, limit=limit, below=below, status=status)
        else:
            batch = get_batch(self.services, batches.checked(batch_id))
            page = list_batch(self.services, batch, limit=limit, below=below, status=status)
        return _json_text(models.page_answer(page), 200)

    def delete(self, task_id: TaskId) -> Response:
        delete(self.services, _checked(task_id), now=self.clock())
        return Response(status_code=204)

    def health(self) -> Response:
        found = health.examine(self.services, ffmpeg_version=self.ffmpeg_version, sandbox=self.sandbox)
        shown = models.shown_health(found, in_full=caller() is not STRANGER)
        return _json(shown, 200 if found.healthy else 503)

    def _executed(self, task_id: str) -> Task:
        now = self.clock()
        task = execute(self.services, task_id, now=now)
        if task.queued_at == now:  # queued by this call, not by one before
            self.count("TasksExecuted")
        return task

    def _linked(self, task_id: str, filename: str | None) -> Response:
        services, now = self.services, self.clock()
        task = find_task(services, task_id)
        objects = services.objects_of(task)
        key = result_key(objects, task, filename, now=now, ask_again_seconds=self._poll_seconds(task))
        link = objects.link(key, expires_in_seconds=self.settings.link_ttl_seconds)
        return RedirectResponse(link, status_code=307, headers=_NOT_STORED)

    def _poll_seconds(self, task: Task) -> int:
        return poll_seconds(task, now=self.clock(), usual=POLL_SECONDS[self.settings.backend])

    def _shown(self, task: Task, status: int, headers: dict[str, str] | None = None) -> Response:
        ttl = self.settings.link_ttl_seconds
        body = models.status_answer(task, self.services, link_ttl_seconds=ttl)
        poll = {} if task.status.ended else {"Retry-After": str(self._poll_seconds(task))}
        return _json_text(body, status, {**poll, **(headers or {})})


def poll_seconds(task: Task, *, now: datetime, usual: int) -> int:
    """In how many seconds it is worth asking again: not before the next try, for a task that waits for it."""
    put_off = task.status is Status.QUEUED and not task.job_id and (task.attempts or task.queue_reason)
    if not put_off or task.dispatch_due_at is None:
        return usual
    left = math.ceil((task.dispatch_due_at - now).total_seconds())
    return max(usual, min(left, MAX_POLL_SECONDS))


def _name_only(operation_id: str) -> dict[str, Any]:
    return {"operation_id": operation_id}


def install(app: FastAPI, operations: Operations, *, words: Callable[[str], dict[str, Any]] = _name_only) -> None:
    """Let `app` answer with the operations. `words` gives what a description says of each, by its name."""
    # On the application itself: FastAPI matches the routes of an included router at more cost.
    add: Callable[..., Any] = app.add_api_route
    get: dict[str, Any] = {"methods": ["GET"]}
    post: dict[str, Any] = {"methods": ["POST"]}
    post_json = post | {"dependencies": [Depends(json_body)]}
    add("/ffmpeg/register", operations.register, **post_json, **words("register"))
    add("/ffmpeg/validate", operations.validate, **post_json, **words("validate"))
    add("/ffmpeg/presets", operations.presets, **get, **words("presets"))
    add("/ffmpeg/execute/{task_id}", operations.execute, **post, **words("execute"))
    add("/ffmpeg/status/{task_id}", operations.status, **get, **words("status"))
    add("/ffmpeg/cancel/{task_id}", operations.cancel, **post, **words("cancel"))
    add("/ffmpeg/notify/{task_id}", operations.notify, **post, **words("notify"))
    add("/ffmpeg/result/{task_id}", operations.result, **get, **words("result"))
    add("/ffmpeg/result/{task_id}/{filename:path}", operations.result_file, **get, **words("result_file"))
    add("/ffmpeg/log/{task_id}", operations.log, **get, **words("log"))
    add("/ffmpeg/tasks", operations.tasks, **get, **words("tasks"))
    add("/ffmpeg/tasks/{task_id}", operations.delete, methods=["DELETE"], **words("delete"))
    uploads.install(add, operations.of_uploads, words=words, **post_json)
    add("/ffmpeg/health", operations.health, **get, **words("health"))
    admin.install(app, operations.admin, json_body=json_body, words=words)
    batches.install(app, batches.Batches(operations), json_body=json_body, words=words)


def _checked(task_id: str) -> str:
    if not _TASK_ID.fullmatch(task_id):
        raise TaskNotFound
    log_keys.note(task_id=task_id)
    return task_id


def _json(body: BaseModel, status: int) -> Response:
    return _json_text(body.model_dump_json(), status)


def _json_text(body: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status_code=status, headers=headers, media_type="application/json")
