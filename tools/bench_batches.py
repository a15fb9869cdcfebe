"""What a batch of small files costs beside the same files by raw ffmpeg, as many at once, in the same run.

One half of the raw runs is made before the batch and one after it, because machines are noisy. The seconds of CPU are
those of all processes, and less noisy than the clock.
"""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from core import wiring
from core.batches import view_batch
from core.register import Registration
from core.register_batch import BatchWanted, register_batch
from core.settings import Settings
from core.task import Status
from core.worker import process
from support.service import PYTHONPATH

FILES = int(os.environ.get("BENCH_FILES", "200"))
AT_ONCE = 2
ARGUMENTS = "-c:v libx264 -crf 23 -c:a aac -ac 2"


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float


def measure(clip: Path, folder: Path) -> None:
    """`clip` is what all of the files are; `folder` is where they go."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    files = [Path(shutil.copy(clip, inputs / f"clip-{number:03}.mp4")) for number in range(FILES)]
    first = cost(lambda: run_raw(files[::2]))
    ours = cost(lambda: run_batch(inputs, folder / "data"))
    second = cost(lambda: run_raw(files[1::2]))
    raw = Cost(*(one + other for one, other in zip(first, second, strict=True)))
    print(f"A batch of {FILES} files of 1 s of 720p, {AT_ONCE} at once, against raw ffmpeg, as many at once")
    for name, spent in (("raw ffmpeg", raw), ("the batch", ours)):
        print(f"  {name:<10} {spent.seconds:7.1f} s   CPU {spent.cpu_seconds:7.1f} s")
    each = 1000 * (ours.cpu_seconds - raw.cpu_seconds) / FILES
    ratios = [mine / theirs for mine, theirs in zip(ours, raw, strict=True)]
    print(f"  ratio      {ratios[0]:7.3f}     CPU {ratios[1]:7.3f}     {each:.0f} ms of CPU for each file")
    print()


def cost(action: Callable[[], object]) -> Cost:
    began, used = time.perf_counter(), cpu_seconds()
    action()
    return Cost(time.perf_counter() - began, cpu_seconds() - used)


def cpu_seconds() -> float:
    """Of this process and of all that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_raw(files: Sequence[Path]) -> None:
    program = process.find_ffmpeg(None)

    def run(path: Path) -> None:
        output = path.parent.parent / f"{path.stem}.raw.mp4"
        command = [program, "-nostdin", "-y", "-loglevel", "error", "-i", str(path), *ARGUMENTS.split(), str(output)]
        subprocess.run(command, check=True)
        output.unlink()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(run, files))


def run_batch(inputs: Path, data: Path) -> None:
    """From the request to its last file, with the start of all workers and their end."""
    settings = Settings(data_dir=data, input_roots=(inputs,), max_concurrent_tasks=AT_ONCE, log_level="WARNING")
    with process.canary(settings.scratch) as found:
        layers = found()
    local = wiring.local(settings, {**os.environ, "PYTHONPATH": PYTHONPATH, "SANDBOX_LAYERS": layers.spelled()})
    registration = Registration(
        command=f"-i {{name}} {ARGUMENTS} {{stem}}.out.mp4", input_files={}, output_files=("{stem}.out.mp4",)
    )
    wanted = BatchWanted(registration=registration, folder=str(inputs))
    with closing(local.pool):
        local.pool.start()
        batch, _, _ = register_batch(
            local.services,
            wanted,
            settings=settings,
            batch_id=str(uuid4()),
            correlation_id="bench",
            now=datetime.now(UTC),
        )
        while not (view := view_batch(local.services, batch.batch_id)).status.ended:
            time.sleep(0.1)
    if view.counts[Status.COMPLETED] != FILES:
        raise SystemExit(f"The batch {view.status}: {view.failures[:1]}")
