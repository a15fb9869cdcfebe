"""Options -> command: what is wished of the picture and the sound, in fields instead of ffmpeg's words.

Each wish is judged against the row of its encoder (codecs.py), so that a fault names the field and the values that
there are. The command is judged once more, like any other, by validate.py: `extra_args` come in unseen here.
"""

import math
import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from core.errors import InvalidArgument
from core.ffmpeg import codecs, names, values
from core.ffmpeg.codecs import AUDIO, CONTAINERS, QUALITIES, VIDEO, AudioEncoder, Container, VideoEncoder
from core.ffmpeg.command import shown
from core.ffmpeg.expect import seconds

COPY = "copy"
EVEN = "scale=trunc(iw/2)*2:trunc(ih/2)*2"  # leaves even pictures as they are; 4:2:0 has no odd ones
PALETTE = "split[a][b];[a]palettegen[p];[b][p]paletteuse"
GRAPHS = frozenset({"-vf", "-filter", "-filter:v", "-filter_complex", "-lavfi"})
BITRATES = (1_000, 1_000_000_000)  # of video, in bits per second
SAMPLE_RATES = (8_000, 192_000)

Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A side that is None follows from the other."""

    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    codec: str | None = None  # h264, or an encoder: libx264
    crf: Number | None = None
    bitrate: Number | str | None = None  # bits per second, or with k or M
    fps: Number | str | None = None
    scale: str | Size | None = None
    preset: str | int | None = None
    profile: str | None = None
    pixel_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    codec: str | None = None
    bitrate: Number | str | None = None
    channels: int | None = None
    sample_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """Times in seconds, or as [HH:]MM:SS[.m]."""

    start: Number | str | None = None
    end: Number | str | None = None
    duration: Number | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`video` and `audio` are None where there is to be none; without wishes they are what the container has first."""

    video: Video | None = Video()
    audio: Audio | None = Audio()
    container: str | None = None  # told by the output's extension, too
    trim: Trim = Trim()
    extra_args: tuple[str, ...] = ()


def command(options: Options, *, source: str, output: str, gpu: bool, quality: str | None = None) -> str:
    """The text of the command that makes `output` of `source`, not judged yet. Raises InvalidArgument.

    `quality` is the profile of a picture for which neither a quality nor a bit rate is wished; else it is balanced.
    """
    if names.is_pattern(output):
        _refuse("output_filename", "Options make one file: give it a name without %")
    container = _container(options.container, output)
    tokens = (
        *_trim(options.trim),
        *("-i", source),
        *_video(options, container, gpu=gpu, quality=quality),
        *_audio(options.audio, container),
        *CONTAINERS[container].options,
        *options.extra_args,
        output,
    )
    return shlex.join(tokens)


def encoding(video: Video, *, gpu: bool) -> tuple[str, ...]:
    """The arguments for the encoder of `video`, which names a codec; its sizes and rate are not among them."""
    name = codecs.video_encoder(video.codec or "", gpu=gpu)
    if name is None:
        allowed = (*codecs.ENCODES, *(encoder for encoder in VIDEO if encoder not in codecs.ENCODES), COPY)
        _unsupported("video.codec", "video codec", video.codec or "", allowed)
    return ("-c:v", name, *_encoded(video, name, VIDEO[name]))


def with_quality(video: Video, quality: str, *, gpu: bool) -> Video:
    """`video` with the constant quality that a profile means to its encoder."""
    row = VIDEO[codecs.video_encoder(video.codec or "", gpu=gpu) or ""]
    return replace(video, crf=row.profile_crf[QUALITIES.index(quality)])


