"""Uploads over the wire: the operations on them and, on one machine, the links that parts are PUT to.

The bytes of a part go from the socket to the disk in pieces; nothing here holds more than one.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple, Protocol

from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from core import upload as domain
from core.errors import InvalidArgument, NotFound, RequestTimeout, ServiceError, UploadNotFound
from core.flow import Flow
from core.ports import Services
from core.seen import Caller
from core.settings import Settings
from core.uploads import Uploads
from handlers.web import errors, upload_examples
from handlers.web.models import Time
from handlers.web.sign_in import caller
from handlers.web.wire import Wire

LINKS = "/uploads/"  # what the paths of the links to parts begin with
MAX_LINK_SECONDS = 7 * 24 * 3600  # the most that S3 signs for
_PIECE_BYTES = 1024**2
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
# A link is somebody's for a time.
_NOT_STORED = {"Cache-Control": "no-store"}

UploadId = Annotated[str, Path(description="The `upload_id` that the upload was begun with.")]


class NewUpload(Wire):
    """The file that is to be sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [upload_examples.NEW]})

    filename: str = Field(min_length=1, max_length=255, description="Its name, to be shown; it need not be unique.")
    size_bytes: int = Field(ge=1, description="Its exact size.")


class UploadPart(Wire):
    """A piece of the file, and where to send it."""

    number: int = Field(description="From 1, in the order of the file.")
    size_bytes: int = Field(description="Exactly as many are taken.")
    received: bool = Field(description="Whether it is there. One that is not there whole is not there.")
    url: str | None = Field(description="Where to PUT it, without further sign-in; null once it is there.")
    headers: dict[str, str] = Field(description="To be sent along, besides Content-Length.")


class Upload(Wire):
    """An upload as it is now."""

    upload_id: str
    input: str = Field(description="What to give as an input's URL, once it is complete.")
    status: str = Field(json_schema_extra={"enum": ["open", "complete"]})
    filename: str
    size_bytes: int
    part_size_bytes: int = Field(description="Of each part but the last.")
    parts: tuple[UploadPart, ...]
    expires_at: Time = Field(description="When it is deleted, unless a task that uses it is queued or running then.")


@dataclass(frozen=True, kw_only=True)
class UploadOperations:
    services: Services
    settings: Settings
    clock: Callable[[], datetime]
    new_id: Callable[[], str]

    def begin(self, body: NewUpload) -> Response:
        most = min(domain.MOST_BYTES, self.settings.max_input_bytes)
        uploads, now = self.uploads(caller()), self.clock()
        made = uploads.begin(body.filename, body.size_bytes, upload_id=self.new_id(), most_bytes=most, now=now)
        return self._shown(uploads, made, 201, {"Location": f"/ffmpeg/uploads/{made.upload_id}"})

    def show(self, upload_id: UploadId) -> Response:
        uploads = self.uploads(caller())
        return self._shown(uploads, uploads.get(_checked(upload_id), now=self.clock()), 200)

    def complete(self, upload_id: UploadId) -> Response:
        uploads = self.uploads(caller())
        return self._shown(uploads, uploads.complete(_checked(upload_id), now=self.clock()), 200)

    def delete(self, upload_id: UploadId) -> Response:
        self.uploads(caller()).delete(_checked(upload_id), now=self.clock())
        return Response(status_code=204)

    def uploads(self, caller: Caller) -> Uploads:
        store = self.services.uploads
        assert store  # every wiring has one
        ttl = timedelta(hours=self.settings.upload_ttl_hours)
        most_open = self.settings.max_open_uploads_per_key
        return Uploads(records=self.services.records, store=store, caller=caller, ttl=ttl, most_open=most_open)

    def _shown(
        self, uploads: Uploads, upload: domain.Upload, status: int, headers: dict[str, str] | None = None
    ) -> Response:
        left = int((upload.expires_at - self.clock()).total_seconds())
        seconds = max(1, min(left, MAX_LINK_SECONDS))
        missing = uploads.missing(upload)

        def shown(part: domain.Part) -> UploadPart:
            there = part.number not in missing
            store, name, transfer = uploads.store, upload.upload_id, upload.transfer
            url = None if there else store.link(name, transfer, part, expires_in_seconds=seconds)
            return UploadPart(number=part.number, size_bytes=part.size_bytes, received=there, url=url, headers={})

        body = Upload(
            upload_id=upload.upload_id,
            input=f"upload:{upload.upload_id}",
            status=upload.status.value,
            filename=upload.filename,
            size_bytes=upload.size_bytes,
            part_size_bytes=upload.part_size_bytes,
            parts=tuple(map(shown, upload.parts)),
            expires_at=upload.expires_at,
        )
        text = body.model_dump_json()
        return Response(
            text, status_code=status, headers={**_NOT_STORED, **(headers or {})}, media_type="application/json"
        )


