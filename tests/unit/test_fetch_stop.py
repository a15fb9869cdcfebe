"""How soon a download ends when nobody wants it any more, wherever it waits."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import httpcore
import pytest

from core import urls
from core.worker import fetch, guard
from core.worker.failed import Stopped
from support.fault_server import BEHAVIOURS, going_wrong

LOOPBACK = urls.Policy(private_networks=(ip_network("127.0.0.0/8"),))
PATIENT = fetch.Limits(
    max_bytes=10**15,
    connect_seconds=60,
    answer_seconds=60,
    idle_seconds=60,
    pause_seconds=60,
    max_pause_seconds=60,
    total_seconds=30,
)


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """A port whose queue is full, so that a connection to it is neither made nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def from_behaviour(name: str) -> Callable[[], contextlib.AbstractContextManager[str]]:
    @contextlib.contextmanager
    def serve() -> Iterator[str]:
        with going_wrong(BEHAVIOURS[name]) as server:
            yield server.url

    return serve


@contextlib.contextmanager
def silent_tls() -> Iterator[str]:
    with going_wrong(BEHAVIOURS["never answers"]) as server:
        yield server.url.replace("http:", "https:")


def name_without_an_answer() -> contextlib.AbstractContextManager[str]:
    return contextlib.nullcontext("http://media.example.com/")


@contextlib.contextmanager
def hanging_resolver() -> Iterator[guard.Network]:
    over = threading.Event()

    def resolve(host: str) -> list[str]:
        over.wait(60)
        return []

    try:
        yield guard.Network(resolve=resolve)
    finally:
        over.set()


WAITS = {
    "for the name": name_without_an_answer,
    "for the connection": full_backlog,
    "for the handshake": silent_tls,
    "for the answer": from_behaviour("never answers"),
    "for the end of the head": from_behaviour("drips the head"),
    "for the body": from_behaviour("stalls"),
    "while it arrives": from_behaviour("no length, and no end"),
    "between attempts": from_behaviour("500"),
    "as the source asked": from_behaviour("503 first, back tomorrow"),
}


@pytest.mark.parametrize("phase", WAITS)
def test_unwanted_download_ends_within_a_second(
    phase: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    told = threading.Event()
    told_at: list[float] = []
    # of a body without end nothing is kept: as much may come as this machine can move
    path = Path(os.devnull) if phase == "while it arrives" else tmp_path / "i0"

    def tell() -> None:
        told_at.append(time.monotonic())
        told.set()

    timer = threading.Timer(0.6, tell)
    with WAITS[phase]() as url, hanging_resolver() as network, fetch.Client(PATIENT, LOOPBACK, network) as http:
        timer.start()
        with pytest.raises(Stopped):
            fetch.fetch(http, fetch.Source(name="in.mp4", url=url), path, stopped=told.is_set)
        took = time.monotonic() - told_at[0]
    timer.join()
    record_property("seconds", round(took, 3))
    assert took < 10  # half a second, and what a busy machine adds; each of the waits would go on for longer


def test_connection_that_is_made_when_nobody_wants_it_any_more_is_closed(tmp_path: Path) -> None:
    # given a host that is slow to take a connection
    made: list[httpcore.NetworkStream] = []
    may_connect, told = threading.Event(), threading.Event()

    def dial(address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
        told.set()
        may_connect.wait(60)
        made.append(guard.dial(address, port, timeout))
        return made[0]

    with going_wrong(BEHAVIOURS["never answers"]) as server:
        # when the download is stopped before it has done so
        source = fetch.Source(name="in.mp4", url=server.url)
        with fetch.Client(PATIENT, LOOPBACK, guard.Network(dial=dial)) as http, pytest.raises(Stopped):
            fetch.fetch(http, source, tmp_path / "i0", stopped=told.is_set)
        may_connect.set()

        # then what it takes after all is not kept
        end = time.monotonic() + 30
        while not (made and made[0].get_extra_info("socket").fileno() == -1):
            assert time.monotonic() < end
            time.sleep(0.01)