def _container(wanted: str | None, output: str) -> str:
    extension = output.rpartition(".")[2].lower()
    if wanted is None:
        found = next((name for name, row in CONTAINERS.items() if extension in row.extensions), None)
        if found is None:
            allowed = [ending for row in CONTAINERS.values() for ending in row.extensions]
            _refuse("output_filename", f"The extension of {shown(output)} names no container of options", allowed)
        return found
    if wanted not in CONTAINERS:
        _unsupported("container", "container", wanted, CONTAINERS)
    if extension not in CONTAINERS[wanted].extensions:
        message = f"The container is {wanted}, and output_filename, {shown(output)}, ends in something else"
        _refuse("container", message, CONTAINERS[wanted].extensions)
    return wanted


def _trim(trim: Trim) -> Iterator[str]:
    start, end, duration = (_time(getattr(trim, name), name) for name in ("start", "end", "duration"))
    if end is not None and duration is not None:
        _refuse("trim", "Give end or duration of trim, not both")
    if end is not None and end <= (start or 0):
        _refuse("trim.end", "trim.end must be later than trim.start")
    if start:
        yield from ("-ss", plain(start))
    if length := duration if end is None else end - (start or 0):
        yield from ("-t", plain(length))


def _time(value: Number | str | None, name: str) -> float | None:
    if value is None:
        return None
    given = seconds(value) if isinstance(value, str) else float(value) if abs(value) < 1e9 else None
    found = None if given is None or not math.isfinite(given) else round(given, 6)  # as exact as it is written
    if found is None or found < 0 or (found == 0 and name == "duration"):
        _refuse(f"trim.{name}", f"trim.{name} must be a time, in seconds or as HH:MM:SS, and not before the beginning")
    return found


def _video(options: Options, container: str, *, gpu: bool, quality: str | None) -> Iterator[str]:
    video, row = options.video, CONTAINERS[container]
    if video is None or not row.video:
        if video not in (None, Video()):
            _refuse("video", f"{container} holds no video: leave it out, or take another container", _holding("video"))
        if video is None and options.audio is None:
            _refuse("video", "There would be nothing in the output: video and audio are both null")
        yield "-vn"
        return
    named = video.codec or row.video[0]
    if named == COPY:
        _only_copied(video, Video(codec=COPY), "video")
        yield from ("-c:v", COPY)
        return
    arguments = encoding(_of_quality(replace(video, codec=named), quality, gpu=gpu), gpu=gpu)
    encoder = arguments[1]
    _fits(VIDEO[encoder], row, container, kind="video", named=named)
    yield from _graph(video, encoder, options.extra_args)
    yield from arguments
    if VIDEO[encoder].codec == "hevc" and container in ("mp4", "mov"):
        yield from ("-tag:v", "hvc1")  # the players of Apple know it by no other


def _of_quality(video: Video, quality: str | None, *, gpu: bool) -> Video:
    row = VIDEO.get(codecs.video_encoder(video.codec or "", gpu=gpu) or "")
    takes_one = row and row.quality and video.crf is None and video.bitrate is None
    return with_quality(video, quality, gpu=gpu) if quality and takes_one else video


def _encoded(video: Video, name: str, row: VideoEncoder) -> Iterator[str]:
    yield from row.always
    yield from _speed(video.preset, name, row)
    yield from _rate(video, name, row)
    if video.profile is not None:
        if video.profile not in row.profiles:
            _unsupported("video.profile", f"profile of {name}", video.profile, sorted(row.profiles))
        yield from ("-profile:v", video.profile)
    pixels = video.pixel_format or row.usual_pixels
    if pixels is not None:
        if pixels not in row.pixel_formats:
            _unsupported("video.pixel_format", f"pixel format of {name}", pixels, row.pixel_formats)
        yield from ("-pix_fmt", row.pixel_formats[pixels])


def _speed(preset: str | int | None, name: str, row: VideoEncoder) -> Iterator[str]:
    asked = row.usual_preset if preset is None else str(preset)
    if asked is None:
        return
    if asked not in row.presets:
        _unsupported("video.preset", f"preset of {name}", asked, row.presets)
    yield from _filled(row.speed, row.presets[asked])


