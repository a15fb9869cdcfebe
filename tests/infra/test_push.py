"""infra/push.sh, with programs in the place of Docker, git and the AWS command line that say how they were called."""

import os
import subprocess
from pathlib import Path

import pytest

from support.lambda_process import ROOT

URI = "123456789012.registry.example/transcoder"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def push(tmp_path: Path, log: Path, *, exists: bool, changed: bool = False) -> subprocess.CompletedProcess[str]:
    programs = tmp_path / "bin"
    programs.mkdir()
    answers = {
        "docker": "cat >/dev/null",
        "git": f"case $1 in rev-parse) echo 0123456789ab;; status) echo '{'M file' if changed else ''}';; esac",
        "aws": "case $2 in"
        f" describe-repositories) [ -e '{log}.made' ] || {str(exists).lower()} && echo {URI};;"
        f" create-repository) touch '{log}.made';; get-login-password) echo s3cr3t;; esac",
    }
    for name, answer in answers.items():
        (programs / name).write_text(f'#!/bin/sh\n[ {name} = git ] || echo "{name} $*" >>"{log}"\n{answer}\n')
        (programs / name).chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        [ROOT / "infra" / "push.sh"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def test_the_image_is_named_by_the_commit_and_pushed(tmp_path: Path, log: Path) -> None:
    done = push(tmp_path, log, exists=True)
    assert (done.returncode, done.stdout) == (0, f"WorkerImage={URI}:0123456789ab\n")
    calls = log.read_text().splitlines()
    assert calls[0].startswith("aws ecr describe-repositories --repository-names transcoder ")
    assert calls[1] == f"docker build --platform linux/amd64 --file container/Dockerfile --tag {URI}:0123456789ab ."
    # Two ends of one pipe.
    assert sorted(calls[2:4]) == [
        "aws ecr get-login-password",
        "docker login --username AWS --password-stdin 123456789012.registry.example",
    ]
    assert calls[4:] == [f"docker push {URI}:0123456789ab"]
    assert "s3cr3t" not in done.stdout + done.stderr


def test_a_repository_that_is_not_there_is_made_with_tags_that_stay(tmp_path: Path, log: Path) -> None:
    done = push(tmp_path, log, exists=False)
    assert done.returncode == 0, done.stderr
    (made,) = [line for line in log.read_text().splitlines() if "create-repository" in line]
    assert "--image-tag-mutability IMMUTABLE" in made


def test_what_is_not_committed_is_not_pushed(tmp_path: Path, log: Path) -> None:
    done = push(tmp_path, log, exists=True, changed=True)
    assert done.returncode == 1
    assert "commit" in done.stderr
    assert not log.exists()
