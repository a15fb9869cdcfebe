"""What the image holds and what a container of it may do, seen from the inside."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import image
from support.image import Image

ENCODERS = ["aac", "h264_nvenc", "hevc_nvenc", "libopus", "libsvtav1", "libx264", "libx265"]

# Prints one line of JSON: who it is, and for each path whether a file can be made there.
INSIDE = """
import json, os, pathlib, sys
def tried(what):
    try:
        what()
    except OSError as error:
        return error.strerror
    return "done"
def run(path):
    pathlib.Path(path).write_text("#!/bin/sh\\n")
    os.chmod(path, 0o755)
    return tried(lambda: os.posix_spawn(path, [path], {}))
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "cwd_on_path": [path for path in sys.path if path.startswith("/work")],
    "capabilities": status["CapPrm"], "bounding": status["CapBnd"],
    "no_new_privileges": status["NoNewPrivs"], "seccomp": status["Seccomp"],
    "written": {path: tried(lambda: open(f"{path}/new", "w").close())
                for path in ("/", "/app/src", "/opt/venv", "/etc", "/tmp", "/usr", "/work")},
    "run": run(os.path.join("/work", "program")),
}))
"""


def inside(worker: Image, folder: Path, *command: str, **env: str) -> tuple[int, str]:
    """The exit code of a command in a container, and all that it says."""
    with image.started(worker, folder, env=env, command=command) as container:
        return container.wait(60), container.said()


def test_container_is_confined_to_its_work_folder(worker: Image, tmp_path: Path) -> None:
    code, said = inside(worker, tmp_path, "python", "-c", INSIDE)

    assert code == 0, said
    read_only = "Read-only file system"
    assert json.loads(said) == {
        "pid": 1,
        "uid": 10001,
        "gid": 10001,
        "groups": [],
        "cwd_on_path": [],
        "capabilities": "0" * 16,
        "bounding": "0" * 16,
        "no_new_privileges": "1",
        "seccomp": "2",
        "written": {
            **dict.fromkeys(("/", "/app/src", "/opt/venv", "/etc", "/tmp", "/usr"), read_only),
            "/work": "done",
        },
        "run": "Permission denied",
    }


def test_image_without_a_read_only_root_is_not_its_users_either(worker: Image) -> None:
    owned = [path for path in files(worker, "/app", "/opt/venv", "/etc", "/usr/bin") if path.lstat().st_uid != 0]

    assert owned == []
    assert owner(worker.root / "work") == (10001, 10001)


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_check_finds_the_image_fit_and_says_what_it_has(worker: Image, tmp_path: Path) -> None:
    code, said = inside(worker, tmp_path, "python", "-m", "handlers.check")

    assert code == 0, said
    facts: dict[str, Any] = json.loads(said)
    version, sandbox = facts.pop("ffmpeg"), facts.pop("sandbox")
    assert facts == {"encoders": ENCODERS, "gpu": {"cards": [], "driver": "there is no libcuda.so.1"}}
    assert version[0].isdigit()
    # ffmpeg is contained by Landlock and seccomp inside the container, which has no rights to give away
    assert sandbox.startswith("strict: landlock ")
    assert sandbox.endswith(", seccomp, the worker's uid")
    assert list((tmp_path / "work").iterdir()) == []


def test_check_names_what_another_ffmpeg_lacks(worker: Image, tmp_path: Path) -> None:
    code, said = inside(worker, tmp_path, "python", "-m", "handlers.check", FFMPEG_PATH="/bin/true")

    assert code == 78
    assert said == (
        "This machine cannot run tasks: its ffmpeg has no libx264, libx265, libsvtav1, aac, libopus, which the service "
        "promises; set FFMPEG_PATH to a build that has.\n"
    )


def test_image_says_how_it_is_to_be_run(worker: Image) -> None:
    config = dict(worker.config)
    env = dict(pair.split("=", 1) for pair in config["Env"])

    assert (config["User"], config["Cmd"], config.get("Entrypoint")) == (
        "10001:10001",
        ["python", "-m", "handlers.batch_worker"],
        None,
    )
    assert (config["WorkingDir"], list(config["Volumes"]), config["StopSignal"]) == ("/app", ["/work"], "SIGTERM")
    assert (env["NVIDIA_DRIVER_CAPABILITIES"], env["NVIDIA_VISIBLE_DEVICES"]) == ("compute,video,utility", "all")
    assert (env["PYTHONPATH"], env["PYTHONUNBUFFERED"], env["SCRATCH_DIR"]) == ("/app/src", "1", "/work")


def test_image_holds_what_runs_and_nothing_that_installs_or_tests(worker: Image) -> None:
    present = {path.name for path in files(worker, "/opt/venv/bin")}
    packages = packages_of(worker)

    assert {name for name in present if not name.startswith("python")} == set()
    assert [name for name in ("pip", "setuptools", "pytest", "fastapi", "uvicorn") if (packages / name).exists()] == []
    assert {path.name for path in (packages / "botocore/data").iterdir() if path.is_dir()} >= {
        "s3",
        "dynamodb",
        "batch",
    }
    assert len([path for path in (packages / "botocore/data").iterdir() if path.is_dir()]) < 10
    assert {path.name for path in (worker.root / "app").iterdir()} == {"src"}
    # the folders in which ffmpeg's plug-in hosts look, which are compiled into it
    hosts = ("/usr/lib/frei0r-1", "/usr/local/lib/frei0r-1", "/usr/lib/lv2", "/usr/local/lib/lv2", "/usr/lib/ladspa")
    assert [folder for folder in hosts if (worker.root / folder[1:]).exists()] == []


def test_all_code_is_compiled(worker: Image) -> None:
    sources = [path for path in files(worker, "/app/src") if path.suffix == ".py"]
    sources += [path for path in packages_of(worker).rglob("*.py") if "botocore" in path.parts]

    assert len(sources) > 100
    assert [path for path in sources if not compiled(path)] == []


def compiled(source: Path) -> bool:
    return any((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"))


def test_ffmpeg_finds_every_library_that_it_needs(worker: Image, tmp_path: Path) -> None:
    (program,) = packages_of(worker).glob("imageio_ffmpeg/binaries/ffmpeg-*")

    code, said = inside(worker, tmp_path, "/" + str(program.relative_to(worker.root)), "-hide_banner", "-version")

    assert (code, said.split()[:2]) == (0, ["ffmpeg", "version"]), said


def packages_of(worker: Image) -> Path:
    (packages,) = (worker.root / "opt/venv/lib").glob("python3.*/site-packages")
    return packages


def files(worker: Image, *folders: str) -> Sequence[Path]:
    return [path for folder in folders for path in (worker.root / folder[1:]).rglob("*")]
