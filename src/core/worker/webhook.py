"""The webhook: a task's end, posted to its callback_url and signed as Standard Webhooks says.

It goes out through the guard, as downloads do, so it reaches what the policy reaches and nothing else. Here one try is
made, within a bounded time, and of the answer nothing but the status is read; when to try again is for the aftermath
to say.
"""

import base64
import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import httpx

from core import urls
from core.errors import UrlNotAllowed
from core.ports import NotDelivered
from core.task import Task
from core.worker import answer, fetch, guard, transport

_SYSTEM = guard.Network()
_PIECE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient a try is; times in seconds."""

    connect_seconds: float = 3.0  # to be reached, and as much again to agree on TLS
    write_seconds: float = 2.0  # for each piece of the body
    total_seconds: float = 10.0  # to the end of the answer's headers, however they trickle


class WebhookChannel:
    """The Channel `webhook`. Each of `secrets` (whsec_...) signs, so that receivers can change from one to the next.

    `shown` gives the body. May be shared by threads.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        policy: urls.Policy,
        shown: Callable[[Task], str],
        limits: Limits = Limits(),
        network: guard.Network = _SYSTEM,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = secrets
        self._policy = policy.web_only
        self._shown = shown
        self._limits = limits
        self._network = network
        self._clock = clock

    def deliver(self, task: Task) -> None:
        body = self._shown(task).encode()
        try:
            status = self._post(self._place(task), self._headers(task, body), body)
        except (UrlNotAllowed, httpx.InvalidURL):
            raise NotDelivered("callback_url is one that this service does not call.", final=True) from None
        except httpx.TransportError as error:
            raise NotDelivered(_in_words(error)) from error
        _judge(status)

    def _place(self, task: Task) -> urls.Web:
        place = urls.check(task.callback_url or "", field="callback_url", policy=self._policy)
        assert isinstance(place, urls.Web)  # the policy has no buckets
        return place

    def _headers(self, task: Task, body: bytes) -> dict[str, str]:
        message_id, timestamp = f"msg_{task.task_id}", int(self._clock())
        signed = (signature(secret, message_id=message_id, timestamp=timestamp, body=body) for secret in self._secrets)
        return {
            "User-Agent": fetch.HEADERS["User-Agent"],
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-Correlation-Id": task.correlation_id,
            "webhook-id": message_id,  # of all tries the same
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signed),
        }

    def _post(self, place: urls.Web, headers: dict[str, str], body: bytes) -> int:
        """The status of the answer. Raises httpx.TransportError or httpx.InvalidURL."""
        limits, end = self._limits, time.monotonic() + self._limits.total_seconds
        timeout = httpx.Timeout(connect=limits.connect_seconds, read=None, write=limits.write_seconds, pool=None)
        request = httpx.Request(
            "POST",
            transport.address(place),
            headers=headers,
            content=_in_pieces(body, lambda: _left(end)),
            extensions={"timeout": timeout.as_dict()},
        )
        # A connection of its own: receivers differ, and none is to wait for another one's.
        with (
            transport.Transport(self._policy, self._network) as out,
            guard.reading_with(lambda: _left(end)),
            closing(out.handle_request(request)) as response,
        ):
            return response.status_code


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """As in https://github.com/standard-webhooks/standard-webhooks, symmetric, version 1."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _in_pieces(body: bytes, left: Callable[[], float]) -> Iterator[bytes]:
    """The body, for as long as there is time left: a receiver may be slow to read, too."""
    for start in range(0, len(body), _PIECE_BYTES):
        left()
        yield body[start : start + _PIECE_BYTES]


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise httpx.ReadTimeout("too slow")
    return left


def _judge(status: int) -> None:
    """Return when it counts as delivered."""
    if 200 <= status < 300:
        return
    answered = f"The receiver answered {status} ({httpx.codes.get_reason_phrase(status) or 'unknown'})"
    if status == httpx.codes.GONE:
        raise NotDelivered(f"{answered}: it is not to be told again.", final=True)
    if status in answer.REDIRECTS:
        raise NotDelivered(f"{answered}; callback_url must be the final address, redirects are not followed.")
    raise NotDelivered(f"{answered}.")


def _in_words(error: httpx.TransportError) -> str:
    """What went wrong on the wire; never the library's own text, which may hold addresses."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return "The receiver cannot be reached, or shows no valid certificate."
    if isinstance(error, httpx.TimeoutException):
        return "The receiver did not answer in time."
    return "The receiver broke off before it had answered."
