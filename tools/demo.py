"""`make demo`: a real video through the API, as another system would send it, on this machine.

Starts the service on a free port with a folder of its own, serves a clip by URL on loopback, registers and executes a
task, follows it, and says what came out and where the time went.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
MEDIA = ROOT / "tests" / "media"
DATA = Path(os.environ.get("DATA_DIR", ROOT / ".data" / "demo"))
COMMAND = "-i input.mp4 -vf scale=-2:480 -c:v libx264 -preset medium -crf 23 -c:a aac -b:a 128k -ac 2 -movflags +faststart output.mp4"
START_SECONDS = 30
TASK_SECONDS = 300
BAR = 30


class DemoFailed(Exception):
    """The demo did not work; the message says why."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def source_server() -> Iterator[str]:
    """The clip behind a URL on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(MEDIA))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/bigbuckbunny.mp4"
        finally:
            server.shutdown()


@contextlib.contextmanager
def service(log: Path) -> Iterator[str]:
    """The local service as its own process, on a free port; gives its address."""
    env = {**os.environ, "PORT": "0", "DATA_DIR": str(DATA), "PYTHONPATH": str(ROOT / "src")}
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "handlers.local"], env=env, stdout=subprocess.PIPE, stderr=log_file, text=True
        )
    try:
        assert process.stdout is not None
        announced = process.stdout.readline()
        if not announced:
            raise DemoFailed(f"the service did not start:\n{log.read_text()[-2000:]}")
        yield announced.split()[2]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


def follow(client: httpx.Client, task_id: str) -> dict[str, Any]:
    """Show the task's progress until it has ended; gives the task."""
    deadline = time.monotonic() + TASK_SECONDS
    while time.monotonic() < deadline:
        task: dict[str, Any] = client.get(f"/ffmpeg/status/{task_id}").raise_for_status().json()
        show_progress(task)
        if task["status"] in ("completed", "failed", "canceled"):
            print()
            return task
        time.sleep(0.2)
    raise DemoFailed(f"the task did not end within {TASK_SECONDS} s")


def show_progress(task: dict[str, Any]) -> None:
    percent = task["progress"]["percent"] or 0.0
    bar = "#" * round(BAR * percent / 100)
    speed = task["progress"]["speed"]
    facts = f"{percent:5.1f} %  {task['stage'] or task['status']}" + (f"  {speed:.1f}x" if speed else "")
    if sys.stdout.isatty():
        print(f"\r  [{bar:<{BAR}}] {facts:<40}", end="", flush=True)
    else:
        print(f"  [{bar:<{BAR}}] {facts}", flush=True)


def show_result(task: dict[str, Any], downloaded: int) -> None:
    timings = task["timings"]
    print("\nTimeline")
    for name in ("queued", "download", "transcode", "upload"):
        print(f"  {name:<10} {timings[f'{name}_seconds'] or 0:7.3f} s")
    output = task["outputs"][0]
    print("\nResult")
    media = output["media"]
    print(f"  {output['filename']}: {media['container']}, {media['duration_seconds']:.2f} s, {output['size_bytes']} bytes")
    for stream in media["streams"]:
        size = f"{stream['width']}x{stream['height']}" if stream["type"] == "video" else f"{stream['channels']} channels"
        print(f"    {stream['type']}: {stream['codec']}, {size}")
    print(f"  sha256 {output['sha256']}")
    print(f"  link   {output['url']} ({downloaded} bytes fetched from it)")
    stored = [path for path in DATA.rglob("output.mp4*") if path.stat().st_size == output["size_bytes"]]
    for path in stored:
        if task["task_id"] in str(path):
            print(f"  file   {path}")


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    with source_server() as url, service(DATA / "service.log") as base:
        print(f"The service runs on {base}; the source is {url}")
        with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
            body = {"command": COMMAND, "input_files": {"input.mp4": url}, "output_filename": "output.mp4"}
            print(f"\nPOST /ffmpeg/register\n{json.dumps(body, indent=2)}")
            registered = client.post("/ffmpeg/register", json=body).raise_for_status().json()
            task_id = registered["task_id"]
            print(f"-> {registered['status']}\n\nPOST /ffmpeg/execute/{task_id}")
            executed = client.post(f"/ffmpeg/execute/{task_id}").raise_for_status().json()
            print(f"-> {executed['status']}\n\nGET /ffmpeg/status/{task_id}")
            task = follow(client, task_id)
            if task["status"] != "completed":
                raise DemoFailed(f"the task {task['status']}: {json.dumps(task['error'], indent=2)}")
            fetched = client.get(task["output_url"]).raise_for_status().content
            if len(fetched) != task["outputs"][0]["size_bytes"]:
                raise DemoFailed("the link gave another number of bytes than the task says")
            show_result(task, len(fetched))


if __name__ == "__main__":
    try:
        main()
    except (DemoFailed, httpx.HTTPError) as error:
        sys.exit(f"The demo failed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
