"""The command line where there is no service: it starts one for the call, or becomes one."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import client, leftovers
from support.footage import CLIP
from support.leftovers import seconds_until
from support.source_server import serving

SMALL = ("--video-codec", "libx264", "--video-preset", "ultrafast", "--scale", "-2:120", "--no-audio")
LONG = "-f lavfi -i testsrc2=s=320x180:r=30:d=36000 -c:v libx264 -threads 1 o.mp4"


def usual_port_is_taken() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 8000)) == 0


needs_usual_port = pytest.mark.skipif(usual_port_is_taken(), reason="something listens on 127.0.0.1:8000")


Alone = tuple[Path, dict[str, str], str]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    """A folder, the environment of somebody without any service, and the URL of a video."""
    folder, temporary = tmp_path / "desk", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    with serving() as source:
        env = client.environment(
            tmp_path,
            TMPDIR=str(temporary),
            ALLOW_PRIVATE_NETWORKS="127.0.0.0/8",
            DATA_DIR="/nonexistent",  # what the service must not hear of
            BACKEND="aws",
        )
        yield folder, env, f"{source.url}/media/{CLIP.name}"
    seconds_until(lambda: is_empty(temporary), most=30)


def is_empty(temporary: Path) -> bool:
    return not leftovers.processes(temporary) and not list(temporary.iterdir())


@needs_usual_port
def test_first_use_needs_no_service(alone: Alone) -> None:
    folder, env, url = alone

    done = client.called("run", "-i", url, *SMALL, "--output", "o.mp4", cwd=folder, env=env)

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("No service runs here: one is started for this call.\n")
    assert (folder / "o.mp4").stat().st_size > 0


@needs_usual_port
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_service_of_its_own_ends_with_the_client(alone: Alone, number: signal.Signals) -> None:
    folder, env, _ = alone
    temporary = Path(env["TMPDIR"])

    with client.on_terminal("run", "--command", LONG, "--output", "o.mp4", cwd=folder, env=env) as session:
        session.until("transcoding")
        seconds_until(lambda: len(leftovers.processes(temporary)) >= 3, most=60)  # the service, its worker, ffmpeg
        if number is signal.SIGINT:
            session.press_ctrl_c()
            assert session.ended() == 130
        else:
            session.process.kill()
            assert session.process.wait(60) == -signal.SIGKILL

    seconds_until(lambda: is_empty(temporary), most=60)
    assert list(folder.iterdir()) == []


def test_serve_is_the_local_service(tmp_path: Path) -> None:
    env = client.environment(tmp_path)
    with client.on_terminal("serve", "--port", "0", "--data-dir", "d", cwd=tmp_path, env=env) as session:
        session.until("Ctrl-C ends it")
        url = session.shown.partition("Serving on ")[2].split()[0]
        health = client.called("health", "--server", url, cwd=tmp_path, env=env)
        session.press_ctrl_c()
        code = session.ended()

    assert (health.returncode, health.stdout.partition(",")[0]) == (0, "healthy")
    assert code == 0
    assert (tmp_path / "d" / "tasks.db").exists()
