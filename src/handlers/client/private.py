"""A service of one's own, for one call: so that the first use needs nothing.

It runs in a folder of its own, which is gone afterwards, knows nothing of the environment but what is listed here, and
takes only the key that it was given. It lives as long as the pipe to its stdin: also a kill -9 of ours ends it.
"""

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from handlers.client.faults import Fault

ROOT = Path(__file__).resolve().parents[2]  # where `handlers` is
END_SECONDS = 20.0  # for its workers to give back what they have
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Settings of the service that say what this machine can, and what may be fetched.
_SETTINGS = ("FFMPEG_PATH", "SANDBOX", "MAX_CONCURRENT_TASKS", "PRESETS_DIR", "ALLOW_PRIVATE_NETWORKS")


@contextmanager
def running(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Its address and its key. Raises Fault where it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="ffmpeg-task-"))
    key = f"ffk_{secrets.token_urlsafe(32)}"
    with tempfile.TemporaryFile() as log:  # not in the folder, which the service removes when it ends
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "handlers.private"],
            env=_environment(env, folder, key),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; it has tasks to cancel first
        )
        try:
            assert process.stdout
            announced = process.stdout.readline().split()
            if len(announced) < 3:
                raise Fault(f"A service of its own could not be started. {_last_words(log)}", code="CANNOT_START")
            yield announced[2], key
        finally:
            _end(process)
            shutil.rmtree(folder, ignore_errors=True)


def _environment(env: Mapping[str, str], folder: Path, key: str) -> dict[str, str]:
    passed_on = {name: env[name] for name in (*_PASSED_ON, *_SETTINGS) if name in env}
    entry = f"private:{hashlib.sha256(key.encode()).hexdigest()}"
    own = {"DATA_DIR": str(folder), "HOME": str(folder), "PORT": "0", "API_KEYS": entry, "PYTHONPATH": str(ROOT)}
    return {**passed_on, **own, "LOG_LEVEL": "WARNING"}


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    assert process.stdout
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        process.stdout.close()


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else "It said nothing."


def serve(env: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Become the service of this machine. Does not return."""
    path = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "handlers.local"]
    os.execve(sys.executable, command, {**env, **settings, "PYTHONPATH": path})  # noqa: S606 - no shell