def _rate(video: Video, name: str, row: VideoEncoder) -> Iterator[str]:
    if video.crf is not None and video.bitrate is not None:
        message = "Give crf or bitrate of video, not both; -maxrate and -bufsize in extra_args limit a crf"
        _refuse("video.bitrate", message)
    if video.bitrate is not None:
        if not row.bitrate:
            _refuse("video.bitrate", f"{name} takes no bit rate: leave it out")
        yield from _filled(row.bitrate, _bitrate(video.bitrate, "video.bitrate", BITRATES))
    elif video.crf is not None or row.quality:
        crf = row.profile_crf[1] if video.crf is None else video.crf
        if not row.quality:
            _refuse("video.crf", f"{name} takes no crf: leave it out")
        yield from _filled(row.quality, plain(_within(crf, "video.crf", row.crf)))


def _graph(video: Video, encoder: str, extra_args: Collection[str]) -> Iterator[str]:
    """Rate first: a picture that is left out need not be scaled."""
    wished = [*_fps(video.fps), *_scale(video.scale)]
    if GRAPHS & set(extra_args):
        if wished:
            _refuse("extra_args", "A filter in extra_args would replace fps and scale of video: put all into one")
        return
    if encoder == "gif":
        yield from ("-vf", ",".join((*wished, PALETTE)))
    else:
        yield from ("-vf", ",".join(wished if video.scale is not None else (*wished, EVEN)))


def _fps(fps: Number | str | None) -> Iterator[str]:
    if fps is None:
        return
    text = fps if isinstance(fps, str) else plain(fps)
    rate = values.rate(text)
    if rate is None or not 0 < rate <= values.MOST_FRAMES_PER_SECOND:
        most = values.MOST_FRAMES_PER_SECOND
        _refuse("video.fps", f"video.fps must be a rate such as 25 or 30000/1001, up to {most}, not {shown(text)}")
    yield f"fps={text.strip()}"


def _scale(scale: str | Size | None) -> Iterator[str]:
    if scale is None:
        return
    sides = _sides(scale)
    if max(sides) < 0 or 0 in sides:
        _refuse("video.scale", "video.scale needs a width or a height above 0")
    if fault := values.sides_fault(*sides):
        _refuse("video.scale", f"video.scale {fault.rstrip('.')}")
    if any(side % 2 for side in sides):
        _refuse(
            "video.scale", f"video.scale has an odd side, {max(side for side in sides if side % 2)}: use an even one"
        )
    yield f"scale={sides[0]}:{sides[1]}"


def _sides(scale: str | Size) -> tuple[int, int]:
    """Both sides; -2 is as the other has it, and even."""
    if isinstance(scale, Size):
        given = (scale.width, scale.height)
    else:
        words = [word.strip() for word in scale.lower().replace("x", ":").split(":")]
        if len(words) != 2 or not all(word.removeprefix("-").isdecimal() and len(word) < 9 for word in words):
            _refuse("video.scale", f"video.scale must be a size such as 1280x720 or -2:720, not {shown(scale)}")
        given = (int(words[0]), int(words[1]))
    width, height = (-2 if side in (None, -1) else side for side in given)
    if min(width or -2, height or -2) < -2:
        _refuse("video.scale", "A side of video.scale that follows from the other is -2")
    return (width or 0, height or 0)


def _audio(audio: Audio | None, container: str) -> Iterator[str]:
    row = CONTAINERS[container]
    if audio is None or not row.audio:
        if audio not in (None, Audio()):
            _refuse("audio", f"{container} holds no audio: leave it out, or take another container", _holding("audio"))
        yield "-an"
        return
    named = audio.codec or row.audio[0]
    if named == COPY:
        _only_copied(audio, Audio(codec=COPY), "audio")
        yield from ("-c:a", COPY)
        return
    encoder = codecs.audio_encoder(named)
    if encoder is None:
        allowed = (*codecs.AUDIO_ENCODES, *(name for name in AUDIO if name not in codecs.AUDIO_ENCODES), COPY)
        _unsupported("audio.codec", "audio codec", named, allowed)
    _fits(AUDIO[encoder], row, container, kind="audio", named=named)
    yield from ("-c:a", encoder, *_sound(audio, encoder, AUDIO[encoder]))


