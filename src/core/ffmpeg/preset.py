"""A preset: a command with gaps, as data (preset_file.py), and the typed values that may fill them.

The command is split into words before a gap is filled, and a value is a number or one of the listed words: so none can
end a word, begin an option or say anything of its own in a filter graph. What comes out is judged like any command.
A preset that looks at the source (looks.py) has gaps that are filled by what that is, once it is known.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

from core.errors import InvalidArgument
from core.ffmpeg import codecs, form, names, values
from core.ffmpeg.command import shown
from core.ffmpeg.form import Number, Video
from core.ffmpeg.looks import LOOKS, Asked, Filling, Look
from core.ffmpeg.loudness import Loudness
from core.task import Media

GAP = re.compile(r"\{(\w*)\}")
BITRATE = re.compile(r"\d{1,9}(?:\.\d{1,3})?[kM]?", re.ASCII)
GIVEN = frozenset({"input", "output", "video"})  # the gaps that are no parameters
QUALITY = "quality"
MOST_NAME = 80  # characters of an output beside which others are written that are called after it

Value = int | float | str


class PresetInvalid(ValueError):
    """A preset cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    name: str
    type: str  # a key of TYPES
    description: str
    default: Value
    least: Number | None = None
    most: Number | None = None
    allowed: tuple[str, ...] = ()  # of a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    name: str
    summary: str
    extensions: tuple[str, ...]  # one of which the output must have
    words: tuple[str, ...]  # the command, with its gaps
    text: str = ""  # the file, as it was read
    looks: str | None = None  # what it takes from the source: a key of LOOKS
    measure: tuple[str, ...] = ()  # the command that runs before and measures, with its gaps
    rungs: Mapping[int, int] = field(default_factory=dict)  # of a ladder: lines, and the most bits per second
    video: Video | None = None  # what the gap {video} is filled from; its encoder is chosen by the kind of worker
    parameters: tuple[Parameter, ...] = ()


class Made(NamedTuple):
    """The text of a command, not judged yet, and the names that it writes."""

    text: str
    written: tuple[str, ...]


def with_default(preset: Preset, given: Mapping[str, Any], quality: str | None) -> Mapping[str, Any]:
    """What is given, and `quality` in the place of the preset's own, where it has that parameter and none is given."""
    return {QUALITY: quality, **given} if quality and any(one.name == QUALITY for one in preset.parameters) else given


def command(preset: Preset, given: Mapping[str, Any], *, source: str, output: str, gpu: bool) -> str:
    """The text of the command that makes `output` of any `source`, not judged yet. Raises InvalidArgument."""
    return made(preset, given, source=source, output=output, gpu=gpu).text


def made(
    preset: Preset,
    given: Mapping[str, Any],
    *,
    source: str,
    output: str,
    gpu: bool,
    media: Media | None = None,
    measured: Loudness | None = None,
) -> Made:
    """The command for a source that is `media` and was `measured`, as far as that is known. Raises InvalidArgument."""
    _check_output(preset, output)
    chosen = _chosen(preset, given)
    video = preset.video and _with_quality(preset.video, chosen.get(QUALITY), gpu=gpu)
    look = look_of(preset)
    asking = asked(preset, given, output=output, gpu=gpu, media=media, measured=measured)
    filling = look.fill(asking) if look else Filling()
    if video and filling.bitrate:
        video = replace(video, bitrate=filling.bitrate)
    encoding = form.encoding(video, gpu=gpu) if video else ()
    whole = {"input": (source,), "output": (output,), "video": encoding, **filling.words}
    text = _text(preset.words, whole, {**chosen, **filling.values})
    return Made(text, filling.written or (output,))


def measuring(preset: Preset, given: Mapping[str, Any], *, source: str, output: str) -> Made | None:
    """The command that measures `source`, where there is one. What it writes, under the name `output`, is of no use."""
    if not preset.measure:
        return None
    whole = {"input": (source,), "output": (output,)}
    return Made(_text(preset.measure, whole, _chosen(preset, given)), (output,))


def asked(
    preset: Preset,
    given: Mapping[str, Any],
    *,
    output: str,
    gpu: bool = False,
    media: Media | None = None,
    measured: Loudness | None = None,
) -> Asked:
    """What its look goes by. Raises InvalidArgument."""
    encoder = codecs.video_encoder(preset.video.codec or "", gpu=gpu) if preset.video else None
    return Asked(
        chosen=_chosen(preset, given),
        output=output,
        rungs=preset.rungs,
        encoder=encoder or "",
        media=media,
        measured=measured,
    )


