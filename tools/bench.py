"""`make bench`: what the service costs beside raw ffmpeg, and how fast its API answers, on this machine.

Every figure stands beside its peer, measured in the same run and in turns with it, because machines are noisy: read
the ratios. BENCH_REPEATS (default 5) sets how often each is measured; the median counts.
"""

import contextlib
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

import bench_batches
from core import record
from core.errors import CommandNotAllowed
from core.ffmpeg import validate
from core.local.task_store import SqliteTaskStore
from core.ports import Position
from core.task import Status
from core.worker import process, sandbox
from handlers.web import cursors
from support import api_server, containment
from support.builders import NOW, task_in
from support.cases import cases
from support.service import ROOT, Service, running
from support.source_server import MEDIA, serving

REPEATS = int(os.environ.get("BENCH_REPEATS", "5"))
ARGUMENTS = "-c:v libx264 -preset veryfast -crf 23 -c:a aac -ac 2 -b:a 128k -movflags +faststart"
LOAD_SECONDS = 4.0
CONNECTIONS = 8
LISTED = (100, 100_000)  # how many tasks are stored


def main() -> None:
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, ffmpeg {version()}, {REPEATS} repeats, medians\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        media = Path(folder) / "media"
        media.mkdir()
        clips = {"60 s": clip(media / "long.mp4", 60), "1 s": clip(media / "short.mp4", 1)}
        with serving(media) as source, running(Path(folder) / "service", LOG_LEVEL="WARNING") as started:
            # Asked fifty times a second: a connection for each look would be work beside the encode.
            http = httpx.Client(base_url=started.http.base_url, timeout=60, trust_env=False)
            service = replace(started, http=http)
            for name, path in clips.items():
                compare_with_raw(service, f"{source.url}/media/{path.name}", path, name)
            measure_api(service, f"{source.url}/media/short.mp4")
            http.close()
        measure_containment(clips["60 s"], Path(folder))
        measure_listing(Path(folder))
        bench_batches.measure(clips["1 s"], Path(folder) / "batch")
    measure_imports()
    measure_judging()


def version() -> str:
    return process.ffmpeg_version(process.find_ffmpeg(None))


def clip(path: Path, seconds: int) -> Path:
    """`seconds` of the real 720p footage, repeated where it is shorter."""
    loop = ["-stream_loop", "-1", "-i", str(MEDIA / "bigbuckbunny.mp4"), "-t", str(seconds), "-c", "copy", str(path)]
    subprocess.run([process.find_ffmpeg(None), "-nostdin", "-y", "-loglevel", "error", *loop], check=True)
    return path


def compare_with_raw(service: Service, url: str, path: Path, name: str) -> None:
    raw: list[float] = []
    tasks: list[tuple[float, dict[str, float]]] = []
    for _ in range(REPEATS):
        raw.append(timed(lambda: run_raw(path)))
        tasks.append(run_task(service, url))
    direct, ours = statistics.median(raw), statistics.median(seconds for seconds, _ in tasks)
    print(f"A task of {name} of 720p, submit to completed, against raw ffmpeg on the same local file")
    print(f"  raw ffmpeg   {direct:7.3f} s   ({min(raw):.3f} to {max(raw):.3f})")
    print(f"  task         {ours:7.3f} s   ({min(tasks)[0]:.3f} to {max(tasks, key=lambda task: task[0])[0]:.3f})")
    print(f"  ratio        {ours / direct:7.3f}     {ours - direct:+.3f} s")
    for part in tasks[0][1]:
        print(f"    {part:<11}{statistics.median(parts[part] for _, parts in tasks):7.3f} s")
    print()


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def run_raw(path: Path) -> None:
    output = path.with_suffix(".raw.mp4")
    command = [process.find_ffmpeg(None), "-nostdin", "-y", "-loglevel", "error", "-i", str(path)]
    subprocess.run([*command, *ARGUMENTS.split(), str(output)], check=True)
    output.unlink()


def run_task(service: Service, url: str) -> tuple[float, dict[str, float]]:
    """Seconds from before the request to the answer that says completed, and where they went."""
    began = time.perf_counter()
    task_id = service.register(f"-i in.mp4 {ARGUMENTS} out.mp4", {"in.mp4": url}, "out.mp4")
    *_, task = service.follow(task_id, every=0.02)
    took = time.perf_counter() - began
    if task["status"] != "completed":
        sys.exit(f"The task {task['status']}: {task['error']}")
    parts = {name.removesuffix("_seconds"): seconds for name, seconds in task["timings"].items()}
    return took, parts | {"the rest": took - sum(parts.values())}


