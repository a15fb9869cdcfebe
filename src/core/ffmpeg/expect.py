"""How long a command's outputs will be, from the command and its probed inputs: what the percentage is measured by.

A length is a number of seconds, `inf` for what never ends by itself, or None for what cannot be told beforehand.
Where that cannot be told, no percentage is shown: a wrong one is worse than none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from core.ffmpeg.command import Command, Input, Option, Output, last
from core.ffmpeg.values import words
from core.task import Media, Stream

# No number here is longer than a float can hold.
CLOCK = re.compile(r"\s*(-?)(?:(\d{1,12}):)?([0-5]?\d):([0-5]?\d(?:\.\d*)?)s?$", re.ASCII)
COUNT = re.compile(r"\s*([-+]?\d{1,12}(?:\.\d*)?)(s|ms|us)?$", re.ASCII)
UNITS: Mapping[str | None, float] = {None: 1, "s": 1, "ms": 1e3, "us": 1e6}  # in a second

FILTER_NAME = re.compile(r"(?:^|(?<!\\)[,;\]])\s*([a-z_0-9]+)")
GRAPH_INPUT = re.compile(r"\[(\d{1,4})(?::[^\]]*)?\]")
MAPPED_INPUT = re.compile(r"(\d{1,4})")
RATE = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
WHOLE_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
LAVFI_DURATION = re.compile(r"[=:](?:d|duration)=([^:,;\[]+)")
FPS_FILTER = re.compile(r"(?:^|[,;\]])\s*fps=(?:fps=)?([\d./]+)")


# Filters after which the output is as long as their own options say; and sources, which need no input at all.
RETIMING = words(
    "setpts asetpts settb atempo asetrate rubberband trim atrim loop aloop tpad apad adelay concat select aselect "
    "zoompan xfade acrossfade interleave ainterleave segment asegment silenceremove freezeframes thumbnail tile "
    "palettegen showwavespic showspectrumpic movie amovie color nullsrc anullsrc testsrc testsrc2 smptebars sine "
    "aevalsrc gradients mandelbrot"
)
# Filters that give one frame for each frame; what is not named here may give any number.
FRAMEWISE = words(
    "scale scale_cuda scale_npp zscale crop pad format setsar setdar drawtext drawbox overlay overlay_cuda "
    "subtitles ass eq hue curves colorbalance colorchannelmixer unsharp gblur boxblur hqdn3d nlmeans deband noise "
    "vignette lut3d hflip vflip transpose rotate reverse hwupload hwupload_cuda hwdownload split fade tonemap "
    "delogo null copy"
)
IMAGES = frozenset({"png", "mjpeg", "jpeg", "jpg", "bmp", "webp", "tiff", "gif"})
AUDIO_OUTPUT = re.compile(r"\.(?:mp3|m4a|aac|wav|flac|opus|ogg|oga|ac3|mp2|wma)$", re.IGNORECASE)
MOST_FRAMES_PER_SECOND = 240  # above, it is the time base of a cover image, not a frame rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    duration_seconds: float | None = None  # of the longest output
    frames: int | None = None  # of the first video stream that is written
    clock: bool = True  # whether the out_time that ffmpeg reports is a time of the output, not of the source


def expected(command: Command, media: Mapping[str, Media]) -> Expected:
    """What `command` will write, given what its inputs are; `media` has each input by its name in the command."""
    plans = [_plan(output, command, media) for output in command.outputs]
    lengths = [plan.length for plan in plans if not plan.frames_only]
    whole = _longest(lengths) if lengths else None
    frames = {plan.frames for plan in plans if plan.video}
    return Expected(
        duration_seconds=whole if whole is not None and isfinite(whole) else None,
        frames=frames.pop() if len(frames) == 1 else None,
        clock=_own_clock(command),
    )


def seconds(text: str | None) -> float | None:
    """A time as ffmpeg reads it, `[-][HH:]MM:SS[.m]` or `[-]S[.m][s|ms|us]`; None when it would refuse it."""
    if clock := CLOCK.match(text or ""):
        sign, hours, minutes, rest = clock.groups()
        return (-1 if sign else 1) * (int(hours or 0) * 3600 + int(minutes) * 60 + float(rest))
    count = COUNT.match(text or "")
    return float(count[1]) / UNITS[count[2]] if count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is expected of one output."""

    length: float | None
    frames: int | None
    video: bool
    frames_only: bool  # -frames:v ends the whole output, its audio too, with the last frame


