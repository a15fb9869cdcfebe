"""Processes killed with SIGKILL at named points in the shape of AWS: each task ends all the same, once.

As test_crash_points.py; each case has a table of its own. The function and the worker are the real ones, the job is
run with the environment that AWS Batch would give it, and sweeps have a later clock instead of being waited for.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import boto3
import pytest

from core import aftermath, sweep
from core.aws import client as clients
from core.aws.dispatcher import BatchDispatcher
from core.aws.object_store import S3ObjectStore
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.execute import execute
from core.ports import Services
from core.register import Registration, register
from core.settings import Settings
from core.task import Task
from support import crashing, lambda_process, leftovers, moto_server, s3_proxy
from support.crash_cases import (
    AT_ONCE,
    BY_THE_API,
    BY_THE_WORKER,
    EVER,
    MUCH_LATER,
    POINTS,
    SOON,
    Result,
    check,
    check_notice,
    crash,
    noticed,
    registration,
    serving_a_clip,
    wait_until_downloading,
)
from support.moto_server import Moto
from support.source_server import SourceServer

ON_AWS = (*POINTS, "sending a part")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceServer]:
    with serving_a_clip(tmp_path_factory.mktemp("media")) as server:
        yield server


@dataclass(frozen=True, kw_only=True)
class Case:
    folder: Path
    source: SourceServer
    moto: Moto
    table: str

    def create_table(self) -> None:
        """By a client that is patient: what is told to be created twice is refused."""
        boto3.client("dynamodb").create_table(TableName=self.table, **moto_server.TABLE_SCHEMA)

    def run(self, point: str) -> Result:
        task_id = self._until_the_api_has_done(registration(self.source, point), point)
        jobs = self._jobs(task_id)
        if point in (*BY_THE_WORKER, "lost"):
            self._crash_worker(task_id, jobs.pop(), "claimed" if point == "lost" else point)
        if point == "sending a part":
            self._kill_worker_that_sends_parts(task_id, jobs.pop())
        if point == "lost":
            assert self._run("sweep", str(SOON.total_seconds()), point=point) == -signal.SIGKILL
        task = self._mended(task_id, jobs)
        now = datetime.now(UTC) + MUCH_LATER
        aftermath.sweep(self.services, now=now)
        sweep.sweep(self.services, now=now)
        with contextlib.suppress(AssertionError):  # what is left in the end is for the check to tell
            leftovers.seconds_until(lambda: not leftovers.processes(self.folder), most=10)
        return Result(
            reached=crashing.reached(self.folder / "reached"),
            task=task,
            later=self.services.store.get(task_id),
            objects=self._objects(task_id),
            processes=leftovers.processes(self.folder),
            scratch=[name for name in leftovers.scratch(self.folder / ".data" / "scratch") if "canary" not in name],
            uploads=self._uploads(task_id),
        )

    @cached_property
    def services(self) -> Services:
        return Services(
            store=DynamoTaskStore(self.table),
            records=DynamoRecordStore(self.table),
            objects=S3ObjectStore(moto_server.BUCKET),
            dispatcher=BatchDispatcher(moto_server.places()),
        )

    def _until_the_api_has_done(self, wanted: Registration, point: str) -> str:
        """The id of the task, registered and executed, or what of it was done before the function died."""
        if point in BY_THE_API:
            return self._function_dies(wanted, point)
        task = self._registered(wanted)
        execute(self.services, task.task_id, now=datetime.now(UTC))
        if point == "canceled":
            self._canceled_by_a_function_that_dies(task, wanted)
        return task.task_id

    def _registered(self, wanted: Registration) -> Task:
        settings = Settings.from_env(moto_server.SETTINGS)
        task_id, now = str(uuid4()), datetime.now(UTC)
        return register(
            self.services.store, wanted, settings=settings, task_id=task_id, correlation_id="c", now=now
        ).task

    def _function_dies(self, wanted: Registration, point: str) -> str:
        body = {
            "command": wanted.command,
            "input_files": dict(wanted.input_files),
            "output_files": list(wanted.output_files),
        }
        if point == "registered":
            self._invoke("register", point, body=body)
            (task,) = self.services.store.due(EVER, limit=10, live=False)
            execute(self.services, task.task_id, now=datetime.now(UTC))
        else:
            task = self._registered(wanted)
            self._invoke("execute", point, task_id=task.task_id)
        return task.task_id

    def _canceled_by_a_function_that_dies(self, task: Task, wanted: Registration) -> None:
        (job,) = self._jobs(task.task_id)
        with self._worker(job, "none") as worker:
            wait_until_downloading(self.services.store, self.source, task.task_id, wanted.input_files["in.mp4"])
            assert self._run("cancel", task.task_id, point="canceled") == -signal.SIGKILL
            # nobody tells the worker: it learns so by itself
            assert worker.wait(120) == 0
        assert '"fence_lost"' in (self.folder / "worker.log").read_text()

    def _invoke(self, name: str, point: str, *, task_id: str = "", body: Any = None) -> None:
        event = (lambda_process.ROOT / "events" / f"{name}.json").read_text()
        placed = json.loads(event.replace("00000000-0000-4000-8000-000000000000", task_id or "unknown"))
        if body is not None:
            placed |= {"body": json.dumps(body), "isBase64Encoded": False}
        program = ("-m", "support.crashing", "function")
        with (
            lambda_process.started(self._env(point), self.folder, program=program) as function,
            pytest.raises(AssertionError, match="the function ended"),
        ):
            function.invoke(placed)

    def _crash_worker(self, task_id: str, job: Mapping[str, Any], point: str) -> None:
        with self._worker(job, point) as worker:
            if point == "downloading":
                url = self.services.store.get(task_id).input_files["in.mp4"]
                wait_until_downloading(self.services.store, self.source, task_id, url)
                worker.kill()
            assert worker.wait(120) == -signal.SIGKILL

    def _kill_worker_that_sends_parts(self, task_id: str, job: Mapping[str, Any]) -> None:
        """Its first part arrives, the next ones are on their way until it is gone."""
        sending = Event()
        with s3_proxy.proxying(self.moto.url) as s3:
            s3.once("UploadPart", s3_proxy.passes)
            s3.always("UploadPart", s3_proxy.held(sending))
            with self._worker(job, "none", AWS_ENDPOINT_URL_S3=s3.url):
                assert sending.wait(120)
                assert self._uploads(task_id)

    def _mended(self, task_id: str, jobs: list[dict[str, Any]]) -> Task:
        """The task, after sweeps and the jobs that they ask for, until it has ended."""
        done: set[str] = set()
        for round_ in range(1, 5):
            for job in jobs:
                with self._worker(job, "none") as worker:
                    assert worker.wait(120) == 0
                done.add(job["jobId"])
            if (task := self.services.store.get(task_id)).status.ended:
                return task
            sweep.sweep(self.services, now=datetime.now(UTC) + round_ * SOON)
            jobs = [job for job in self._jobs(task_id) if job["jobId"] not in done]
            jobs = [job for job in jobs if job["jobId"] == self.services.store.get(task_id).job_id]
        raise AssertionError(f"the task has not ended: {self.services.store.get(task_id)}")

    def _jobs(self, task_id: str) -> list[dict[str, Any]]:
        batch = clients.batch()
        named = f"task-{task_id}"
        listed = batch.list_jobs(jobQueue=moto_server.QUEUE, filters=[{"name": "JOB_NAME", "values": [named]}])
        ids = [job["jobId"] for job in listed["jobSummaryList"] if job["jobName"] == named]
        return [dict(job) for job in batch.describe_jobs(jobs=ids)["jobs"]] if ids else []

    @contextlib.contextmanager
    def _worker(self, job: Mapping[str, Any], point: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The job as a process, which is to crash; killed at last."""
        own = {pair["name"]: pair["value"] for pair in job["container"]["environment"]}
        with (self.folder / "worker.log").open("ab") as log:
            program = [sys.executable, "-m", "support.crashing", "worker"]
            env = {**self._env(point), **own, "TASK_TABLE": self.table, **more}
            worker = subprocess.Popen(program, env=env, cwd=self.folder, stderr=log, stdout=log)
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()

    def _run(self, *arguments: str, point: str) -> int:
        program = [sys.executable, "-m", "support.crashing", *arguments]
        return subprocess.run(program, env=self._env(point), cwd=self.folder, timeout=120, check=False).returncode

    def _env(self, point: str) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "TASK_TABLE": self.table, "AWS_LAMBDA_FUNCTION_NAME": "api"}
        return {**self.moto.env, **moto_server.SETTINGS, **own, **crash(self.folder, [point])}

    def _objects(self, task_id: str) -> list[str]:
        found = self._s3.list_objects_v2(Bucket=moto_server.BUCKET, Prefix=f"outputs/{task_id}/")
        return sorted(entry["Key"] for entry in found.get("Contents", ()))

    def _uploads(self, task_id: str) -> list[str]:
        """What is on its way in parts."""
        listed = self._s3.list_multipart_uploads(Bucket=moto_server.BUCKET).get("Uploads", ())
        return [upload["Key"] for upload in listed if task_id in upload["Key"]]

    @cached_property
    def _s3(self) -> Any:
        return clients.s3()


