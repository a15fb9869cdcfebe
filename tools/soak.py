"""`make soak`: the service under fire for SOAK_SECONDS. Workers and the service itself are killed at random.

Tasks arrive all the time: good ones, failing ones, some that are canceled, some registered twice under one
idempotency key. When the time is over the service is left in peace until every task has ended, and then the store, the
object store, the disk and the process table are looked through. Exits with 1 unless everything is as it must be.
"""

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from core import aftermath, wiring
from core.ports import Services
from core.settings import Settings
from core.task import MAX_CLAIMS, Ending, Status, Task
from support import footage, leftovers
from support.service import ENDED, Service, running
from support.source_server import SourceServer, serving

SECONDS = float(os.environ.get("SOAK_SECONDS") or 300)
SEED = int(os.environ.get("SOAK_SEED") or time.time())
PAUSE = 0.6  # between two tasks, on average
KILL_EVERY = 4.0  # a worker
RESTART_EVERY = 25.0  # the service
MOST_AT_ONCE = 12  # tasks that have not ended; a slow machine is given fewer
QUIET_SECONDS = 180.0  # the longest that no task may end while some are waiting
EVER = datetime.max.replace(tzinfo=UTC)
CLIP = "clip.mp4"
COPY = "-i in.mp4 -c copy out.mp4"
ENCODE = "-i in.mp4 -vf scale=854:480 -c:v libx264 -preset medium out.mp4"
# What is asked for, and how often.
MIX = {
    (f"media/{CLIP}", ENCODE): 4,
    (f"media/{CLIP}", COPY): 3,
    (f"flaky/503/{CLIP}", COPY): 1,
    ("status/404", COPY): 1,
    (f"media/{CLIP}", "-i in.mp4 -map 0:s out.mp4"): 1,
}


