"""The only way out: connections are judged where they are made, by the address that is dialled.

A name is resolved once for each connection, every answer must be one that the policy reaches, and the judged answer
itself is dialled. So neither a rebinding name, nor a redirect, nor a proxy leads elsewhere. A refused address looks
from outside like one where nobody listens: what is said must not tell what is inside.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import httpcore

from core import addresses
from core.urls import Policy

_SLICE_SECONDS = 0.5  # how often what waits asks whether it is still wanted
_HEAD_END = re.compile(rb"\n\r?\n")  # some servers leave the carriage returns out
_MAX_HEAD_BYTES = 128 * 1024  # of all heads of an answer, the interim ones included

T = TypeVar("T")
Resolve = Callable[[str], Sequence[str]]
Dial = Callable[[str, int, float | None], httpcore.NetworkStream]

# Asked before each read, and now and then while it or a connection is waited for: gives the seconds that a read may
# take, or raises to end it.
Patience = Callable[[], float]
_patience: ContextVar[Patience] = ContextVar("patience")


@contextmanager
def reading_with(patience: Patience) -> Iterator[None]:
    """What this thread connects to, and reads from guarded connections, is waited for with `patience`."""
    token = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(token)


def resolve(host: str) -> Sequence[str]:
    """The addresses of a name, as the system's resolver has them, each once."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in found))


def dial(address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
    return httpcore.SyncBackend().connect_tcp(address, port, timeout=timeout)


def peer(stream: httpcore.NetworkStream) -> str:
    """Whom a connection has really reached."""
    return str(stream.get_extra_info("server_addr")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the guard asks of the system. Tests give it another one."""

    resolve: Resolve = resolve
    dial: Dial = dial
    peer: Callable[[httpcore.NetworkStream], str] = peer


class Guard(httpcore.NetworkBackend):
    """Connects to what the policy reaches, and to nothing else."""

    def __init__(self, policy: Policy, network: Network) -> None:
        self._policy = policy
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        end = time.monotonic() + (timeout or 0)
        judged = self._judged(host, port, timeout)
        for number, address in enumerate(judged):
            # What is left, shared by the answers that are left: one that is dead must not take the others' time.
            share = None if timeout is None else max(0.01, (end - time.monotonic()) / (len(judged) - number))
            try:
                return self._dialled(address, port, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number + 1 == len(judged):
                    raise
        raise httpcore.ConnectError("refused")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("refused")

    def _judged(self, host: str, port: int, timeout: float | None) -> Sequence[str]:
        """The addresses behind `host`: all of them good, or none."""
        literal = addresses.read(host)
        answers = [host] if literal else self._answers(host, timeout)
        judged = [addresses.read(answer) for answer in answers]
        if not all(address is not None and self._policy.reaches(address, port) for address in judged):
            return ()
        return [str(address) for address in judged]

    def _answers(self, host: str, timeout: float | None) -> Sequence[str]:
        """What the resolver, which has no timeout of its own, answers in time; or nothing."""
        try:
            return _aside(lambda: self._network.resolve(host), timeout)
        except (OSError, UnicodeError):
            return ()

    def _dialled(self, address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
        stream = _aside(lambda: self._network.dial(address, port, timeout), drop=lambda late: late.close())
        try:
            reached = addresses.read(self._network.peer(stream))
        except OSError:  # it was reset as soon as it was made
            reached = None
        if reached != addresses.read(address):
            stream.close()
            raise httpcore.ConnectError("refused")
        return Stream(stream)


class Stream(httpcore.NetworkStream):
    """A connection that reads with patience, and counts what comes behind the head of the answer."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._head = b""
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = 0
        self.ended = False  # the other side has closed it

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        patience = _patience.get()
        end = time.monotonic() + patience()
        while (left := end - time.monotonic()) > 0:
            try:
                data = self._inner.read(max_bytes, timeout=max(0.001, min(left, _SLICE_SECONDS)))
            except httpcore.ReadTimeout:
                patience()
            else:
                self._count(data)
                return data
        raise httpcore.ReadTimeout("out of patience")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._head, self._in_head, self._head_bytes, self._body_bytes = b"", True, 0, 0
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        def shake_hands() -> httpcore.NetworkStream:
            return self._inner.start_tls(ssl_context, server_hostname, timeout)

        return Stream(_aside(shake_hands, drop=lambda late: late.close()))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def exceeds(self, announced: int) -> bool:
        """Whether more than the announced body has come, or is waiting to be read."""
        if self._body_bytes > announced:
            return True
        if not self._inner.get_extra_info("is_readable"):
            return False
        try:
            return self._inner.read(1, timeout=0.001) != b""
        except (httpcore.ReadTimeout, httpcore.ReadError):
            return False

    def _count(self, data: bytes) -> None:
        self.ended = not data
        if not self._in_head:
            self._body_bytes += len(data)
            return
        if self.ended and (not self._head or self._head.startswith(b"HTTP/")):
            raise httpcore.ReadError("closed in the head")
        self._head += data
        self._pass_heads()
        if self._head_bytes + len(self._head) > _MAX_HEAD_BYTES:
            raise httpcore.RemoteProtocolError("a head without end")

    def _pass_heads(self) -> None:
        """Find where the head ends: heads of interim answers (1xx) come before that of the answer itself."""
        while self._in_head and (found := _HEAD_END.search(self._head)):
            self._in_head = self._head.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1"))
            self._head_bytes += found.end()
            self._head = self._head[found.end() :]
        if not self._in_head:
            self._body_bytes, self._head = len(self._head), b""


def _aside(do: Callable[[], T], timeout: float | None = None, *, drop: Callable[[T], None] = lambda _: None) -> T:
    """What `do` gives, from a thread of its own. What blocks in the system hears nobody: when there is no more time or
    patience, it is left behind, and what it gives after all is dropped."""
    future: Future[T] = Future()
    threading.Thread(target=_settle, args=(future, do), daemon=True).start()
    try:
        _wait(future, timeout)
    except BaseException:
        future.add_done_callback(lambda late: drop(late.result()) if late.exception() is None else None)
        raise
    return future.result()


def _settle(future: Future[T], do: Callable[[], T]) -> None:
    try:
        future.set_result(do())
    except BaseException as error:  # it is for the one who waits
        future.set_exception(error)


def _wait(future: Future[T], timeout: float | None) -> None:
    patience = _patience.get()
    end = time.monotonic() + timeout if timeout is not None else float("inf")
    while not wait([future], timeout=min(max(0.0, end - time.monotonic()), _SLICE_SECONDS)).done:
        patience()
        if time.monotonic() >= end:
            raise TimeoutError
