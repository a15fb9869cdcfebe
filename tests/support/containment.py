"""The sandbox of this machine, for tests that run programs in it, or the same programs without it."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

from core.worker import collect, process, sandbox
from core.worker.collect import Examine
from core.worker.sandbox import Folder, Layers

WITHOUT = Layers()


@functools.cache
def found() -> Layers:
    """What the canary says of this machine; asked once."""
    with process.canary(Path(tempfile.gettempdir())) as answer:
        return answer()


def made(root: Path, layers: Layers | None = None) -> Folder:
    folder = Folder(root)
    sandbox.make(folder, found() if layers is None else layers)
    return folder


@contextlib.contextmanager
def prober(folder: Folder) -> Iterator[Examine]:
    """The prober, confined to the folder as for a task."""
    with contextlib.closing(process.start_prober()) as started:
        yield collect.examiner(started, folder.root, sandbox.for_prober(found(), folder))


def children(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def run(
    argv: Callable[[int], Sequence[str]],
    folder: Folder,
    *,
    layers: Layers | None = None,
    limits: process.Limits | None = None,
    on_line: Callable[[str], bool] = lambda line: True,
    stop: Event | None = None,
    max_file_bytes: int = 2**40,
) -> process.Ended:
    """Run a program as a task's ffmpeg is run, in its outputs folder. Nobody has checked its arguments."""
    program = argv(0)[0]
    rules = sandbox.for_ffmpeg(found() if layers is None else layers, program, folder, max_file_bytes=max_file_bytes)
    return process.run(
        argv,
        rules=rules,
        cwd=folder.outputs,
        env=sandbox.environment(home=str(folder.temporary)),
        on_line=on_line,
        stop=stop or Event(),
        limits=limits or process.Limits(seconds=120),
    )