def _plan(output: Output, command: Command, media: Mapping[str, Media]) -> _Plan:
    sources = [command.inputs[index] for index in _sources(output, command) if index < len(command.inputs)]
    known = [media[source.name] for source in sources if source.name in media]
    length = _length(output, command, media, sources)
    limit = _frame_limit(output)
    counted = _frames(output, command, known, length)
    return _Plan(
        length=length,
        frames=min((n for n in (limit, counted) if n is not None), default=None),
        video=not (_has(output, "vn") or AUDIO_OUTPUT.search(output.name)),
        frames_only=limit is not None,
    )


def _length(output: Output, command: Command, media: Mapping[str, Media], sources: Sequence[Input]) -> float | None:
    length = _combined(output, command, media, sources)
    if RETIMING & set(_filters(output, command)):
        length = None
    if last(output.options, "fs") is not None:
        return None
    return _cut(length, output.options)


def _combined(output: Output, command: Command, media: Mapping[str, Media], sources: Sequence[Input]) -> float | None:
    """How long the sources of an output are together."""
    graph = " ".join(_graphs(command))
    moving = [source for source in sources if not _still(source, media)]
    lengths = [_input_length(source, media) for source in moving]
    if not lengths:
        return None
    if "shortest=1" in graph or _has(output, "shortest"):
        return None if None in lengths else min(length for length in lengths if length is not None)
    if graph and len(set(lengths)) > 1:
        return None  # which of them a graph goes by depends on its filters
    return _longest(lengths)


def _longest(lengths: Sequence[float | None]) -> float | None:
    known = [length for length in lengths if length is not None]
    return max(known) if known and len(known) == len(lengths) else None


def _cut(length: float | None, options: tuple[Option, ...]) -> float | None:
    """What -ss, -t and -to leave of a length. They mean the same before an input and before an output."""
    start = seconds(last(options, "ss")) or 0.0
    t, to = seconds(last(options, "t")), seconds(last(options, "to"))
    limit = t if t is not None else (None if to is None else to - start)
    rest = None if length is None else length - start
    bounds = [bound for bound in (rest, limit) if bound is not None]
    return max(min(bounds), 0.0) if bounds else None


def _input_length(source: Input, media: Mapping[str, Media]) -> float | None:
    options = source.options
    if source.synthetic:
        found = LAVFI_DURATION.search(source.name)
        return _cut(seconds(found[1]) if found else inf, options)
    if not _endless(options) and {"itsscale", "r", "framerate"} & {option.name for option in options}:
        return _cut(None, options)
    facts = media.get(source.name)
    length = _looped(facts.duration_seconds if facts else None, options)
    from_end = seconds(last(options, "sseof"))
    if from_end is not None and length is not None:
        length = min(length, -from_end)
    return _cut(length, options)


def _looped(length: float | None, options: tuple[Option, ...]) -> float | None:
    if _endless(options):
        return inf
    loops = last(options, "stream_loop") or "0"
    if length is None or not WHOLE_NUMBER.fullmatch(loops):
        return None
    # Each turn starts at -ss again, and how exactly depends on the format.
    return None if loops != "0" and last(options, "ss") else length * (int(loops) + 1)


def _endless(options: tuple[Option, ...]) -> bool:
    forever = (last(options, "stream_loop") or "").startswith("-") or last(options, "ignore_loop") == "0"
    return forever or last(options, "loop") not in (None, "0")


def _still(source: Input, media: Mapping[str, Media]) -> bool:
    """Whether it is one picture, shown as long as the rest lasts."""
    facts = media.get(source.name)
    if facts is None or _endless(source.options):
        return False
    return is_picture(facts)


