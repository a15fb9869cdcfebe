"""What a task runs: its own command, or what is made of its recipe once the source has been probed and measured.

Each is judged here by the validator of register, because a stored row is input too. Running them is job.py's. What
recipes need is imported where there is one: most tasks are commands, and their workers are to start soon.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import CommandNotAllowed, InvalidArgument
from core.ffmpeg import validate
from core.ffmpeg.command import Command
from core.task import FailureCode, Media, Recipe, Task
from core.worker.collect import Examine
from core.worker.failed import TaskFailed

if TYPE_CHECKING:
    from core.ffmpeg.loudness import Loudness


def known(task: Task) -> Command:
    """The command as far as it is known before the source is. Raises TaskFailed."""
    if task.recipe is None:
        return _judged(task, task.command, task.output_files)
    return _made(task, task.recipe, media=None, measured=None)


def measuring(task: Task, recipe: Recipe) -> Command | None:
    """What is to be run before, in order to measure. Raises TaskFailed."""
    from core.ffmpeg import recipe as recipes

    with _usable():
        found = recipes.measuring(recipe, source=_source(task), output=task.output_files[0])
    return _judged(task, *found) if found else None


def made(task: Task, recipe: Recipe, media: Mapping[str, Media], said: Sequence[str] | None) -> Command:
    """The command for the source as it is; `said` is what the measuring run has. Raises TaskFailed."""
    from core.ffmpeg import loudness

    measured = loudness.read(said) if said is not None else None
    if said is not None and measured is None:
        raise TaskFailed.of(FailureCode.TRANSCODE_FAILED, f"How loud {_source(task)} is could not be measured.")
    return _made(task, recipe, media=media.get(_source(task)), measured=measured)


def refuse_unfit(task: Task, recipe: Recipe, media: Mapping[str, Media]) -> None:
    """Raise TaskFailed when nothing can be made of the source."""
    from core.ffmpeg import recipe as recipes

    name = _source(task)
    with _usable():
        lack = recipes.lack(recipe, media.get(name))
    if lack:
        message = f"The input {name} {lack}, which the preset {recipe.preset} needs."
        raise TaskFailed.of(FailureCode.MEDIA_INVALID, message, details={"input": name})


def write_beside(task: Task, folder: Path, media: Mapping[str, Media], examine: Examine) -> None:
    """Write what belongs beside the output that is in the folder of outputs by now."""
    if task.recipe is None:
        return
    from core.ffmpeg import recipe as recipes

    output = task.output_files[0]
    if not (folder / output).is_file() or (folder / output).is_symlink():
        return  # which is found out, and said, when the outputs are collected
    texts = recipes.beside(
        task.recipe,
        output=output,
        media=media.get(_source(task)),
        became=lambda: examine(folder / output, output).media,
    )
    for name, text in texts.items():
        with (folder / name).open("x") as file:  # never through a link that something has left there
            file.write(text)


def _made(task: Task, recipe: Recipe, *, media: Media | None, measured: "Loudness | None") -> Command:
    from core.ffmpeg import recipe as recipes

    with _usable():
        found = recipes.command(
            recipe, source=_source(task), output=task.output_files[0], media=media, measured=measured
        )
    return recipes.fitted(_judged(task, *found), media)


def _judged(task: Task, text: str, written: Sequence[str]) -> Command:
    try:
        return validate.check(text, input_names=task.input_files, output_names=written)
    except CommandNotAllowed as refusal:
        raise TaskFailed.of(
            FailureCode.TRANSCODE_FAILED, f"The command is not allowed: {refusal.message}", details=refusal.details
        ) from refusal


@contextmanager
def _usable() -> Iterator[None]:
    """Register has seen to it that the recipe can be used; a stored row is input too."""
    try:
        yield
    except (InvalidArgument, ValueError) as fault:
        raise TaskFailed.of(FailureCode.TRANSCODE_FAILED, f"The preset cannot be used: {fault}") from fault


def _source(task: Task) -> str:
    return next(iter(task.input_files))
