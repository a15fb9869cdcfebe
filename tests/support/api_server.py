"""The API over real HTTP on a loopback port, in this process: SQLite, a folder, and a dispatcher that only records.

A test may bring another dispatcher, and put something before the store.
"""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvicorn

from core import moves
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.local.upload_store import FolderUploadStore
from core.ports import Services, TaskStore
from core.settings import Settings
from core.task import Output, Task, Timings
from handlers.web.app import create_app
from handlers.web.uploads import PACE, Pace
from support.recording import RecordingDispatcher

PATIENCE = 60.0  # seconds; only a failing test waits that long
FFMPEG_VERSION = "n9.9-test"
ONE_OUTPUT = {
    "command": "-i input.mp4 -c:v libx264 -crf 23 output.mp4",
    "input_files": {"input.mp4": "https://media.example.com/a.mp4"},
    "output_filename": "output.mp4",
}


@dataclass(frozen=True, kw_only=True)
class Api:
    http: httpx.Client
    address: tuple[str, int]
    services: Services  # what the API runs on
    store: SqliteTaskStore
    objects: FolderObjectStore
    dispatcher: RecordingDispatcher
    counted: list[str]
    data: Path

    def registered(self) -> str:
        answer = self.http.post("/ffmpeg/register", json=ONE_OUTPUT)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["task_id"])

    def running(self, task_id: str) -> Task:
        """The task, executed and claimed by a worker."""
        now = datetime.now(UTC)
        registered = self.store.get(task_id)
        queued = self.store.replace(moves.execute(registered, now=now), registered)
        return self.store.replace(moves.claim(queued, now=now, owner="worker-1"), queued)

    def completed(self, task_id: str, content: bytes) -> Task:
        """The task as a worker completes it, with `content` in the store as its output."""
        running = self.running(task_id)
        sha256 = hashlib.sha256(content).hexdigest()
        made = self.data / "made"
        made.write_bytes(content)
        key = f"outputs/{task_id}/1/output.mp4"
        self.objects.put_file(key, made, sha256=sha256, content_type="video/mp4")
        output = Output(filename="output.mp4", key=key, size_bytes=len(content), sha256=sha256)
        done = moves.complete(
            running, now=datetime.now(UTC), fence=1, outputs=(output,), output_count=1, timings=Timings()
        )
        return self.store.replace(done, running)


def _unchanged(store: TaskStore) -> TaskStore:
    return store


@contextmanager
def running(
    data: Path,
    *,
    dispatcher: RecordingDispatcher | None = None,
    before_store: Callable[[TaskStore], TaskStore] = _unchanged,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    pace: Pace = PACE,
) -> Iterator[Api]:
    # With the protocol named, or asyncio leaves Nagle's algorithm on: 40 ms for every answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
        base_url = f"http://127.0.0.1:{address[1]}"
        store, records = SqliteTaskStore(data / "tasks.db"), SqliteRecordStore(data / "tasks.db")
        objects = FolderObjectStore(data / "objects", base_url=base_url, secret=b"a secret")
        dispatcher = dispatcher or RecordingDispatcher()
        uploads = FolderUploadStore(data / "uploads", base_url=base_url, secret=b"a secret")
        services = Services(
            store=before_store(store), records=records, objects=objects, dispatcher=dispatcher, uploads=uploads
        )
        counted: list[str] = []
        app = create_app(
            services,
            settings,
            clock=clock,
            ffmpeg_version=FFMPEG_VERSION,
            count=counted.append,
            open_link=objects.open_link,
            take_part=uploads.take,
            pace=pace,
        )
        # A connection that a test has not used for a while is not closed under the next request.
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_keep_alive=3600
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            with httpx.Client(base_url=base_url, trust_env=False, timeout=PATIENCE) as http:
                yield Api(
                    http=http,
                    address=address,
                    services=services,
                    store=store,
                    objects=objects,
                    dispatcher=dispatcher,
                    counted=counted,
                    data=data,
                )
        finally:
            server.should_exit = True
            thread.join()
            store.close()
            records.close()
