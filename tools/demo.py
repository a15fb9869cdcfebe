"""`make demo`: a real video through the API, as another system would send it, on this machine.

Starts the service on a free port with a folder of its own, serves a clip by URL on loopback, registers and executes a
task, follows it, and says what came out and where the time went.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from support.service import ROOT, Service, ServiceFailed, running
from support.source_server import serving

DATA = Path(os.environ.get("DATA_DIR") or ROOT / ".data" / "demo")
COMMAND = (
    "-i input.mp4 -vf scale=-2:480 -c:v libx264 -preset slow -crf 23 -c:a aac -b:a 128k -ac 2 "
    "-movflags +faststart output.mp4"
)
BAR = 30


class DemoFailed(Exception):
    """The demo did not work; the message says why."""


def show_progress(task: dict[str, Any]) -> None:
    progress = task["progress"]
    done = progress["percent"] or 0.0
    facts = f"{done:5.1f} %  {task['stage'] or task['status']}"
    facts += f"  {progress['fps']:.0f} fps" if progress["fps"] else ""
    facts += f"  {progress['speed']:.1f}x" if progress["speed"] else ""
    line = f"  [{'#' * round(BAR * done / 100):<{BAR}}] {facts}"
    if sys.stdout.isatty():
        print(f"\r{line:<78}", end="", flush=True)
    else:
        print(line, flush=True)


def show_result(task: dict[str, Any], fetched: int) -> None:
    print("\nTimeline")
    for name, seconds in task["timings"].items():
        print(f"  {name.removesuffix('_seconds'):<10} {seconds:7.3f} s")
    (output,) = task["outputs"]
    media = output["media"]
    print(f"\nResult\n  {output['filename']}: {media['container']}, {media['duration_seconds']:.2f} s, ", end="")
    print(f"{output['size_bytes']:,} bytes, sha256 {output['sha256'][:16]}...")
    for stream in media["streams"]:
        if stream["type"] == "video":
            print(f"  video: {stream['codec']}, {stream['width']}x{stream['height']}, {stream['frame_rate']:g} fps")
        else:
            print(f"  {stream['type']}: {stream['codec']}, {stream['channels']} channels, {stream['sample_rate']} Hz")
    print(f"  link:  {output['url']} ({fetched:,} bytes fetched from it)")
    print(f"  file:  {os.path.relpath(_stored(task['task_id'], output))}")


def _stored(task_id: str, output: dict[str, Any]) -> Path:
    """Where the local object store keeps the output."""
    found = [path for path in (DATA / "objects").rglob("*") if task_id in str(path) and path.is_file()]
    return next(path for path in found if path.stat().st_size == output["size_bytes"])


def run(service: Service, url: str) -> None:
    print(f"The service runs on {service.http.base_url}, the source is {url}\n")
    body = {"command": COMMAND, "input_files": {"input.mp4": url}, "output_filename": "output.mp4"}
    print(f"POST /ffmpeg/register\n{json.dumps(body, indent=2)}")
    registered = service.http.post("/ffmpeg/register", json=body).raise_for_status().json()
    task_id = registered["task_id"]
    print(f"-> {registered['status']}\n\nPOST /ffmpeg/execute/{task_id}")
    executed = service.http.post(f"/ffmpeg/execute/{task_id}").raise_for_status().json()
    print(f"-> {executed['status']}\n\nGET /ffmpeg/status/{task_id}")
    for task in service.follow(task_id, every=0.3):
        show_progress(task)
    if sys.stdout.isatty():
        print()
    if task["status"] != "completed":
        raise DemoFailed(f"the task {task['status']}: {json.dumps(task['error'], indent=2)}\n{service.last_words()}")
    fetched = len(service.http.get(task["output_url"]).raise_for_status().content)
    if fetched != task["outputs"][0]["size_bytes"]:
        raise DemoFailed("the link gave another number of bytes than the task says")
    show_result(task, fetched)


if __name__ == "__main__":
    try:
        with serving() as source, running(DATA) as service:
            run(service, f"{source.url}/media/bigbuckbunny.mp4")
    except (DemoFailed, ServiceFailed, httpx.HTTPError) as error:
        sys.exit(f"The demo failed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
