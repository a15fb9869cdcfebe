"""What the flags ask for, as the body of register. Pure: which files there are is for others to see.

The flags say one of three things, as the API has them: a command in ffmpeg's words, a preset, or options by field.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from handlers.client.faults import Usage

_NOTHING = "https://example.com/to-be-sent"
INPUT, OUTPUT = "{input}", "{output}"

# The flags that are fields of `options`, and where each goes.
FIELDS: Mapping[str, str] = {
    "video_codec": "video.codec",
    "crf": "video.crf",
    "video_bitrate": "video.bitrate",
    "fps": "video.fps",
    "scale": "video.scale",
    "video_preset": "video.preset",
    "video_profile": "video.profile",
    "pixel_format": "video.pixel_format",
    "audio_codec": "audio.codec",
    "audio_bitrate": "audio.bitrate",
    "channels": "audio.channels",
    "sample_rate": "audio.sample_rate",
    "start": "trim.start",
    "end": "trim.end",
    "duration": "trim.duration",
    "container": "container",
}
_TEXT = frozenset({"video.codec", "video.scale", "video.profile", "video.pixel_format", "audio.codec", "container"})
_URL = re.compile(r"(https?|s3|upload):", re.IGNORECASE)
_NAMED = re.compile(r"([^/=:]+)=(.+)", re.DOTALL)
_UNPLAIN = re.compile(r"[^\w. -]")
NUMBER = re.compile(r"%(?:0\d+)?d")  # t_%03d.jpg is many outputs
_UNPLAIN_IN_PATTERN = re.compile(rf"(?!{NUMBER.pattern})[^\w. -]")


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input: its name in the command, and where its bytes are."""

    name: str
    where: Path | str  # a file, or a URL

    @property
    def is_file(self) -> bool:
        return isinstance(self.where, Path)

    @classmethod
    def read(cls, text: str) -> "Source":
        """`PATH`, `URL`, or either with `NAME=` in front. What is a file is a file, whatever it looks like."""
        named = None if Path(text).exists() else _NAMED.fullmatch(text)
        name, place = (named[1], named[2]) if named else ("", text)
        if _URL.match(place) and not Path(place).exists():
            return cls(name=name or _last_part(place), where=place)
        return cls(name=name or Path(place).name, where=Path(place))


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be done with the inputs, as the flags say it. Values are as they were typed."""

    command: str | None = None
    preset: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # -o: of the preset, or a field of the options
    fields: Mapping[str, str] = field(default_factory=dict)  # by their place in the options
    without: Sequence[str] = ()  # video, audio
    extra: Sequence[str] = ()
    further: Mapping[str, Any] = field(default_factory=dict)  # compute and the like, as the API has them

    @property
    def is_command(self) -> bool:
        return self.command is not None


@dataclass(frozen=True, kw_only=True)
class Order:
    """One task: what to register, what its inputs are, and where its outputs go."""

    label: str
    body: Mapping[str, Any]
    sources: Sequence[Source]
    targets: Mapping[str, Path]  # by the name of the output

    def stand_ins(self) -> dict[str, str]:
        """A URL for each input; for a file, which has none yet, that of nothing."""
        return {one.name: _NOTHING if isinstance(one.where, Path) else one.where for one in self.sources}

    def registration(self, urls: Mapping[str, str]) -> dict[str, Any]:
        """The body, with the URLs of the inputs by their names."""
        return {**self.body, "input_files": dict(urls)}


def order(wish: Wish, sources: Sequence[Source], targets: Sequence[Path]) -> Order:
    """Raises Usage where that cannot be one task."""
    if not targets:
        raise Usage("Say where the result goes: --output FILE.")
    if not wish.is_command:
        _check_single(sources, targets)
    plain = not wish.is_command or INPUT in (wish.command or "")
    sources = [Source(name=_plain(one.name) if plain else one.name, where=one.where) for one in sources]
    odd = _UNPLAIN_IN_PATTERN if wish.is_command else _UNPLAIN
    names = [_plain(target.name, odd) if plain else target.name for target in targets]
    if plain and sources:  # talk.mp4 may become web/talk.mp4: to a command these are two names
        first = Source(name=_apart(sources[0].name, names), where=sources[0].where)
        sources = [first, *sources[1:]]
    for what, listed in (("input", [one.name for one in sources]), ("output", names)):
        if twice := {name for name in listed if listed.count(name) > 1}:
            raise Usage(f"Two of the {what}s are called {min(twice)!r}; give each --{what} a name of its own.")
    body = {**_what(wish, sources, names), **wish.further}
    body |= {"output_filename": names[0]} if len(names) == 1 else {"output_files": names}
    label = sources[0].name if sources else names[0]
    return Order(label=label, body=body, sources=sources, targets=dict(zip(names, targets, strict=True)))


def target_for(pattern: str, source: Source, number: int) -> Path:
    """Where the result of one of many goes: {stem} is the input's name without its ending, {number} counts from 1."""
    return Path(pattern.replace("{stem}", PurePosixPath(source.name).stem).replace("{number}", str(number)))


def _check_single(sources: Sequence[Source], targets: Sequence[Path]) -> None:
    if len(sources) != 1 or len(targets) != 1:
        raise Usage("Several inputs or outputs, or none, take a --command; anything else has one of each.")


def _what(wish: Wish, sources: Sequence[Source], outputs: Sequence[str]) -> dict[str, Any]:
    ways = [wish.is_command, wish.preset is not None, bool(wish.fields or wish.without or wish.extra)]
    if sum(ways) > 1:
        raise Usage("Give a --command, a --preset with its -o, or flags such as --video-codec; not two of these.")
    if wish.command is not None:
        if wish.settings:
            raise Usage("-o goes with a --preset or stands for a flag; a --command says it all itself.")
        return {"command": _filled(wish.command, sources, outputs)}
    if wish.preset is not None:
        return {"preset": wish.preset, "parameters": {name: _value(text) for name, text in wish.settings.items()}}
    return {"options": _options({**wish.fields, **wish.settings}, wish.without, wish.extra)}


def _filled(command: str, sources: Sequence[Source], outputs: Sequence[str]) -> str:
    if INPUT in command and not sources:
        raise Usage("The --command has {input}, but there is no input.")
    if INPUT in command:
        command = command.replace(INPUT, shlex.quote(sources[0].name))
    return command.replace(OUTPUT, shlex.quote(outputs[0]))


def _options(fields: Mapping[str, str], without: Sequence[str], extra: Sequence[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for place, text in fields.items():
        if place not in FIELDS.values():
            raise Usage(f"-o {place}: there is no such field; there are {', '.join(FIELDS.values())}.")
        group, _, name = place.rpartition(".")
        within = made.setdefault(group, {}) if group else made
        within[name] = text if place in _TEXT else _value(text)
    for group in without:
        if group in made:
            raise Usage(f"--no-{group} leaves nothing for the other flags of {group} to say.")
        made[group] = None
    return made | ({"extra_args": list(extra)} if extra else {})


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if number == number and abs(number) != float("inf") else text
    return text


def _last_part(url: str) -> str:
    return unquote(PurePosixPath(urlsplit(url).path).name) or "input"


def _apart(name: str, others: Sequence[str]) -> str:
    while name.casefold() in {other.casefold() for other in others}:
        name = f"source-{name}"
    return name


def _plain(name: str, odd: re.Pattern[str] = _UNPLAIN) -> str:
    """A name that any command can have, where it is ours to choose."""
    return odd.sub("_", name).lstrip("-. ") or "file"
