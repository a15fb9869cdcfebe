"""What the command has written: each file is found and examined before anything of it is stored.

A declared output that is missing, empty or unreadable fails the task, whatever ffmpeg's exit code said.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.ffmpeg import probe
from core.ffmpeg.probe import Probed
from core.task import FailureCode
from core.worker.failed import TaskFailed
from core.worker.process import Conversation
from core.worker.upload import PLAYLISTS, Finished

PROBE_SECONDS = 30.0
MAX_FILES = 10_000

Examine = Callable[[Path, str], Probed]


class NotConfined(Exception):
    """The prober did not take on its sandbox: nothing may be shown to it."""


def examiner(prober: Conversation, folder: Path, rules: Sequence[str]) -> Examine:
    """A function that has the prober look into a file of the folder, which the user knows by the name given.

    It does so in a process that lives under `rules` from its start. Raises NotConfined.
    """
    answer = prober.ask(json.dumps({"folder": str(folder), "rules": list(rules)}), timeout_seconds=PROBE_SECONDS)
    if answer is None or json.loads(answer) != {"confined": True}:
        raise NotConfined("The prober did not take on its sandbox.")

    def examine(path: Path, filename: str) -> Probed:
        asked = json.dumps(str(path.relative_to(folder)))
        return probe.read(prober.ask(asked, timeout_seconds=PROBE_SECONDS), filename=filename)

    return examine


@contextmanager
def released(prober: Conversation) -> Iterator[None]:
    """Afterwards the prober is out of the folder that it was shown, and can be shown another one."""
    try:
        yield
    finally:
        prober.ask("null", timeout_seconds=PROBE_SECONDS)


def collect(folder: Path, declared: Sequence[str], *, examine: Examine) -> list[Finished]:
    """Every file under `folder`. Raises TaskFailed with OUTPUT_MISSING, naming the output."""
    # A link could lead out of the folder, and we may read more than the program that made it.
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    if len(names) > MAX_FILES:
        raise _missing(declared[0], f"The command wrote {len(names)} files; at most {MAX_FILES} are stored.")
    ranks = {name: _rank(name, declared) for name in names}
    for rank, output in enumerate(declared):
        if rank not in ranks.values():
            raise _missing(output, f"The command ended without an error but did not write {output}; check -ss and -t.")
    return [_finished(folder / name, name, rank, examine=examine) for name, rank in ranks.items()]


def _rank(name: str, declared: Sequence[str]) -> int | None:
    return next((rank for rank, output in enumerate(declared) if _writes(output, name)), None)


def _writes(output: str, name: str) -> bool:
    """Whether `name` is `output`, or one of the files that its pattern (`%03d`, `%v`) stands for."""
    if "%" not in output:
        return output == name
    parts = re.split(r"(%\d*d|%v)", output)
    pattern = "".join(r"[^/]+" if part == "%v" else r"\d+" if part[:1] == "%" else re.escape(part) for part in parts)
    return re.fullmatch(pattern, name) is not None


def _finished(path: Path, name: str, rank: int | None, *, examine: Examine) -> Finished:
    if path.stat().st_size == 0:
        raise _missing(name, f"The command ended without an error but {name} is empty.")
    if rank is None:
        return Finished(path=path, filename=name, declared=None, media=None)
    probed = examine(path, name)
    # A playlist is text: what it plays is in its segments, and not every build reads every kind of playlist.
    if path.suffix.lower() not in PLAYLISTS:
        if probed.media is None:
            raise _missing(name, f"The command ended without an error but {name} cannot be read: {probed.error}.")
        if not probed.packets:
            raise _missing(
                name, f"The command ended without an error but {name} holds no frame; check -ss, -t and -map."
            )
    return Finished(path=path, filename=name, declared=rank, media=probed.media)


def _missing(output: str, message: str) -> TaskFailed:
    return TaskFailed.of(FailureCode.OUTPUT_MISSING, message, details={"output": output})