def _checked(upload_id: str) -> str:
    if not _ID.fullmatch(upload_id):
        raise UploadNotFound
    return upload_id


class Draft(Protocol):
    def announce(self, size_bytes: int) -> None: ...
    def write(self, piece: bytes | bytearray) -> None: ...
    def keep(self) -> None: ...
    def close(self) -> None: ...


class Pace(NamedTuple):
    """How slowly a part may come: slower than an input may, as several come at once over a line of the caller's own."""

    idle_seconds: float = 60.0
    least_bytes_per_second: float = 1_000.0
    window_seconds: float = 60.0


PACE = Pace()
TakePart = Callable[[str, str, int], Draft]
"""A link's token, upload and number of the part to the place for it. Raises NotFound."""


def router(take_part: TakePart, origins: Collection[str], pace: Pace = PACE) -> APIRouter:
    """The links to parts, which pages of `origins` may use from a browser too."""
    routes = APIRouter()

    async def put(token: str, upload_id: str, number: str, request: Request) -> Response:
        allowed = _allowed(request, origins)
        try:
            await _taken(take_part, token, _checked(upload_id), number, request, pace)
        except RequestTimeout as error:
            return errors.logged(error, headers={**allowed, "Connection": "close"})  # or it would go on coming
        except ServiceError as error:
            return errors.logged(error, headers=allowed)
        return Response(headers=allowed)

    async def ask(request: Request) -> Response:
        """What a browser asks before it sends a PUT from a page of another origin."""
        allowed = _allowed(request, origins)
        asked = {"Access-Control-Allow-Methods": "PUT", "Access-Control-Allow-Headers": "content-type"}
        return Response(status_code=204, headers={**allowed, **asked} if allowed else {})

    path = LINKS + "{token}/{upload_id}/{number}"
    routes.add_api_route(path, put, methods=["PUT"], include_in_schema=False)
    routes.add_api_route(path, ask, methods=["OPTIONS"], include_in_schema=False)
    return routes


def _allowed(request: Request, origins: Collection[str]) -> dict[str, str]:
    origin = request.headers.get("origin", "")
    if not origin or not ("*" in origins or origin in origins):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


async def _taken(take_part: TakePart, token: str, upload_id: str, number: str, request: Request, pace: Pace) -> None:
    if not (number.isascii() and number.isdecimal() and len(number) < 6):
        raise NotFound
    draft = await run_in_threadpool(take_part, token, upload_id, int(number))
    try:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal():
            draft.announce(int(declared))
        await _written(draft, request.stream(), pace)
        await run_in_threadpool(draft.keep)
    except ClientDisconnect:
        raise InvalidArgument("The part broke off: send it again.", details={"field": "body"}) from None
    finally:
        draft.close()


async def _written(draft: Draft, body: AsyncIterator[bytes], pace: Pace) -> None:
    piece = bytearray()
    flow = Flow(
        least_bytes_per_second=pace.least_bytes_per_second,
        window_seconds=pace.window_seconds,
        began=time.monotonic(),
    )
    while received := await _next(body, pace):
        flow.count(len(received))
        if flow.is_trickle(time.monotonic()):
            raise _too_slow(pace)
        piece += received
        if len(piece) >= _PIECE_BYTES:
            await run_in_threadpool(draft.write, piece)
            piece = bytearray()
    await run_in_threadpool(draft.write, piece)


async def _next(body: AsyncIterator[bytes], pace: Pace) -> bytes:
    """What has come; nothing at the end. Raises RequestTimeout when nothing does."""
    try:
        async with asyncio.timeout(pace.idle_seconds):
            return await anext(body, b"")
    except TimeoutError:
        raise _too_slow(pace) from None


def _too_slow(pace: Pace) -> RequestTimeout:
    least, window, idle = pace.least_bytes_per_second, pace.window_seconds, pace.idle_seconds
    return RequestTimeout(
        f"The part came too slowly: {least:g} bytes a second are due on average over {window:g} s, and the next one "
        f"within {idle:g} s. Nothing of it was kept: send it again, fewer parts at once where the line is slow."
    )


def install(
    add: Callable[..., Any], operations: UploadOperations, *, words: Callable[[str], dict[str, Any]], **post: Any
) -> None:
    """`add` takes an operation; `post` is what it takes for one with a JSON body."""
    one = "/ffmpeg/uploads/{upload_id}"
    add("/ffmpeg/uploads", operations.begin, **post, **words("upload"))
    add(one, operations.show, methods=["GET"], **words("show_upload"))
    add(f"{one}/complete", operations.complete, methods=["POST"], **words("complete_upload"))
    add(one, operations.delete, methods=["DELETE"], **words("delete_upload"))