def look_of(preset: Preset) -> Look | None:
    return LOOKS[preset.looks] if preset.looks else None


def depends(preset: Preset) -> bool:
    """Whether its command depends on what the source is, and not only on what it has."""
    look = look_of(preset)
    return look is not None and bool(look.gaps)


def uses_card(preset: Preset) -> bool:
    """Whether it is another command where a GPU is asked for."""
    return preset.video is not None and form.encoding(preset.video, gpu=True) != form.encoding(preset.video, gpu=False)


def _with_quality(video: Video, quality: str | None, *, gpu: bool) -> Video:
    return form.with_quality(video, quality, gpu=gpu) if quality else video


def _text(words: tuple[str, ...], whole: Mapping[str, tuple[str, ...]], chosen: Mapping[str, str]) -> str:
    return shlex.join(word for gap in words for word in _filled(gap, whole, chosen))


def _filled(word: str, whole: Mapping[str, tuple[str, ...]], chosen: Mapping[str, str]) -> tuple[str, ...]:
    found = GAP.fullmatch(word)
    if found and found[1] in whole:
        return whole[found[1]]
    return (GAP.sub(lambda gap: chosen[gap[1]], word),)


def _check_output(preset: Preset, output: str) -> None:
    if output.rpartition(".")[2].lower() not in preset.extensions:
        endings = " or ".join(f".{extension}" for extension in preset.extensions)
        _refuse("output_filename", f"The output of {preset.name} ends in {endings}, unlike {shown(output)}.")
    look = look_of(preset)
    if names.is_pattern(output):
        _refuse("output_filename", f"The output of {preset.name} is one file: give it a name without %.")
    if look and look.others and len(output) > MOST_NAME:
        message = f"The output of {preset.name} needs a name of at most {MOST_NAME} characters"
        _refuse("output_filename", f"{message}, as others may be called after it.")
    if "#" in output and output.lower().endswith(".m3u8"):
        message = f"The output of {preset.name} needs a name without #, which ends a file's name in a playlist."
        _refuse("output_filename", message)


def _chosen(preset: Preset, given: Mapping[str, Any]) -> dict[str, str]:
    """Each parameter's value, as it goes into the command."""
    known = {parameter.name: parameter for parameter in preset.parameters}
    for name in given:
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            message = f"{preset.name} has no parameter {shown(name)}; {there}."
            _refuse(f"parameters.{shown(name)}", message, allowed=list(known))
    return {name: _spelled(parameter, given.get(name, parameter.default)) for name, parameter in known.items()}


def _spelled(parameter: Parameter, value: Any) -> str:
    spelled = TYPES[parameter.type](parameter, value)
    if spelled is None:
        field, allowed = f"parameters.{parameter.name}", list(parameter.allowed)
        message = f"{field} must be {_due(parameter)}, not {shown(str(value))}."
        _refuse(field, message, **({"allowed": allowed} if allowed else {}))
    return spelled


def _due(parameter: Parameter) -> str:
    if parameter.allowed:
        return f"one of {', '.join(parameter.allowed)}"
    least, most = (_shown_bound(parameter, bound or 0) for bound in (parameter.least, parameter.most))
    return f"{_A[parameter.type]} from {least} to {most}"


_A = {"integer": "a whole number", "number": "a number", "bitrate": "a bit rate such as 128k,"}


def _shown_bound(parameter: Parameter, bound: Number) -> str:
    return form.kilobits(bound) if parameter.type == "bitrate" else form.plain(bound)


def _refuse(field: str, message: str, **details: Any) -> NoReturn:
    raise InvalidArgument(message, details={"field": field, **details})


# How a value of each type goes into the command; None is no such value.


def _integer(parameter: Parameter, value: Any) -> str | None:
    return _number(parameter, value) if isinstance(value, int) else None


def _number(parameter: Parameter, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return form.plain(value) if _between(parameter, value) else None


def _bitrate(parameter: Parameter, value: Any) -> str | None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not BITRATE.fullmatch(text):
        return None
    return text if _between(parameter, values.number(text) or 0) else None


def _word(parameter: Parameter, value: Any) -> str | None:
    return value if isinstance(value, str) and value in parameter.allowed else None


def _between(parameter: Parameter, value: Number) -> bool:
    return parameter.least is not None and parameter.most is not None and parameter.least <= value <= parameter.most


TYPES: Mapping[str, Callable[[Parameter, Any], str | None]] = {
    "integer": _integer,
    "number": _number,
    "bitrate": _bitrate,
    "word": _word,
}