@dataclass
class Soak:
    folder: Path
    source: SourceServer
    chance: random.Random
    ids: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)  # idempotency key -> task id
    counts: Counter[str] = field(default_factory=Counter)
    doubled: list[str] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @cached_property
    def services(self) -> Services:
        return wiring.services(Settings.from_env({"DATA_DIR": str(self.data_dir)}), {})

    def storm(self) -> None:
        """Tasks and deaths, until the time is over."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with self._service() as service:
                self._until_it_dies(service, min(end, time.monotonic() + self.chance.uniform(0.5, 1.5) * RESTART_EVERY))
                service.process.kill()
                service.process.wait()
                self.counts["restarts"] += 1

    def quiet(self) -> None:
        """No more deaths: every task comes to its end."""
        with self._service() as service:
            waiting, last_end = set(self.ids), time.monotonic()
            while waiting and time.monotonic() < last_end + QUIET_SECONDS:
                ended = {task_id for task_id in waiting if self._has_ended(service, task_id)}
                waiting, last_end = waiting - ended, time.monotonic() if ended else last_end
                time.sleep(0.5)

    def _has_ended(self, service: Service, task_id: str) -> bool:
        status = service.status(task_id)["status"]
        if status == "pending":  # its execute was lost with the service: its caller asks again
            service.execute(task_id)
        return status in ENDED

    def _service(self) -> contextlib.AbstractContextManager[Service]:
        return running(self.data_dir, RETRY_DELAY_SECONDS="1", MAX_CONCURRENT_TASKS="3", LOG_LEVEL="WARNING")

    def _until_it_dies(self, service: Service, end: float) -> None:
        kill_at = time.monotonic() + self.chance.uniform(0.5, 1.5) * KILL_EVERY
        while (now := time.monotonic()) < end:
            if len(self._live()) < MOST_AT_ONCE:
                self._one_more(service)
            if now >= kill_at:
                kill_at = now + self.chance.uniform(0.5, 1.5) * KILL_EVERY
                self._kill_a_worker(service)
            time.sleep(self.chance.expovariate(1 / PAUSE))

    def _one_more(self, service: Service) -> None:
        path, command = self.chance.choices(list(MIX), weights=list(MIX.values()))[0]
        key = f"key-{len(self.keys)}"
        url = f"{self.source.url}/{path}?{key}"
        task_id = self._registered(service, key, command, url)
        if self.chance.random() < 0.3 and self._registered(service, key, command, url) != task_id:
            self.doubled.append(task_id)
        service.execute(task_id)
        if self.chance.random() < 0.15:
            time.sleep(self.chance.random())
            self._cancel_one(service)

    def _cancel_one(self, service: Service) -> None:
        """Any that has not ended, waiting or running."""
        live = self._live()
        if live:
            self.counts["canceled"] += service.cancel(self.chance.choice(live).task_id).status_code == 202

    def _live(self) -> Sequence[Task]:
        return self.services.store.due(EVER, limit=MOST_AT_ONCE)

    def _registered(self, service: Service, key: str, command: str, url: str) -> str:
        body = {"command": command, "input_files": {"in.mp4": url}, "output_filename": "out.mp4"}
        answer = service.http.post("/ffmpeg/register", json=body, headers={"Idempotency-Key": key})
        task_id: str = answer.raise_for_status().json()["task_id"]
        self.ids.add(task_id)
        self.keys[key] = task_id
        return task_id

    def _kill_a_worker(self, service: Service) -> None:
        found = leftovers.processes(self.data_dir)
        workers = [pid for pid, name in found.items() if "handlers.batch_worker" in name]
        if workers and service.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.chance.choice(workers), signal.SIGKILL)
                self.counts["kills"] += 1


def judged(soak: Soak, services: Services) -> dict[str, list[str]]:
    """What is wrong, by kind; all lists are empty when nothing is."""
    everything = list(stored(services))
    known = {task.task_id for task in everything}
    faults = {
        "lost": sorted(soak.ids - known),
        "doubled": [*soak.doubled, *(task.task_id for task in everything if is_doubled(task))],
        "stuck": [task.task_id for task in everything if not task.status.ended],
        "untrue": [task.task_id for task in everything if not is_true(services, task)],
    }
    aftermath_until_nothing_is_due(services)
    published = {output.key for task in everything for output in task.outputs}
    faults["unpublished objects"] = sorted(set(leftovers.objects(soak.data_dir)) ^ published)
    faults["temporary folders"] = leftovers.scratch(soak.data_dir / "scratch")
    faults["processes"] = [name for name in leftovers.processes(soak.data_dir).values() if name]
    return faults


def stored(services: Services) -> Iterator[Task]:
    for live in (True, False):
        yield from services.store.due(EVER, limit=1_000_000, live=live)


def is_doubled(task: Task) -> bool:
    """Whether it came to an end more than once, or was claimed more than once under one number or too often."""
    ends = [attempt for attempt in task.attempts if attempt.ending is Ending.COMPLETED]
    numbers = [attempt.number for attempt in task.attempts]
    return len(ends) > 1 or numbers != list(range(1, len(numbers) + 1)) or len(numbers) > MAX_CLAIMS


def is_true(services: Services, task: Task) -> bool:
    """Whether what the task says is so: its outputs are there, whole, and there are none unless it is completed."""
    if task.status is not Status.COMPLETED:
        return not task.outputs and (task.status is Status.CANCELED or task.error is not None)
    stored = [(found.size_bytes, found.sha256) for o in task.outputs if (found := services.objects.head(o.key))]
    own = f"outputs/{task.task_id}/{task.fence}/"
    return stored == [(o.size_bytes, o.sha256) for o in task.outputs] and all(
        o.key.startswith(own) for o in task.outputs
    )


def aftermath_until_nothing_is_due(services: Services) -> None:
    """As the service would some minutes later: what was stored and not published is deleted."""
    later = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(100):
        if not aftermath.sweep(services, now=later):
            return


def report(soak: Soak, services: Services, faults: dict[str, list[str]]) -> None:
    ends = Counter(task.status.value for task in stored(services))
    claims = Counter(len(task.attempts) for task in stored(services))
    print(f"{SECONDS:.0f} s, seed {SEED}")
    print(f"tasks     {len(soak.ids)}: " + ", ".join(f"{count} {name}" for name, count in sorted(ends.items())))
    print("attempts  " + ", ".join(f"{number}: {count}" for number, count in sorted(claims.items())))
    endings = Counter(f"{attempt.code or attempt.ending}" for task in stored(services) for attempt in task.attempts)
    print("          " + ", ".join(f"{count} {name}" for name, count in endings.most_common()))
    print(f"kills     {soak.counts['kills']}")
    print(f"restarts  {soak.counts['restarts']}")
    for kind, found in faults.items():
        print(f"{kind:<9} {len(found)}" + (f": {', '.join(found[:5])}" if found else ""))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="soak.") as name:
        folder = Path(name)
        footage.run("-i", str(footage.CLIP), "-t", "2", str(folder / CLIP))
        with serving(folder) as source:
            soak = Soak(folder, source, random.Random(SEED))
            soak.storm()
            soak.quiet()
        faults = judged(soak, soak.services)
        report(soak, soak.services, faults)
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
