"""A preset: a command with gaps, as data in TOML, and the typed values that may fill them.

The command is split into words before a gap is filled, and a value is a number or one of the listed words: so none can
end a word, begin an option or say anything of its own in a filter graph. What comes out is judged like any command.
"""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from core.errors import CommandNotAllowed, InvalidArgument
from core.ffmpeg import codecs, form, validate, values
from core.ffmpeg.command import shown
from core.ffmpeg.form import Number, Video

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
GAP = re.compile(r"\{(\w*)\}")
WORD = re.compile(r"[A-Za-z0-9][\w.-]{0,40}", re.ASCII)
BITRATE = re.compile(r"\d{1,9}(?:\.\d{1,3})?[kM]?", re.ASCII)
GIVEN = frozenset({"input", "output", "video"})  # the gaps that are no parameters
QUALITY = "quality"
KEYS = frozenset({"summary", "extensions", "command", "video", "quality", "parameters"})

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
    video: Video | None = None  # what the gap {video} is filled from; its encoder is chosen by the kind of worker
    parameters: tuple[Parameter, ...] = ()


def read(name: str, text: str) -> Preset:
    """The preset that a file says. Raises PresetInvalid."""
    try:
        data = tomllib.loads(text)
        preset = _preset(name, data)
    except tomllib.TOMLDecodeError as fault:
        raise PresetInvalid(f"it is no TOML: {fault}") from None
    except (KeyError, TypeError, AttributeError) as fault:
        raise PresetInvalid(f"a field is missing or of the wrong kind: {fault}") from None
    _check_gaps(preset)
    return preset


def prove(preset: Preset) -> None:
    """Raise PresetInvalid unless its command may run, with the defaults and with each bound, on either worker."""
    output = f"output.{preset.extensions[0]}"
    for given in ({}, *_bounds(preset)):
        for gpu in (False, True):
            try:
                text = command(preset, given, source="input.mp4", output=output, gpu=gpu)
                validate.check(text, input_names=["input.mp4"], output_names=[output])
            except CommandNotAllowed as refusal:
                raise PresetInvalid(f"its command may not run: {refusal.message}") from None
            except InvalidArgument as refusal:
                raise PresetInvalid(refusal.message) from None


def command(
    preset: Preset, given: Mapping[str, Any], *, source: str, output: str, gpu: bool, quality: str | None = None
) -> str:
    """The text of the command that makes `output` of `source`, not judged yet. Raises InvalidArgument.

    `quality` takes the place of the preset's own, where it has that parameter and none is given.
    """
    if quality and any(parameter.name == QUALITY for parameter in preset.parameters):
        given = {QUALITY: quality, **given}
    if output.rpartition(".")[2].lower() not in preset.extensions:
        endings = " or ".join(f".{extension}" for extension in preset.extensions)
        _refuse("output_filename", f"The output of {preset.name} ends in {endings}, unlike {shown(output)}.")
    chosen = _chosen(preset, given)
    filled = {name: value for name, value in chosen.items() if name != QUALITY}
    words: list[str] = []
    for word in preset.words:
        if word == "{video}" and preset.video:
            words += form.encoding(_with_quality(preset.video, chosen.get(QUALITY), gpu=gpu), gpu=gpu)
        else:
            words.append({"{input}": source, "{output}": output}.get(word) or _filled(word, filled))
    return shlex.join(words)


def uses_card(preset: Preset) -> bool:
    """Whether it is another command where a GPU is asked for."""
    return preset.video is not None and form.encoding(preset.video, gpu=True) != form.encoding(preset.video, gpu=False)


def _with_quality(video: Video, quality: str | None, *, gpu: bool) -> Video:
    return form.with_quality(video, quality, gpu=gpu) if quality else video


def _filled(word: str, chosen: Mapping[str, str]) -> str:
    return GAP.sub(lambda gap: chosen[gap[1]], word)


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
    return f"{bound / 1000:g}k" if parameter.type == "bitrate" else form.plain(bound)


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


# Reading.


