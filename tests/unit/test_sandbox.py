"""The rules of the sandbox, what the canary says of them here, and what is done where they do not hold."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.worker import landlock, process, sandbox, seccomp
from core.worker.sandbox import Folder, Layers, NoSandbox
from handlers import batch_worker
from support import containment
from support.service import Service, ServiceFailed, running

HOLDS = Layers(landlock=7, seccomp=True, uid=65534)
LEAKS = Layers(landlock=0, seccomp=True, uid=0, escaped=("read", "write"))
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="NOT TESTED: this kernel has no Landlock")


@needs_landlock
def test_canary_finds_that_every_layer_holds_here(tmp_path: Path) -> None:
    with process.canary(tmp_path) as found:
        layers = found()

    assert layers == Layers(landlock=landlock.abi(), seccomp=True, uid=sandbox.possible_uid())
    assert list(tmp_path.iterdir()) == []


def test_uid_is_another_only_where_the_worker_is_root() -> None:
    assert sandbox.possible_uid() == (sandbox.UID if os.geteuid() == 0 else 0)


@pytest.mark.parametrize("layers", [HOLDS, LEAKS, Layers()])
def test_layers_survive_the_way_to_a_worker(layers: Layers) -> None:
    assert Layers.read(layers.spelled()) == layers


def test_canary_that_does_not_answer_means_that_nothing_holds() -> None:
    assert not Layers.read(None).complete


@pytest.mark.parametrize(
    ("layers", "mode", "said"),
    [
        (HOLDS, "strict", "strict: landlock 7, seccomp, uid 65534"),
        (HOLDS, "auto", "strict: landlock 7, seccomp, uid 65534"),
        (HOLDS, "degraded", "strict: landlock 7, seccomp, uid 65534"),
        (Layers(landlock=2, seccomp=True), "auto", "strict: landlock 2, seccomp, the worker's uid"),
        (
            LEAKS,
            "degraded",
            "degraded: no landlock, seccomp, the worker's uid, "
            "a file outside can be read, a file outside can be written",
        ),
        (Layers(seccomp=True), "auto", "degraded: no landlock, seccomp, the worker's uid"),
    ],
)
def test_admitted_says_what_holds(layers: Layers, mode: str, said: str) -> None:
    assert sandbox.admitted(layers, mode) == said


@pytest.mark.parametrize(
    ("layers", "mode"),
    [
        (LEAKS, "strict"),
        (Layers(landlock=7), "strict"),
        (Layers(landlock=7, seccomp=True, escaped=("unix",)), "auto"),
        (Layers.read(None), "strict"),
    ],
)
def test_strict_does_not_work_without(layers: Layers, mode: str) -> None:
    with pytest.raises(NoSandbox, match="set SANDBOX=degraded"):
        sandbox.admitted(layers, mode)


def test_strict_worker_is_misconfigured_without(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    env = {"TASK_ID": "t", "DATA_DIR": str(tmp_path), "SANDBOX": "strict", "SANDBOX_LAYERS": LEAKS.spelled()}

    assert batch_worker.main(env) == batch_worker.EXIT_MISCONFIGURED

    assert (
        "The worker cannot start: the containment of ffmpeg does not hold here (no landlock" in capfd.readouterr().err
    )


# A kernel without Landlock, played by a filter that knows of no such system calls.
WITHOUT_LANDLOCK = """
    import ctypes, os, sys
    from core.worker import kernel
    from core.worker.seccomp import _Instruction, _Program
    steps = [(0x20, 0, 0, 0), (0x35, 0, 2, 444), (0x35, 1, 0, 447), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7FFF0000)]
    program = _Program(len(steps), (_Instruction * len(steps))(*(_Instruction(*step) for step in steps)))
    kernel.no_new_privileges()
    kernel.prctl(22, 2, ctypes.byref(program))
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@contextmanager
def without_landlock(tmp_path: Path, *arguments: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    env = {**os.environ, "DATA_DIR": str(tmp_path), "PORT": "0", **settings}
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_LANDLOCK), *arguments]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_strict_service_does_not_start_without_landlock(tmp_path: Path) -> None:
    with without_landlock(tmp_path, "-m", "handlers.local", SANDBOX="strict") as service:
        _, said = service.communicate(timeout=120)

    assert "The service cannot start: the containment of ffmpeg does not hold here (no landlock" in said


def test_service_without_landlock_says_that_it_is_degraded(tmp_path: Path) -> None:
    import httpx

    with without_landlock(tmp_path, "-m", "handlers.local") as service:
        assert service.stdout is not None
        address = service.stdout.readline().split()[2]
        health = httpx.get(f"{address}/ffmpeg/health", trust_env=False, timeout=60).json()
        service.terminate()
        _, log = service.communicate(timeout=120)

    sandbox_part = health["checks"]["sandbox"]
    assert sandbox_part["ready"]
    assert sandbox_part["detail"].startswith("degraded: no landlock, seccomp, ")
    assert "a file outside can be read" in sandbox_part["detail"]
    assert '"WARNING"' in log
    assert "degraded: no landlock" in log


@needs_landlock
def test_health_says_what_contains_ffmpeg(tmp_path: Path) -> None:
    with running(tmp_path, SANDBOX="strict") as service:
        checks = checked(service)
    assert checks["sandbox"] == {"ready": True, "detail": f"strict: {containment.found()}"}


def checked(service: Service) -> dict[str, object]:
    checks: dict[str, object] = service.http.get("/ffmpeg/health").json()["checks"]
    return checks


def test_service_refuses_an_unknown_mode(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match="SANDBOX='off'"), running(tmp_path, SANDBOX="off"):
        pass


def test_task_folder_lets_in_whom_it_must(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "task")
    sandbox.make(folder, Layers(uid=sandbox.possible_uid()))

    modes = {path.name: (path.stat().st_mode & 0o777, path.stat().st_uid) for path in folder.root.iterdir()}
    if os.geteuid() == 0:
        assert modes == {"in": (0o750, 0), "out": (0o700, sandbox.UID), "tmp": (0o700, sandbox.UID)}
    else:
        assert modes == dict.fromkeys(("in", "out", "tmp"), (0o700, os.geteuid()))


def test_every_denied_call_has_a_number_for_both_kinds_of_machine() -> None:
    for column in (0, 1):
        numbers = list(seccomp._denied(column, memfd=False))
        assert len(numbers) == len(set(numbers))
        assert len(numbers) > 90


def test_cleared_folder_keeps_what_came_in_and_nothing_that_was_written(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "task")
    sandbox.make(folder, sandbox.Layers())
    kept = folder.inputs / "i0.mp4"
    for path in (kept, folder.outputs / "out.mp4", folder.temporary / "pass.log"):
        path.touch()
    (folder.outputs / "sub").mkdir()
    (folder.outputs / "sub" / "a.ts").touch()
    (folder.outputs / "link").symlink_to(tmp_path)

    sandbox.clear(folder)

    left = [path for path in folder.root.rglob("*") if not path.is_dir()]
    assert (left, tmp_path.exists()) == ([kept], True)
