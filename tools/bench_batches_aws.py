"""A part of `make bench`: what it takes to register 10,000 tasks as a batch through the Lambda function.

moto's server plays AWS, over real HTTP, in this process; the function and, as its peer, boto3's batch_writer that puts
10,000 rows run in processes of their own, in turns. Their CPU is what the kernel has counted for them: read the ratio.
The answers of the index are made here, for moto takes minutes for them.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from core import record
from core.batch import MOST_TASKS
from core.task import Status
from support import aws_faults, batch_index, lambda_process, moto_server
from support.aws_faults import Faults
from support.builders import task_in
from support.lambda_process import LambdaProcess
from support.moto_server import Moto
from support.submitted import asked

REPEATS = int(os.environ.get("BENCH_REPEATS", "5"))
# Rows as the store writes them for tasks that are registered one by one, and put by what boto3 has for that.
BATCH_WRITER = """
import json
import resource
import sys
from uuid import uuid4

import boto3

item = json.loads(sys.argv[2])
table = boto3.resource("dynamodb").Table(sys.argv[1])
table.load()
before = resource.getrusage(resource.RUSAGE_SELF)
with table.batch_writer() as writer:
    for number in range(int(sys.argv[3])):
        writer.put_item(Item={**item, "task_id": str(uuid4()), "listed_at": f"{number:017}#{uuid4()}"})
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""
ITEM = {"version": 1, "status": "pending", "created_at": 1795176000, "listed_shard": "0", "expires": 1797768000}


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float


def main() -> None:
    print(f"A batch of {MOST_TASKS:,} tasks on AWS, as moto plays it, {REPEATS} repeats, medians")
    with tempfile.TemporaryDirectory() as folder, moto_server.running() as aws:
        aws.reset()
        with aws_faults.serving(aws.url) as proxy, function(aws, proxy, Path(folder)) as api:
            before = memory_mib(api)
            registered, peers, shown = [], [], []
            for _ in range(REPEATS):
                proxy.calls.clear()
                cost, batch_id = register(api)
                calls = ", ".join(f"{name} {count}" for name, count in sorted(named(proxy).items()))
                registered.append(cost)
                shown.append(show(api, proxy, batch_id))
                peers.append(batch_writer(aws))
            ours, peer, seen = (median(costs) for costs in (registered, peers, shown))
            print(f"  registering     {ours.seconds:6.3f} s   CPU {ours.cpu_seconds:6.3f} s   {calls}")
            print(f"  batch_writer    {peer.seconds:6.3f} s   CPU {peer.cpu_seconds:6.3f} s   of as many rows")
            print(f"  ratio of CPU    {ours.cpu_seconds / peer.cpu_seconds:6.3f}")
            print(f"  showing it      {seen.seconds:6.3f} s   CPU {seen.cpu_seconds:6.3f} s   with a row for each task")
            print(f"  memory          {before:6.0f} MiB before, {memory_mib(api):.0f} MiB at most")
    print()


@contextmanager
def function(aws: Moto, proxy: Faults, folder: Path) -> Iterator[LambdaProcess]:
    """Warm, with all its clients made."""
    env = {**aws.env, **moto_server.SETTINGS, "AWS_ENDPOINT_URL": proxy.url, "LOG_LEVEL": "WARNING"}
    with lambda_process.started(env, folder) as api:
        register(api, count=10)
        yield api


def register(api: LambdaProcess, count: int = MOST_TASKS) -> tuple[Cost, str]:
    body = {
        "inputs": [f"https://media.example.com/2026/footage/camera-{number:05}.mp4?v=1" for number in range(count)],
        "command": "-i {name} -c:v libx264 -crf 23 -c:a aac {stem}-web.mp4",
        "output_filename": "{stem}-web.mp4",
    }
    began, used = time.perf_counter(), cpu_seconds(api)
    status, answer = asked(api, "POST", "/ffmpeg/batches", body)
    cost = Cost(time.perf_counter() - began, cpu_seconds(api) - used)
    if status != 202:
        sys.exit(f"The batch was answered with {status}: {answer}")
    return cost, answer["batch_id"]


def show(api: LambdaProcess, proxy: Faults, batch_id: str) -> Cost:
    like = task_in(Status.COMPLETED, batch_id=batch_id)
    proxy.on("Query", *batch_index.answers(batch_id, MOST_TASKS, like=like))
    began, used = time.perf_counter(), cpu_seconds(api)
    _, answer = asked(api, "GET", f"/ffmpeg/batches/{batch_id}")
    cost = Cost(time.perf_counter() - began, cpu_seconds(api) - used)
    if answer["counts"]["completed"] != MOST_TASKS:
        sys.exit(f"The batch was shown as {answer}")
    return cost


def batch_writer(aws: Moto) -> Cost:
    """Into an empty table. Its seconds have the start of its process in them, its CPU has not."""
    aws.reset()
    item = {**ITEM, "body": record.dumps(task_in(Status.PENDING))}
    began = time.perf_counter()
    written = subprocess.run(
        [sys.executable, "-c", BATCH_WRITER, moto_server.TABLE, json.dumps(item), str(MOST_TASKS)],
        env={**os.environ, **aws.env},
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - began
    aws.reset()
    return Cost(took, float(written.stdout))


def named(proxy: Faults) -> dict[str, int]:
    """The calls by the names that AWS has for them."""
    return {("PutObject" if name.startswith("/") else name): count for name, count in proxy.calls.items()}


def median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))


def cpu_seconds(api: LambdaProcess) -> float:
    fields = Path(f"/proc/{api.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(api: LambdaProcess) -> float:
    lines = Path(f"/proc/{api.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
