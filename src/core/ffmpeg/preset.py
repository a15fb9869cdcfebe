"""A preset: a command with gaps, as data in TOML, and the typed values that may fill them.

The command is split into words before a gap is filled, and a value is a number or one of the listed words: so none can
end a word, begin an option or say anything of its own in a filter graph. What comes out is judged like any command.
A preset that looks at the source (looks.py) has gaps that are filled by what that is, once it is known.
"""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, NoReturn

from core.errors import CommandNotAllowed, InvalidArgument
from core.ffmpeg import codecs, form, names, validate, values
from core.ffmpeg.command import shown
from core.ffmpeg.form import Number, Video
from core.ffmpeg.looks import LOOKS, Asked, Filling, Look
from core.ffmpeg.loudness import Loudness
from core.task import Media, Stream

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
GAP = re.compile(r"\{(\w*)\}")
WORD = re.compile(r"[A-Za-z0-9][\w.-]{0,40}", re.ASCII)
BITRATE = re.compile(r"\d{1,9}(?:\.\d{1,3})?[kM]?", re.ASCII)
GIVEN = frozenset({"input", "output", "video"})  # the gaps that are no parameters
WHOLE = GIVEN | {"rungs"}  # the gaps that are whole words
QUALITY = "quality"
KEYS = frozenset({"summary", "extensions", "command", "video", "quality", "parameters", "looks", "measure", "rungs"})
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


def read(name: str, text: str) -> Preset:
    """The preset that a file says. Raises PresetInvalid."""
    try:
        data = tomllib.loads(text)
        preset = replace(_preset(name, data), text=text)
    except tomllib.TOMLDecodeError as fault:
        raise PresetInvalid(f"it is no TOML: {fault}") from None
    except (KeyError, TypeError, AttributeError) as fault:
        raise PresetInvalid(f"a field is missing or of the wrong kind: {fault}") from None
    _check_look(preset)
    _check_gaps(preset)
    return preset


def prove(preset: Preset) -> None:
    """Raise PresetInvalid unless its command may run, with the defaults and with each bound, on either worker, and
    whatever it finds the source to be."""
    output = f"output.{preset.extensions[0]}"
    sources = (None, *(SOURCES if preset.looks else ()))
    for given in ({}, *_bounds(preset)):
        for gpu, media in ((gpu, media) for gpu in (False, True) for media in sources):
            try:
                first = measuring(preset, given, source="input.mp4", output=output)
                second = made(preset, given, source="input.mp4", output=output, gpu=gpu, media=media)
                for text, written in filter(None, (first, second)):
                    validate.check(text, input_names=["input.mp4"], output_names=written)
            except CommandNotAllowed as refusal:
                raise PresetInvalid(f"its command may not run: {refusal.message}") from None
            except InvalidArgument as refusal:
                raise PresetInvalid(refusal.message) from None


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
    if preset.looks and (names.is_pattern(output) or len(output) > MOST_NAME):
        message = f"The output of {preset.name} needs a name without % and of at most {MOST_NAME} characters"
        _refuse("output_filename", f"{message}, as others may be called after it.")


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
    if data.get("looks") != "bitrate":
        parameters[:0] = _quality(video, data.get("quality", "balanced"))
    if not data["extensions"] or not all(isinstance(one, str) for one in data["extensions"]):
        raise PresetInvalid("its extensions must be a list of words")
    return Preset(
        name=name,
        summary=str(data["summary"]),
        extensions=tuple(data["extensions"]),
        words=_split("command", data["command"]),
        looks=data.get("looks"),
        measure=_split("measure", data.get("measure", "")),
        rungs={int(lines): _bits(rate) for lines, rate in data.get("rungs", {}).items()},
        video=video,
        parameters=tuple(parameters),
    )


