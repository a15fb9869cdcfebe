"""A preset's file: what it may say, read into a Preset, and proved to give commands that may run.

A fault is a PresetInvalid that says what is wrong with the file; whose file it is, the caller knows.
"""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from core.errors import CommandNotAllowed, InvalidArgument
from core.ffmpeg import codecs, validate, values
from core.ffmpeg.command import shown
from core.ffmpeg.form import Video
from core.ffmpeg.looks import LOOKS
from core.ffmpeg.preset import (
    BITRATE,
    GAP,
    GIVEN,
    QUALITY,
    TYPES,
    Made,
    Parameter,
    Preset,
    PresetInvalid,
    Value,
    look_of,
    made,
    measuring,
)
from core.task import Media, Stream

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
WORD = re.compile(r"[A-Za-z0-9][\w.-]{0,40}", re.ASCII)
LEAST_LINES, MOST_LINES = 16, 4320  # of a rung
WHOLE = GIVEN | {"rungs"}  # the gaps that are whole words
KEYS = frozenset({"summary", "extensions", "command", "video", "quality", "parameters", "looks", "measure", "rungs"})


def _source(width: int, height: int, *others: Stream, seconds: float = 5.31) -> Media:
    shown = Stream(type="video", codec="h264", width=width, height=height, frame_rate=25.0, bit_rate=40_000_000)
    return Media(container="mp4", duration_seconds=seconds, streams=(shown, *others))


# What a source may be, between the ends of which the others lie.
SOURCES = (
    _source(7680, 4320, Stream(type="audio", codec="aac", channels=6, sample_rate=96_000), seconds=36_000),
    _source(90, 160),
)


def read(name: str, text: str) -> Preset:
    """The preset that a file says. Raises PresetInvalid."""
    try:
        data = tomllib.loads(text)
        preset = replace(_preset(name, data), text=text)
        _check_look(preset)
    except tomllib.TOMLDecodeError as fault:
        raise PresetInvalid(f"it is no TOML: {fault}") from None
    except (KeyError, TypeError, AttributeError) as fault:
        raise PresetInvalid(f"a field is missing or of the wrong kind: {fault}") from None
    _check_gaps(preset)
    return preset


def prove(preset: Preset) -> None:
    """Raise PresetInvalid unless its command may run, with the defaults and with each bound, on either worker, and
    whatever it finds the source to be."""
    try:
        for text, written in _commands(preset):
            validate.check(text, input_names=["input.mp4"], output_names=written)
    except CommandNotAllowed as refusal:
        raise PresetInvalid(f"its command may not run: {refusal.message}") from None
    except InvalidArgument as refusal:
        raise PresetInvalid(refusal.message) from None
    except (TypeError, AttributeError, ArithmeticError) as fault:
        raise PresetInvalid(f"a field is of the wrong kind: {fault}") from None


def _commands(preset: Preset) -> Iterator[Made]:
    output = f"output.{preset.extensions[0]}"
    sources = (None, *(SOURCES if preset.looks else ()))
    for given in ({}, *_bounds(preset)):
        for gpu, media in ((gpu, media) for gpu in (False, True) for media in sources):
            if first := measuring(preset, given, source="input.mp4", output=output):
                yield first
            yield made(preset, given, source="input.mp4", output=output, gpu=gpu, media=media)


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
        rungs={_lines(name): _bits(rate) for name, rate in data.get("rungs", {}).items()},
        video=video,
        parameters=tuple(parameters),
    )


def _split(field: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as fault:
        raise PresetInvalid(f"its {field} cannot be split into words: {fault}") from None


def _lines(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and LEAST_LINES <= int(name[:9]) <= MOST_LINES):
        raise PresetInvalid(f"its rungs have {shown(name)}: that is no number from {LEAST_LINES} to {MOST_LINES}")
    return int(name)


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
    known = {parameter.name: parameter for parameter in preset.parameters}
    for name, kind in (look.parameters if look else {}).items():
        if name not in known or known[name].type != kind:
            raise PresetInvalid(f"a preset that looks at {preset.looks} needs the parameter {name}, of type {kind}")
        if kind != "number" and (known[name].least or 0) < 1:
            raise PresetInvalid(f"the parameter {name} must be 1 at least")
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
