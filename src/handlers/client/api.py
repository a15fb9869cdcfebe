"""The operations of the service, as calls. Every answer that is no success becomes a Fault.

A service that has answered once may be away for a while, as when it is restarted: what it is asked then is asked
again, and that is said. One that never answered is not there. Only what may be asked twice is sent through here.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from handlers.client import connect
from handlers.client.faults import Fault, Refused, Unreachable, Usage
from handlers.client.signals import Stop

Json = dict[str, Any]
ENDED = frozenset({"completed", "failed", "canceled"})

PATIENCE_SECONDS = 120.0  # how long a service that was there may be away
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
BRIEF_SECONDS = 5.0  # for each request while leaving
MOST_PAUSE_SECONDS = 10.0
_TOO_MANY = 429
_LINK = 307
_BUSY = frozenset({_TOO_MANY, 502, 503, 504})
_ID = re.compile(r"[\w-]+")


@dataclass
class Api:
    """One service. `say` is told what a person who waits should know."""

    server: str
    key: str | None
    say: Callable[[str], None]
    stop: Stop
    auth: httpx.Auth | None = None
    brief: bool = False  # ask once, and do not wait long
    reached: bool = field(default=False, init=False)
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        seconds = BRIEF_SECONDS if self.brief else ANSWER_SECONDS
        self.http = connect.http(
            self.server,
            base_url=self.server,
            auth=self.auth,
            headers={"Accept": "application/json", **({"X-API-Key": self.key} if self.key else {})},
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.http.close()

    def leaving(self) -> "Api":
        """For what is left to say after Ctrl-C: on connections of its own, and not for long."""
        return Api(self.server, self.key, self.say, Stop(), auth=self.auth, brief=True)

    def register(self, body: Json, *, key: str, execute: bool = True) -> Json:
        answer = self._ask("POST", "register", json=body, params={"execute": execute}, headers={"Idempotency-Key": key})
        return _read(answer, "task_id")

    def validate(self, body: Json) -> Json:
        return _read(self._ask("POST", "validate", json=body), "valid")

    def status(self, task_id: str) -> tuple[Json, float | None]:
        """The task, and in how many seconds to ask again."""
        answer = self._ask("GET", f"status/{_id(task_id)}")
        return _read(answer, "task_id"), retry_after(answer)

    def cancel(self, task_id: str) -> Json:
        return _read(self._ask("POST", f"cancel/{_id(task_id)}"), "task_id")

    def result_link(self, task_id: str, filename: str | None = None) -> str:
        path = f"result/{_id(task_id)}" + (f"/{quote(filename)}" if filename else "")
        answer = self._ask("GET", path, redirects=True)
        link: str = answer.headers.get("Location", "")
        if not link:
            raise _strange(self.server, answer)
        return link

    def log(self, task_id: str) -> str:
        answer = self._ask("GET", f"log/{_id(task_id)}")
        if not answer.headers.get("Content-Type", "").startswith("text/plain"):
            raise _strange(self.server, answer)
        return answer.text

    def tasks(self, *, status: str | None, limit: int, cursor: str | None) -> Json:
        asked = {"status": status, "limit": limit, "cursor": cursor}
        answer = self._ask("GET", "tasks", params={name: value for name, value in asked.items() if value is not None})
        return _read(answer, "items")

    def presets(self) -> list[Json]:
        found: list[Json] = _read(self._ask("GET", "presets"), "presets")["presets"]
        return found

    def health(self) -> Json:
        answer = self._send("GET", "health", {})
        if answer.status_code == 503:
            try:
                return _read(answer, "status")
            except Unreachable:
                pass
        return _read(self._checked(answer), "status")

    def open_upload(self, filename: str, size_bytes: int) -> Json:
        answer = self._ask("POST", "uploads", json={"filename": filename, "size_bytes": size_bytes})
        return _read(answer, "upload_id")

    def upload(self, upload_id: str) -> Json:
        return _read(self._ask("GET", f"uploads/{_id(upload_id)}"), "upload_id")

    def complete_upload(self, upload_id: str) -> Json:
        return _read(self._ask("POST", f"uploads/{_id(upload_id)}/complete", json={}), "upload_id")

    def drop_upload(self, upload_id: str) -> None:
        self._ask("DELETE", f"uploads/{_id(upload_id)}")

    def _ask(self, method: str, path: str, *, redirects: bool = False, **request: Any) -> httpx.Response:
        began, said = time.monotonic(), False
        for pause in pauses():
            self.stop.check()
            wait, limit = pause, f" for {PATIENCE_SECONDS:.0f} s"
            try:
                answer = self._send(method, path, request)
                wait = retry_after(answer) or pause
                if answer.status_code == _TOO_MANY:  # the service is well, and says when
                    began, limit = time.monotonic(), ""
                return answer if redirects and answer.status_code == _LINK else self._checked(answer)
            except Fault as fault:
                late = time.monotonic() + wait > began + PATIENCE_SECONDS
                if self.brief or not self.reached or not fault.passing or late:
                    raise
                if not said:
                    self.say(f"{fault.message} Trying again{limit}.")
                said = True
            self.stop.wait(wait)
        raise AssertionError("pauses never end")

    def _send(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        try:
            return self.http.request(method, f"/ffmpeg/{path}", **request)
        except httpx.DecodingError as error:
            raise _not_ours(self.server, "its answer cannot be read") from error
        except httpx.RequestError as error:
            raise connect.absent(self.server, error) from error
        except UnicodeEncodeError as error:
            raise Usage("What was typed has bytes that are no UTF-8, and cannot be sent.") from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            self.reached = True
            return answer
        if answer.is_redirect:
            raise Unreachable(
                f"{self.server} sends us on to another address; give the service's own as --server.",
                code="NOT_THE_SERVICE",
            )
        error = _error(answer)
        if error is None:
            raise _strange(self.server, answer)
        self.reached = True
        raise _refusal(error, answer, with_key=bool(self.key))


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long what brings nothing is tried again: at least so often, and at least so long."""

    tries: int = 6
    seconds: float = PATIENCE_SECONDS

    def is_over(self, tries: int, *, since: float) -> bool:
        return tries >= self.tries and time.monotonic() - since >= self.seconds


