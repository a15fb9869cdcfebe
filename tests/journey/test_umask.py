"""A service whose umask lets nobody else read what it writes: ffmpeg, which has another uid, still reads its inputs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import running
from support.source_server import serving


@pytest.fixture
def _strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.usefixtures("_strict_umask")
def test_transcode_under_a_strict_umask(tmp_path: Path) -> None:
    with serving() as source, running(tmp_path) as service:
        command = "-i in.mp4 -frames:v 5 -s 64x36 -an out.mp4"
        task = service.ended(service.register(command, {"in.mp4": f"{source.url}/media/bigbuckbunny.mp4"}, "out.mp4"))

    assert task["status"] == "completed", task["error"]
