"""The local service as its own process on a free port: for the journeys, the demo and the benchmark."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from core.local.task_store import SqliteTaskStore
from core.task import Task

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 60  # only a service that hangs takes so long
# Each request has a connection of its own: one that was idle for five seconds, the service may be closing just now.
AFRESH = httpx.Limits(max_keepalive_connections=0)
PYTHONPATH = f"{ROOT / 'src'}:{ROOT / 'tests'}"
ENDED = frozenset({"completed", "failed", "canceled"})
PROGRAM = ("-m", "handlers.local")


class ServiceFailed(Exception):
    """The service did not do what it must; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Service:
    process: "subprocess.Popen[str]"
    http: httpx.Client
    data_dir: Path
    log: Path

    def register(self, command: str, input_files: Mapping[str, str], *outputs: str, execute: bool = True) -> str:
        """The id of a new task, executed unless told otherwise."""
        body = {"command": command, "input_files": dict(input_files), "output_files": list(outputs)}
        answer = self.http.post("/ffmpeg/register", json=body, params={"execute": execute})
        if answer.status_code != 201:
            raise ServiceFailed(answer.text)
        task_id: str = answer.json()["task_id"]
        return task_id

    def status(self, task_id: str) -> dict[str, Any]:
        task: dict[str, Any] = self.http.get(f"/ffmpeg/status/{task_id}").raise_for_status().json()
        return task

    def execute(self, task_id: str) -> None:
        self.http.post(f"/ffmpeg/execute/{task_id}").raise_for_status()

    def cancel(self, task_id: str) -> httpx.Response:
        return self.http.post(f"/ffmpeg/cancel/{task_id}")

    def stored(self, task_id: str) -> Task:
        """The task as it is stored, with what the API does not show."""
        with contextlib.closing(SqliteTaskStore(self.data_dir / "tasks.db")) as store:
            return store.get(task_id)

    def follow(self, task_id: str, *, seconds: float = 120, every: float = 0.05) -> Iterator[dict[str, Any]]:
        """The task again and again, until it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            task = self.status(task_id)
            yield task
            if task["status"] in ENDED:
                return
            time.sleep(every)
        raise ServiceFailed(f"The task did not end within {seconds} s.\n{self.last_words()}")

    def ended(self, task_id: str, *, seconds: float = 120) -> dict[str, Any]:
        *_, task = self.follow(task_id, seconds=seconds)
        return task

    def until(self, task_id: str, stage: str) -> dict[str, Any]:
        """The task in that stage, where it must stay until the test lets it go on: others pass by unseen."""
        for task in self.follow(task_id):
            if task["stage"] == stage:
                return task
        raise ServiceFailed(f"The task ended without {stage}: {self.status(task_id)}")

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def running(data_dir: Path, *, program: Sequence[str] = PROGRAM, **settings: str) -> Iterator[Service]:
    """A service on `data_dir`, ended politely afterwards. Raises ServiceFailed when it does not start."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "service.log"
    env = {**os.environ, "PORT": "0", "DATA_DIR": str(data_dir), "PYTHONPATH": PYTHONPATH}
    # The sources of the tests are on loopback.
    env |= {"ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8", **settings}
    with log.open("ab") as log_file:
        process = subprocess.Popen(
            [sys.executable, *program],
            env=env,
            cwd=data_dir,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            process_group=0,
        )
    assert process.stdout is not None
    try:
        announced = process.stdout.readline()
        if not announced:
            raise ServiceFailed(f"The service did not start.\n{log.read_text()[-3000:]}")
        with httpx.Client(base_url=announced.split()[2], timeout=60, trust_env=False, limits=AFRESH) as http:
            yield Service(process, http, data_dir, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