def measure_api(service: Service, url: str) -> None:
    body = (
        '{"command": "-i in.mp4 -c:v libx264 out.mp4", "input_files": {"in.mp4": "%s"}, "output_filename": "out.mp4"}'
    )
    task_id = service.register("-i in.mp4 out.mp4", {"in.mp4": url}, "out.mp4", execute=False)
    print(f"The local server under {CONNECTIONS} connections, {LOAD_SECONDS:g} s each")
    for name, request in {
        "register": http_request("POST", "/ffmpeg/register", body % url),
        "status": http_request("GET", f"/ffmpeg/status/{task_id}"),
    }.items():
        took = sorted(load(service, request))
        p50, p99 = (took[int(len(took) * part)] * 1000 for part in (0.5, 0.99))
        print(f"  {name:<9} {len(took) / LOAD_SECONDS:7.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")
    print()


def http_request(method: str, path: str, body: str = "") -> bytes:
    headers = f"Host: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{method} {path} HTTP/1.1\r\n{headers}{body}".encode()


def load(service: Service, request: bytes) -> list[float]:
    """Send the request over and over on several connections; gives the seconds that each one took."""
    address = urlsplit(str(service.http.base_url))
    took: list[float] = []
    until = time.perf_counter() + LOAD_SECONDS

    def one_connection() -> None:
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            while time.perf_counter() < until:
                began = time.perf_counter()
                connection.sendall(request)
                if not answer(connection).startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                    raise RuntimeError("the API did not answer with success")
                took.append(time.perf_counter() - began)

    threads = [threading.Thread(target=one_connection) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def answer(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head


def measure_containment(source: Path, scratch: Path) -> None:
    """ffmpeg as a task runs it, with all layers and watchers and with none of them, in turns."""
    layers = containment.found()
    encode = [process.find_ffmpeg(None), "-nostdin", "-y", "-loglevel", "error", "-i", "../in/in.mp4"]
    programs = {"an encode": [*encode, *ARGUMENTS.split(), "out.mp4"], "a start": [*encode[:1], "-version"]}
    print(f"Containment ({layers}), on against off")
    for name, argv in programs.items():
        took: dict[bool, list[float]] = {True: [], False: []}
        for number in range(REPEATS if name == "an encode" else 10 * REPEATS):
            for contained in (True, False) if number % 2 else (False, True):
                took[contained].append(timed(lambda: run_contained(argv, source, scratch, contained)))  # noqa: B023
        on, off = statistics.median(took[True]), statistics.median(took[False])
        print(f"  {name:<10} on {on:7.3f} s   off {off:7.3f} s   ratio {on / off:6.3f}   {1000 * (on - off):+.1f} ms")
    canaries = statistics.median(timed(lambda: ask_canary(scratch)) for _ in range(REPEATS))
    print(f"  the canary {1000 * canaries:10.1f} ms, once when the service starts, or beside a lone worker's own start")
    print()


def run_contained(argv: list[str], source: Path, scratch: Path, contained: bool) -> None:
    layers = containment.found() if contained else containment.WITHOUT
    folder = containment.made(scratch / "task", layers)
    os.link(source, folder.inputs / "in.mp4")
    watched = process.Limits(
        seconds=600, stall_seconds=300, memory_bytes=2**40, folder_bytes=2**40, folders=(folder.outputs,)
    )
    rules = sandbox.for_ffmpeg(layers, argv[0], folder, max_file_bytes=2**40) if contained else sandbox.alone()
    ended = process.run(
        lambda pipe: argv,
        rules=rules,
        cwd=folder.outputs,
        env=sandbox.environment(home=str(folder.temporary)),
        on_line=lambda line: True,
        stop=threading.Event(),
        limits=watched if contained else process.Limits(seconds=600),
    )
    shutil.rmtree(folder.root)
    if ended.exit_code:
        sys.exit("\n".join(ended.log))


def ask_canary(scratch: Path) -> None:
    with process.canary(scratch) as found:
        found()


def measure_listing(folder: Path) -> None:
    """The same pages of a service with few tasks and of one with many, by turns, over HTTP."""
    pages: dict[str, Callable[[int], dict[str, str]]] = {
        "the first page": lambda count: {},
        "of one status": lambda count: {"status": "completed"},
        "a page in the middle": lambda count: {"cursor": cursor_after(count // 2)},
    }
    with contextlib.ExitStack() as stack:
        apis = {
            count: stack.enter_context(api_server.running(with_tasks(folder / str(count), count))) for count in LISTED
        }
        print(f"A page of 50 tasks, of {' and of '.join(f'{count:,}' for count in LISTED)}, p50 over HTTP")
        for name, query in pages.items():
            took: dict[int, list[float]] = {count: [] for count in LISTED}
            for _ in range(20 * REPEATS):
                for count, api in apis.items():
                    took[count].append(timed(lambda: api.http.get("/ffmpeg/tasks", params=query(count))))  # noqa: B023
            few, many = (statistics.median(times) * 1000 for times in took.values())
            print(f"  {name:<24} {few:6.2f} ms   {many:6.2f} ms   ratio {many / few:5.2f}")
    print()


def cursor_after(number: int) -> str:
    return cursors.written(Position(NOW - timedelta(seconds=number), "0"))


def with_tasks(data: Path, count: int) -> Path:
    """A data folder with so many tasks, a second apart; one of a hundred has failed, the others are completed."""
    with contextlib.closing(SqliteTaskStore(data / "tasks.db")) as store:
        store.check()
    kinds = [task_in(Status.COMPLETED if number else Status.FAILED) for number in range(100)]
    bodies = [record.dumps(kind) for kind in kinds]
    rows = []
    for number in range(count):
        kind, body = kinds[number % 100], bodies[number % 100]
        task_id, created_at = str(uuid4()), NOW - timedelta(seconds=number)
        body = body.replace(kind.task_id, task_id).replace(NOW.isoformat(), created_at.isoformat())
        rows.append((task_id, 1, kind.status.value, None, created_at.timestamp(), body))
    with contextlib.closing(sqlite3.connect(data / "tasks.db")) as connection, connection:
        connection.executemany("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?)", rows)
    return data


def measure_imports() -> None:
    aws = {"BACKEND": "aws", "TASK_TABLE": "t", "OUTPUT_BUCKET": "b", "JOB_QUEUE": "q", "JOB_DEFINITION": "d"}
    statements = {
        "python -c pass": "pass",
        "import fastapi, mangum, boto3": "import fastapi, mangum, boto3",
        "import handlers.api": "import handlers.api",
    }
    env = {**os.environ, **aws, "PYTHONPATH": str(ROOT / "src"), "AWS_DEFAULT_REGION": "eu-central-1"}
    took: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(REPEATS + 1):
        for name, statement in statements.items():
            took[name].append(timed(lambda: run_python(statement, env)))  # noqa: B023 - called at once
    print("A fresh process (the first run, which compiles, does not count)")
    medians = {name: statistics.median(times[1:]) for name, times in took.items()}
    for name, seconds in medians.items():
        print(f"  {name:<30} {seconds:6.3f} s")
    bare, imports, handler = medians.values()
    print(
        f"  ratio of the last two          {handler / imports:6.3f}     without the interpreter's own start: ", end=""
    )
    print(f"{(handler - bare) / (imports - bare):.3f}")


# As long as a command may be, each made to cost what its kind can cost.
HOSTILE = (
    "-x264-params " + ":".join(f"zz{number}=1" for number in range(1700)),
    "-vf scale=" + ":".join(f"zz{number}=1" for number in range(1600)),
    "-vf " + ",".join(["scale=1:1"] * 1500),
    "-b:v 1 " * 2200,
    " ".join(f"-zzunknown{number} 1" for number in range(800)),
)


def measure_judging() -> None:
    took = sorted(judging(case.command, case.inputs, case.output) for case in cases())
    p50, p99 = (took[int(len(took) * part)] * 1000 for part in (0.5, 0.99))
    hostile = max(judging(f"-i in.mp4 {options} out.mp4", ["in.mp4"], "out.mp4") for options in HOSTILE)
    print(f"Judging a command, over {len(took)} of them, each the best of {REPEATS}")
    print(f"  p50 {p50:6.3f} ms   p99 {p99:6.3f} ms   most {took[-1] * 1000:6.3f} ms")
    print(f"  of {len(HOSTILE)} hostile ones of 12 to 16 kB, most {hostile * 1000:6.3f} ms")


def judging(command: str, inputs: Collection[str], output: str) -> float:
    def judge() -> None:
        with contextlib.suppress(CommandNotAllowed):
            validate.check(command, input_names=inputs, output_names=[output])

    return min(timed(judge) for _ in range(REPEATS))


def run_python(statement: str, env: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True, env=env, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