@pytest.fixture(scope="module")
def place(moto: Moto) -> Moto:
    """AWS, empty at first; all that is here goes on in it side by side, and each in a table of its own."""
    moto.reset()
    return moto


@pytest.fixture(scope="module")
def there(
    place: Moto, source: SourceServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Future[Result]]]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        folders = [tmp_path_factory.mktemp("case") for _ in ON_AWS]
        cases = [
            Case(folder=folder, source=source, moto=place, table=f"tasks-{number}")
            for number, folder in enumerate(folders)
        ]
        for case in cases:
            case.create_table()
        futures = {point: threads.submit(case.run, point) for point, case in zip(ON_AWS, cases, strict=True)}
        # Between two tests pytest changes the environment, which these threads read.
        wait(futures.values())
        yield futures.__getitem__


@pytest.mark.parametrize("point", ON_AWS)
def test_task_ends_once_on_aws_after_a_crash_at(there: Callable[[str], Future[Result]], point: str) -> None:
    check(there(point).result(), point)


def test_notice_is_sent_after_a_crash_before_it_was_on_aws(place: Moto, tmp_path: Path) -> None:
    case = Case(folder=tmp_path, source=None, moto=place, table=moto_server.TABLE)  # type: ignore[arg-type]
    check_notice(*noticed(case.services, {**place.env, **moto_server.SETTINGS}, tmp_path))