def _sound(audio: Audio, name: str, row: AudioEncoder) -> Iterator[str]:
    if audio.bitrate is not None:
        if row.bitrate is None:
            _refuse("audio.bitrate", f"{name} loses nothing and takes no bit rate: leave it out")
        yield from ("-b:a", _bitrate(audio.bitrate, "audio.bitrate", row.bitrate))
    if audio.channels is not None:
        yield from ("-ac", plain(_within(audio.channels, "audio.channels", (1, row.channels))))
    elif row.layouts:
        yield from ("-af", row.layouts)
    if audio.sample_rate is not None:
        if row.sample_rates and audio.sample_rate not in row.sample_rates:
            allowed = sorted(row.sample_rates)
            _unsupported("audio.sample_rate", f"sample rate of {name}", str(audio.sample_rate), allowed)
        yield from ("-ar", plain(_within(audio.sample_rate, "audio.sample_rate", SAMPLE_RATES)))


def _fits(row: VideoEncoder | AudioEncoder, there: Container, container: str, *, kind: str, named: str) -> None:
    allowed = there.video if kind == "video" else there.audio
    if row.codec not in allowed:
        holding = [
            name for name, one in CONTAINERS.items() if row.codec in (one.video if kind == "video" else one.audio)
        ]
        message = f"{container} cannot hold {shown(named)}, which {', '.join(holding)} can; in {container} goes"
        _refuse(f"{kind}.codec", message, allowed)


def _holding(kind: str) -> list[str]:
    return [name for name, row in CONTAINERS.items() if (row.video if kind == "video" else row.audio)]


def _only_copied(given: Video | Audio, copied: Video | Audio, kind: str) -> None:
    if given != copied:
        _refuse(f"{kind}.codec", f"What is copied is not changed: leave out all else of {kind}, or name another codec")


def _bitrate(value: Number | str, field: str, bounds: tuple[float, float]) -> str:
    """As it was given; bare numbers are bits per second."""
    text = value.strip() if isinstance(value, str) else plain(value)
    found = values.number(text)
    if found is None or not bounds[0] <= found <= bounds[1]:
        least, most = map(kilobits, bounds)
        _refuse(field, f"{field} must be a bit rate such as 128k or 2.5M, from {least} to {most}, not {shown(text)}")
    return text


def _within(value: Number, field: str, bounds: tuple[float, float]) -> Number:
    if not bounds[0] <= value <= bounds[1]:
        _refuse(field, f"{field} must be from {bounds[0]:g} to {bounds[1]:g}, not {shown(str(value))}")
    return value


def _filled(words: Iterable[str], value: str) -> tuple[str, ...]:
    return tuple(value if word == "{}" else word for word in words)


def plain(number: Number) -> str:
    """A number as ffmpeg reads it best: no exponent, no superfluous zeros."""
    return str(number) if isinstance(number, int) else f"{number:.6f}".rstrip("0").rstrip(".")


def kilobits(bound: Number) -> str:
    """A bound of a bit rate, as it is best said."""
    return f"{plain(round(bound / 1000))}k"


def _unsupported(field: str, what: str, given: str, allowed: Iterable[object]) -> NoReturn:
    _refuse(field, f"Unsupported {what}: {shown(given)}", allowed)


def _refuse(field: str, message: str, allowed: Iterable[object] = ()) -> NoReturn:
    listed = list(allowed)
    known = f"; use {'one of ' if len(listed) > 1 else ''}{', '.join(map(str, listed))}" if listed else ""
    details = {"field": field, **({"allowed": listed} if listed else {})}
    raise InvalidArgument(f"{message}{known}.", details=details)