def _split(field: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as fault:
        raise PresetInvalid(f"its {field} cannot be split into words: {fault}") from None


def _bits(rate: str) -> int:
    if not BITRATE.fullmatch(rate):
        raise PresetInvalid(f"its rungs have {shown(str(rate))}, which is no bit rate such as 2.5M")
    return round(values.number(rate) or 0)


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


def _check_look(preset: Preset) -> None:
    """Whether there is all that its look goes by, and nothing that only another would."""
    if preset.looks is not None and preset.looks not in LOOKS:
        raise PresetInvalid(f"it looks at {shown(str(preset.looks))}, which is none of {', '.join(LOOKS)}")
    look = look_of(preset)
    types = {parameter.name: parameter.type for parameter in preset.parameters}
    for name, kind in (look.parameters if look else {}).items():
        if types.get(name) != kind:
            raise PresetInvalid(f"a preset that looks at {preset.looks} needs the parameter {name}, of type {kind}")
    if bool(preset.measure) != bool(look and look.measures):
        raise PresetInvalid("measure is for a preset that looks at loudness, which needs it")
    if bool(preset.rungs) != (preset.looks == "ladder"):
        raise PresetInvalid("rungs are for a preset that looks at ladder, which needs them")
    if preset.looks == "ladder" and not _is_steady(preset):
        raise PresetInvalid("a ladder needs a video.codec whose key frames can be set: h264 or hevc")


def _is_steady(preset: Preset) -> bool:
    rows = [codecs.video_encoder((preset.video and preset.video.codec) or "", gpu=gpu) for gpu in (False, True)]
    return all(row is not None and codecs.VIDEO[row].steady is not None for row in rows)


def _check_gaps(preset: Preset) -> None:
    """Whether each parameter has its gap, each gap its parameter, and none stands where an option is named."""
    look = look_of(preset)
    filled, used = (look.gaps, set(look.parameters)) if look else (frozenset[str](), set[str]())
    gaps = [(word, gap) for word in preset.words for gap in GAP.findall(word)]
    known = {parameter.name for parameter in preset.parameters} - {QUALITY}
    of_measure = [(word, gap) for word in preset.measure for gap in GAP.findall(word)]
    for word, gap in (*gaps, *of_measure):
        if gap not in known | GIVEN | filled:
            raise PresetInvalid(f"its command has the gap {{{gap}}}, and there is no such parameter")
        if word.startswith("-") or (gap in WHOLE and word != f"{{{gap}}}"):
            raise PresetInvalid(f"the gap {{{gap}}} may not stand in {word}")
    there = {gap for _, gap in gaps}
    # What else a look goes by may change with the source without a word in the command.
    free = used | ({"segments"} if preset.looks == "ladder" else set())
    needed = (known - free) | filled | {"input", "output"} | ({"video"} if preset.video else set())
    if missing := needed - there or (there & {"video"} if not preset.video else set()):
        raise PresetInvalid(f"its command and its fields disagree about {{{min(missing)}}}")
    if not {"input", "output"} >= {gap for _, gap in of_measure} - known:
        raise PresetInvalid("its measure may have the gaps {input}, {output} and those of parameters only")


def _bounds(preset: Preset) -> Iterator[dict[str, Value]]:
    for parameter in preset.parameters:
        ends: tuple[Value | None, ...] = parameter.allowed or (parameter.least, parameter.most)
        for end in ends:
            if end is not None:
                yield {parameter.name: int(end) if parameter.type == "bitrate" else end}


def _source(width: int, height: int, *others: Stream, seconds: float = 5.31) -> Media:
    shown = Stream(type="video", codec="h264", width=width, height=height, frame_rate=25.0, bit_rate=40_000_000)
    return Media(container="mp4", duration_seconds=seconds, streams=(shown, *others))


# What a source may be, between the ends of which the others lie.
SOURCES = (
    _source(7680, 4320, Stream(type="audio", codec="aac", channels=6, sample_rate=96_000), seconds=36_000),
    _source(90, 160),
)
