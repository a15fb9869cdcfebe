"""The check that a machine is fit to run tasks, run as it is run there: as a program."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "SCRATCH_DIR": str(folder), **settings}
    argv = [sys.executable, "-m", "handlers.check"]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=240, check=False)


def program(folder: Path, script: str) -> str:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_fit_machine_says_what_it_has_in_one_line(tmp_path: Path) -> None:
    done = check(tmp_path)

    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    facts = json.loads(done.stdout)
    assert set(facts) == {"ffmpeg", "encoders", "gpu", "sandbox"}
    assert set(facts["gpu"]) == {"cards", "driver"}
    assert facts["encoders"] == ["aac", "h264_nvenc", "hevc_nvenc", "libopus", "libsvtav1", "libx264", "libx265"]
    assert list(tmp_path.iterdir()) == []


def test_encoder_that_is_missing_is_named(tmp_path: Path) -> None:
    listing = "".join(f" V....D {name} x\n" for name in ("libx264", "libx265", "libopus"))
    done = check(tmp_path, FFMPEG_PATH=program(tmp_path, f"cat <<END\n{listing}END"))

    assert (done.returncode, done.stdout) == (78, "")
    assert "its ffmpeg has no libsvtav1, aac, which" in done.stderr


def test_ffmpeg_that_does_not_run_is_said(tmp_path: Path) -> None:
    done = check(tmp_path, FFMPEG_PATH=program(tmp_path, "exit 127"))

    assert (done.returncode, done.stdout) == (78, "")
    assert "does not run" in done.stderr
    assert "FFMPEG_PATH" in done.stderr


def test_setting_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    done = check(tmp_path, SANDBOX="perhaps")

    assert (done.returncode, done.stdout) == (78, "")
    assert "SANDBOX='perhaps'" in done.stderr


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, where a folder is to be")
    done = check(tmp_path / "taken")

    assert (done.returncode, done.stdout) == (78, "")
    assert "SCRATCH_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_driver_that_does_not_answer_as_nvidias_is_said(tmp_path: Path) -> None:
    # given a library of the driver's name that is none
    (libc,) = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libc.so" in line or "/libc-" in line
    }
    (tmp_path / "libcuda.so.1").symlink_to(libc)

    done = check(tmp_path / "scratch", LD_LIBRARY_PATH=str(tmp_path))

    assert json.loads(done.stdout)["gpu"]["driver"] == "the driver does not answer"