def _preset(name: str, data: Mapping[str, Any]) -> Preset:
    if not NAME.fullmatch(name):
        raise PresetInvalid("its name must be lower-case letters, digits and dashes")
    _only(data, KEYS, "the preset")
    video = Video(**data["video"]) if "video" in data else None
    parameters = [_parameter(key, facts) for key, facts in data.get("parameters", {}).items()]
    parameters[:0] = _quality(video, data.get("quality", "balanced"))
    try:
        words = tuple(shlex.split(data["command"]))
    except ValueError as fault:
        raise PresetInvalid(f"its command cannot be split into words: {fault}") from None
    if not data["extensions"] or not all(isinstance(one, str) for one in data["extensions"]):
        raise PresetInvalid("its extensions must be a list of words")
    return Preset(
        name=name,
        summary=str(data["summary"]),
        extensions=tuple(data["extensions"]),
        words=words,
        video=video,
        parameters=tuple(parameters),
    )


def _quality(video: Video | None, default: str) -> Iterator[Parameter]:
    """The parameter that each preset has whose encoder can be asked for a quality."""
    if video is None:
        return
    encoder = codecs.video_encoder(video.codec or "", gpu=False)
    if encoder is None:
        raise PresetInvalid(f"its video.codec, {video.codec}, is none of {', '.join(codecs.ENCODES)}")
    if default not in codecs.QUALITIES:
        raise PresetInvalid(f"its quality must be one of {', '.join(codecs.QUALITIES)}")
    if codecs.VIDEO[encoder].quality and video.crf is None and video.bitrate is None:
        yield Parameter(
            name=QUALITY,
            type="word",
            description="How much of the picture is kept, in the measure of the encoder.",
            default=default,
            allowed=codecs.QUALITIES,
        )


def _parameter(name: str, facts: Mapping[str, Any]) -> Parameter:
    _only(facts, {field.name for field in fields(Parameter)} - {"name"}, f"the parameter {name}")
    made = Parameter(name=name, **{**facts, "allowed": tuple(facts.get("allowed", ()))})
    if made.type not in TYPES:
        raise PresetInvalid(f"the type of the parameter {name} must be one of {', '.join(TYPES)}")
    if name in GIVEN or name == QUALITY:
        raise PresetInvalid(f"no parameter may be called {name}")
    if made.type == "word" and not (made.allowed and all(WORD.fullmatch(word) for word in made.allowed)):
        raise PresetInvalid(f"the parameter {name} needs a list of allowed words, of letters, digits and . _ -")
    if TYPES[made.type](made, made.default) is None:
        raise PresetInvalid(f"the default of the parameter {name} is not within its own bounds")
    return made


def _only(data: Mapping[str, Any], known: "frozenset[str] | set[str]", what: str) -> None:
    if unknown := set(data) - known:
        raise PresetInvalid(f"{what} has the unknown field {min(unknown)}")


def _check_gaps(preset: Preset) -> None:
    """Whether each parameter has its gap, each gap its parameter, and none stands where an option is named."""
    gaps = [(word, gap) for word in preset.words for gap in GAP.findall(word)]
    known = {parameter.name for parameter in preset.parameters} - {QUALITY}
    for word, gap in gaps:
        if gap not in known | GIVEN:
            raise PresetInvalid(f"its command has the gap {{{gap}}}, and there is no such parameter")
        if word.startswith("-") or (gap in GIVEN and word != f"{{{gap}}}"):
            raise PresetInvalid(f"the gap {{{gap}}} may not stand in {word}")
    there = {gap for _, gap in gaps}
    needed = known | {"input", "output"} | ({"video"} if preset.video else set())
    if missing := needed - there or (there & {"video"} if not preset.video else set()):
        raise PresetInvalid(f"its command and its fields disagree about {{{min(missing)}}}")


def _bounds(preset: Preset) -> Iterator[dict[str, Value]]:
    for parameter in preset.parameters:
        ends: tuple[Value | None, ...] = parameter.allowed or (parameter.least, parameter.most)
        for end in ends:
            if end is not None:
                yield {parameter.name: int(end) if parameter.type == "bitrate" else end}