PATIENCE = Patience()


def pauses() -> Iterator[float]:
    """How long to wait before each next try: longer and longer, and never in step with others."""
    pause = 0.5
    while True:
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311 - a pause, no secret
        pause = min(2 * pause, MOST_PAUSE_SECONDS)


def retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _read(answer: httpx.Response, expected: str) -> Json:
    """The body, which must be an object with that field."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or expected not in body:
        raise _strange(f"{answer.url.scheme}://{answer.url.netloc.decode()}", answer)
    return body


def _error(answer: httpx.Response) -> Json | None:
    try:
        error = answer.json()["error"]
        return error if isinstance(error["code"], str) and isinstance(error["message"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _refusal(error: Json, answer: httpx.Response, *, with_key: bool) -> Refused:
    code, message = error["code"], error["message"]
    if code == "UNAUTHENTICATED":
        message = (
            "The service does not know this key: see FFMPEG_TASK_KEY, --key and the configuration file."
            if with_key
            else "The service wants a key: set FFMPEG_TASK_KEY, or key in the configuration file."
        )
    elif code in ("NOT_FOUND", "METHOD_NOT_ALLOWED") and not error.get("details"):
        operation = answer.request.url.path.partition("/ffmpeg/")[2].partition("/")[0]
        message = f"The service has no {operation}: it is older than this command; update it, or do without."
    return Refused(message, code=code, details=error.get("details") or {}, passing=answer.status_code in _BUSY)


def _strange(server: str, answer: httpx.Response) -> Unreachable:
    """An answer that is none of the service's own."""
    status = answer.status_code
    if status in _BUSY:
        said = f"What stands before {server} answers with status {status}: check --server, or try again later."
        return Unreachable(said, passing=True)
    hint = " On AWS, the caller's credentials are missing or not allowed." if status == 403 else ""
    return _not_ours(server, f"status {status}", hint)


def _not_ours(server: str, seen: str, hint: str = "") -> Unreachable:
    said = f"{server} answers, but not as this service does ({seen}): check --server.{hint}"
    return Unreachable(said, code="NOT_THE_SERVICE")


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise Usage(f"{text!r} is no id of a task: `ffmpeg-task list` shows them.")
    return text
