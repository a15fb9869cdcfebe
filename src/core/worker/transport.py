"""httpx on connections that the guard makes, each for one request over HTTP/1.1, with no proxy, and no retries.

It is what httpx's own transport is, save that httpx's takes no network backend; and it sees when a body is longer than
was announced, which only the connection shows.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx

from core.urls import Policy, Web
from core.worker import answer, guard


class Surplus(httpx.RemoteProtocolError):
    """More bytes came than the answer had announced: one of the two is not what the source meant."""


def address(place: Web) -> httpx.URL:
    """Where to send a request. Raises httpx.InvalidURL when that would not be what was checked."""
    url = httpx.URL(place.url)
    if (url.scheme, url.raw_host.decode("ascii"), url.port or place.port) != (place.scheme, place.host, place.port):
        raise httpx.InvalidURL("read differently")
    return url


class Transport(httpx.BaseTransport):
    """Requests over connections that the guard makes. May be shared by threads."""

    def __init__(self, policy: Policy, network: guard.Network) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_trusting(os.environ.get("SSL_CERT_FILE")),
            http1=True,
            http2=False,
            # What a source sends behind its answer must never be read as the answer to the next question.
            max_keepalive_connections=0,
            network_backend=guard.Guard(policy, network),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        with _as_httpx():
            response = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response, answer.announced_bytes(httpx.Headers(response.headers))),
            extensions=response.extensions,
        )

    def close(self) -> None:
        with _as_httpx():
            self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()


@cache
def _trusting(certificates: str | None) -> Any:
    """Whom to trust, read once: it takes longer than a small download. httpx takes it from the same variable, and
    nothing from the environment about where to go."""
    return httpx.create_ssl_context()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response, announced: int | None) -> None:
        self._response = response
        self._announced = announced

    def __iter__(self) -> Iterator[bytes]:
        stream: guard.Stream = self._response.extensions["network_stream"]
        try:
            with _as_httpx():
                yield from self._response.iter_stream()
        except httpx.RemoteProtocolError as error:
            if stream.ended:
                raise httpx.ReadError("cut") from error
            raise
        if self._announced is not None and stream.exceeds(self._announced):
            raise Surplus("surplus")

    def close(self) -> None:
        self._response.close()


# From the particular to the general: the first that fits is meant.
_NAMES: Sequence[tuple[type[Exception], type[httpx.TransportError]]] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.ReadTimeout, httpx.ReadTimeout),
    (httpcore.WriteTimeout, httpx.WriteTimeout),
    (httpcore.PoolTimeout, httpx.PoolTimeout),
    (httpcore.TimeoutException, httpx.TimeoutException),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.ReadError, httpx.ReadError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.NetworkError, httpx.NetworkError),
    (httpcore.ProxyError, httpx.ProxyError),
    (httpcore.UnsupportedProtocol, httpx.UnsupportedProtocol),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError),
    (httpcore.ProtocolError, httpx.ProtocolError),
)


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for ours, theirs in _NAMES:
            if isinstance(error, ours):
                raise theirs(str(error)) from error
        raise