def is_picture(media: Media) -> bool:
    """Whether it is one picture; what moves in a WebP, the prober does not tell."""
    picture = media.container.endswith("_pipe") or media.container in ("image2", *IMAGES)
    return picture and (media.duration_seconds or 0.0) < 0.1


def _sources(output: Output, command: Command) -> list[int]:
    """Which inputs an output is made of, as far as its maps tell; all of them when it has none."""
    maps = [option.value or "" for option in output.options if option.name == "map"]
    if not maps:
        return list(range(len(command.inputs)))
    direct = {int(found[1]) for value in maps if (found := MAPPED_INPUT.match(value))}
    if any(value.startswith("[") for value in maps):
        direct.update(int(index) for graph in _graphs(command) for index in GRAPH_INPUT.findall(graph))
    return sorted(direct) or list(range(len(command.inputs)))


def _graphs(command: Command) -> Iterator[str]:
    return (option.value or "" for option in command.global_options if option.name in ("filter_complex", "lavfi"))


def _filters(output: Output, command: Command) -> Iterator[str]:
    """The names of the filters that an output may pass; a word inside an expression may be among them."""
    own = (option.value or "" for option in output.options if option.name in ("vf", "af", "filter"))
    return (name for graph in (*_graphs(command), *own) for name in FILTER_NAME.findall(graph))


def _frames(output: Output, command: Command, known: Iterable[Media], length: float | None) -> int | None:
    rate = _output_rate(output, command, known)
    return round(length * rate) if length is not None and rate and isfinite(length * rate) else None


def _output_rate(output: Output, command: Command, known: Iterable[Media]) -> float | None:
    if {"fps_mode", "bsf"} & {option.name for option in output.options}:
        return None
    rate, most = _unbounded_rate(output, command, known), last(output.options, "fpsmax")
    return rate if rate is None or most is None else min(rate, _rate(most) or rate)


def _unbounded_rate(output: Output, command: Command, known: Iterable[Media]) -> float | None:
    asked = next((o.value for o in reversed(output.options) if o.name == "r" and _for_video(o)), None)
    if asked is not None:
        return _rate(asked)
    filters = [name for name in _filters(output, command) if not name.isdecimal()]
    chain = last(output.options, "vf") or ""
    if filters.count("fps") == 1 and (found := FPS_FILTER.search(chain)) and set(filters) <= {"fps", *FRAMEWISE}:
        return _rate(found[1])
    rates = {stream.frame_rate for facts in known for stream in facts.streams if _moves(stream)}
    return rates.pop() if len(rates) == 1 and set(filters) <= FRAMEWISE else None


def _rate(text: str) -> float | None:
    number, _, divisor = text.partition("/")
    if not RATE.fullmatch(number) or not RATE.fullmatch(divisor or "1"):
        return None
    return float(number) / (float(divisor or 1) or inf)


def _moves(stream: Stream) -> bool:
    return (
        stream.type == "video" and stream.codec not in IMAGES and 0 < (stream.frame_rate or 0) <= MOST_FRAMES_PER_SECOND
    )


def _frame_limit(output: Output) -> int | None:
    limits = [o.value or "" for o in output.options if o.name == "vframes" or (o.name == "frames" and _for_video(o))]
    return int(limits[-1]) if limits and WHOLE_NUMBER.fullmatch(limits[-1]) else None


def _for_video(option: Option) -> bool:
    return option.specifier is None or option.specifier.startswith("v")


def _has(output: Output, name: str) -> bool:
    return any(option.name == name and not option.negated for option in output.options)


def _own_clock(command: Command) -> bool:
    """Copied packets keep the source's clock until -ss is taken off, which is after out_time was read."""
    if _anywhere(command, "copyts") or _anywhere(command, "itsoffset") or _anywhere(command, "output_ts_offset"):
        return False
    return not any(_has(output, "ss") and _copies(output) for output in command.outputs)


def _copies(output: Output) -> bool:
    return any(o.name in ("c", "codec", "vcodec", "acodec", "scodec") and o.value == "copy" for o in output.options)


def _anywhere(command: Command, name: str) -> bool:
    return any(option.name == name for option in command.options())
