"""A recipe: what a task keeps of a preset that looks at the source, and the commands that are made of it.

It holds the preset as it was when the task was registered, so that the worker needs no presets of its own, and makes
the same of it whatever has become of the file since. What is made is judged like any command.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from core.ffmpeg import looks, preset, preset_file, sprite
from core.ffmpeg.command import Command, Option
from core.ffmpeg.loudness import Loudness
from core.ffmpeg.preset import Made, Preset
from core.ffmpeg.source import is_still
from core.task import Media, Recipe


def of(made: Preset, given: Mapping[str, Any], *, gpu: bool) -> Recipe | None:
    """None for a preset that does not look at the source."""
    return Recipe(preset=made.name, text=made.text, parameters=dict(given), gpu=gpu) if made.looks else None


def depends(recipe: Recipe) -> bool:
    """Whether the command depends on what the source is."""
    return preset.depends(preset_file.read(recipe.preset, recipe.text))


def command(
    recipe: Recipe, *, source: str, output: str, media: Media | None = None, measured: Loudness | None = None
) -> Made:
    """What makes `output` of `source`, as far as that is known. Raises PresetInvalid, InvalidArgument."""
    found = preset_file.read(recipe.preset, recipe.text)
    return preset.made(
        found, recipe.parameters, source=source, output=output, gpu=recipe.gpu, media=media, measured=measured
    )


def fitted(command: Command, media: Media | None) -> Command:
    """The command without -ss where the source is one picture: it has no other moment than its beginning, and once
    ffmpeg has sought that, it finds nothing more in a JPEG (tried)."""
    if media is None or not is_still(media):
        return command
    return replace(command, inputs=tuple(replace(one, options=_unsought(one.options)) for one in command.inputs))


def _unsought(options: tuple[Option, ...]) -> tuple[Option, ...]:
    return tuple(option for option in options if option.name != "ss")


def measuring(recipe: Recipe, *, source: str, output: str) -> Made | None:
    """What is run before and measures, where there is such a thing."""
    return preset.measuring(
        preset_file.read(recipe.preset, recipe.text), recipe.parameters, source=source, output=output
    )


def lack(recipe: Recipe, media: Media | None) -> str | None:
    """Why nothing can be made of the source, as the end of a sentence that begins with its name."""
    look = preset.look_of(preset_file.read(recipe.preset, recipe.text))
    return look.needs(media or Media(container="")) if look and (media or look.essential) else None


def beside(
    recipe: Recipe, *, output: str, media: Media | None, became: Callable[[], Media | None]
) -> Mapping[str, str]:
    """The texts that belong beside the `output`, each by its name; `became` looks what that is, where it matters."""
    found = preset_file.read(recipe.preset, recipe.text)
    if found.looks != "sprite" or not media or not media.duration_seconds:
        return {}
    made = became()
    shown = next((stream for stream in made.streams if stream.width and stream.height), None) if made else None
    if shown is None:
        return {}
    grid = looks.grid(preset.asked(found, recipe.parameters, output=output, media=media))
    text = sprite.vtt(
        grid,
        seconds=media.duration_seconds,
        sprite=output,
        width=shown.width or 0,
        height=shown.height or 0,
    )
    return {f"{output.rpartition('.')[0]}.vtt": text}
