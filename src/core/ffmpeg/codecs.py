"""The encoders and containers that can be asked for by what they are, not by how ffmpeg is told: tables.

An encoder's row says in which of its own words each wish is put. What a caller may wish for, and the command that it
becomes, is form.py's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.ffmpeg.values import words

QUALITIES = ("high", "balanced", "small")

_SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


def _as_they_are(text: str) -> Mapping[str, str]:
    return {word: word for word in text.split()}


def _speeds(values: str, *, own: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The speeds of x264, each as `values` has it in the same order; and the encoder's own words."""
    return {**dict(zip(_SPEEDS, values.split(), strict=True)), **(own or {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoEncoder:
    """In `quality` and `speed`, {} stands for the value."""

    codec: str
    why: str
    quality: tuple[str, ...] = ()  # how a constant quality is asked for; none: it cannot be
    crf: tuple[float, float] = (0, 0)  # from the best to the worst
    profile_crf: tuple[float, float, float] = (0, 0, 0)  # of QUALITIES, in their order
    bitrate: tuple[str, ...] = ("-b:v", "{}")  # none: it cannot be told
    speed: tuple[str, ...] = ("-preset", "{}")
    presets: Mapping[str, str] = field(default_factory=dict)  # each word, and what is written in its place
    usual_preset: str | None = None  # where none is asked for; None: the encoder's own default will do
    profiles: frozenset[str] = frozenset()
    pixel_formats: Mapping[str, str] = field(default_factory=dict)  # each format, and what this encoder calls it
    usual_pixels: str | None = None  # None: as near to the source as the encoder has it
    always: tuple[str, ...] = ()
    # What keeps it from key frames of its own choosing, and makes each that is asked for one to begin with.
    steady: tuple[str, ...] | None = None  # None: nothing does, so it cannot be in a ladder


_X26X = _as_they_are(f"{' '.join(_SPEEDS)} placebo")
_NVENC = _speeds("p1 p1 p1 p2 p3 p4 p6 p7 p7", own=_as_they_are("p1 p2 p3 p4 p5 p6 p7"))
_CQ = ("-rc", "vbr", "-cq", "{}", "-b:v", "0")  # without a bit rate of 0 its default of 2 Mbit/s would be the limit
_VBR = ("-rc", "vbr", "-b:v", "{}")
_CARD_STEADY = ("-no-scenecut", "1", "-forced-idr", "1")
_CARD_PIXELS = {"yuv420p": "yuv420p", "nv12": "nv12", "yuv444p": "yuv444p"}
_CARD_TEN_BITS = {**_CARD_PIXELS, "yuv420p10le": "p010le", "p010le": "p010le"}

VIDEO: Mapping[str, VideoEncoder] = {
    "libx264": VideoEncoder(
        codec="h264",
        why="plays everywhere; 8 bits and 4:2:0 unless another format is asked for, as few players have more",
        quality=("-crf", "{}"),
        crf=(0, 51),
        profile_crf=(18, 23, 28),
        presets=_X26X,
        profiles=words("baseline main high high10 high422 high444"),
        pixel_formats=_as_they_are("yuv420p yuv422p yuv444p yuv420p10le yuv422p10le yuv444p10le nv12"),
        usual_pixels="yuv420p",
        steady=("-sc_threshold", "0", "-forced-idr", "1"),
    ),
    "libx265": VideoEncoder(
        codec="hevc",
        why="about two thirds of H.264's bytes; keeps ten bits where the source has them",
        quality=("-crf", "{}"),
        crf=(0, 51),
        profile_crf=(20, 25, 30),
        presets=_X26X,
        profiles=words("main main10 main12 main422-10 main444-8 main444-10"),
        pixel_formats=_as_they_are(
            "yuv420p yuv422p yuv444p yuv420p10le yuv422p10le yuv444p10le yuv420p12le yuv422p12le yuv444p12le"
        ),
        steady=("-x265-params", "scenecut=0:open-gop=0", "-forced-idr", "1"),
    ),
    "libsvtav1": VideoEncoder(
        codec="av1",
        why="about half of H.264's bytes; has 4:2:0 only, in 8 or 10 bits",
        quality=("-crf", "{}"),
        crf=(1, 63),
        profile_crf=(24, 32, 40),
        presets=_speeds("12 12 12 11 10 8 6 5 4", own=_as_they_are(" ".join(map(str, range(14))))),
        usual_preset="medium",  # its own default changes from version to version
        pixel_formats=_as_they_are("yuv420p yuv420p10le"),
    ),
    "libvpx-vp9": VideoEncoder(
        codec="vp9",
        why="what WebM was made for; 4:2:0 in 8 bits is all that many players have",
        quality=("-crf", "{}", "-b:v", "0"),  # without it the quality would be capped by a bit rate
        crf=(0, 63),
        profile_crf=(24, 32, 38),
        speed=("-deadline", "good", "-cpu-used", "{}"),
        presets=_speeds("5 5 5 4 3 2 1 0 0"),
        usual_preset="medium",  # its own default takes twice as long
        pixel_formats=_as_they_are("yuv420p yuv422p yuv444p yuv420p10le yuv422p10le yuv444p10le"),
        usual_pixels="yuv420p",
        always=("-row-mt", "1"),
    ),
    "prores_ks": VideoEncoder(
        codec="prores",
        why="for editing: each picture by itself; its size is set by the profile",
        bitrate=(),
        speed=(),
        profiles=words("proxy lt standard hq 4444 4444xq"),
        pixel_formats=_as_they_are("yuv422p10le yuv444p10le yuva444p10le"),
        usual_pixels="yuv422p10le",
    ),
    "gif": VideoEncoder(codec="gif", why="the palette is made from the pictures themselves", bitrate=(), speed=()),
    "h264_nvenc": VideoEncoder(
        codec="h264",
        why="H.264 by the card, which has no ten bits for it",
        quality=_CQ,
        crf=(1, 51),
        profile_crf=(19, 24, 29),
        bitrate=_VBR,
        presets=_NVENC,
        profiles=words("baseline main high high444p"),
        pixel_formats=_CARD_PIXELS,
        usual_pixels="yuv420p",
        steady=_CARD_STEADY,
    ),
    "hevc_nvenc": VideoEncoder(
        codec="hevc",
        why="HEVC by the card",
        quality=_CQ,
        crf=(1, 51),
        profile_crf=(21, 26, 31),
        bitrate=_VBR,
        presets=_NVENC,
        profiles=words("main main10 rext"),
        pixel_formats=_CARD_TEN_BITS,
        steady=_CARD_STEADY,
    ),
    "av1_nvenc": VideoEncoder(
        codec="av1",
        why="AV1 by the card, from the Ada generation on",
        quality=_CQ,
        crf=(1, 63),
        profile_crf=(26, 33, 41),
        bitrate=_VBR,
        presets=_NVENC,
        pixel_formats={name: own for name, own in _CARD_TEN_BITS.items() if name != "yuv444p"},
    ),
}
# Who encodes a codec: on the CPU, and on the card where it can. H.265 is what many call HEVC.
ENCODES: Mapping[str, tuple[str, str]] = {
    "h264": ("libx264", "h264_nvenc"),
    "hevc": ("libx265", "hevc_nvenc"),
    "h265": ("libx265", "hevc_nvenc"),
    "av1": ("libsvtav1", "av1_nvenc"),
    "vp9": ("libvpx-vp9", "libvpx-vp9"),
    "prores": ("prores_ks", "prores_ks"),
    "gif": ("gif", "gif"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioEncoder:
    codec: str
    why: str
    bitrate: tuple[int, int] | None = None  # bits per second; None: nothing is lost, so there is none to choose
    channels: int = 8
    sample_rates: frozenset[int] = frozenset()  # none: any up to 192 kHz
    layouts: str | None = None  # a filter, for an encoder that does not take every layout


_MP3_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
# libopus refuses 5.1 with side speakers, which many films have; told what it takes, ffmpeg converts to the nearest.
_OPUS_LAYOUTS = "aformat=channel_layouts=7.1|6.1|5.1|5.0|quad|3.0|stereo|mono"

AUDIO: Mapping[str, AudioEncoder] = {
    "aac": AudioEncoder(
        codec="aac", why="plays everywhere", bitrate=(16_000, 800_000), sample_rates=_MP3_RATES | {64000, 88200, 96000}
    ),
    "libopus": AudioEncoder(
        codec="opus",
        why="the best at any bit rate, where it can be played",
        bitrate=(6_000, 510_000),
        sample_rates=frozenset({8000, 12000, 16000, 24000, 48000}),
        layouts=_OPUS_LAYOUTS,
    ),
    "libmp3lame": AudioEncoder(
        codec="mp3", why="for old players", bitrate=(8_000, 320_000), channels=2, sample_rates=_MP3_RATES
    ),
    "libvorbis": AudioEncoder(codec="vorbis", why="for old players of WebM", bitrate=(32_000, 500_000)),
    "ac3": AudioEncoder(
        codec="ac3",
        why="for home cinemas",
        bitrate=(32_000, 640_000),
        channels=6,
        sample_rates=frozenset({32000, 44100, 48000}),
    ),
    "flac": AudioEncoder(codec="flac", why="loses nothing, in about half of the bytes"),
    "alac": AudioEncoder(codec="alac", why="the same for the devices of Apple"),
    "pcm_s16le": AudioEncoder(codec="pcm", why="what editors take without decoding"),
}
AUDIO_ENCODES: Mapping[str, str] = {
    "aac": "aac",
    "opus": "libopus",
    "mp3": "libmp3lame",
    "vorbis": "libvorbis",
    "ac3": "ac3",
    "flac": "flac",
    "alac": "alac",
    "pcm": "pcm_s16le",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The first codec of each kind is the one that is taken where none is asked for."""

    why: str
    video: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    extensions: tuple[str, ...]
    options: tuple[str, ...] = ()


_FASTSTART = ("-movflags", "+faststart")  # so that it plays while it is loaded
_NO_SUBTITLES = ("-sn",)  # ffmpeg would convert them by itself, which fails on those that are pictures

CONTAINERS: Mapping[str, Container] = {
    "mp4": Container(
        why="plays everywhere",
        video=("h264", "hevc", "av1", "vp9"),
        audio=("aac", "mp3", "opus", "ac3", "flac", "alac"),
        extensions=("mp4", "m4v"),
        options=_FASTSTART,
    ),
    "mov": Container(
        why="for editors, and the devices of Apple",
        video=("h264", "hevc", "prores"),
        audio=("aac", "pcm", "alac", "mp3", "ac3"),
        extensions=("mov",),
        options=_FASTSTART,
    ),
    "mkv": Container(
        why="holds nearly everything",
        video=("h264", "hevc", "av1", "vp9", "prores"),
        audio=("aac", "opus", "flac", "mp3", "vorbis", "ac3", "alac", "pcm"),
        extensions=("mkv",),
        options=_NO_SUBTITLES,
    ),
    "webm": Container(
        why="for browsers, by its own definition with these codecs only",
        video=("vp9", "av1"),
        audio=("opus", "vorbis"),
        extensions=("webm",),
        options=_NO_SUBTITLES,
    ),
    "m4a": Container(why="MP4 with sound only", audio=("aac", "alac", "ac3"), extensions=("m4a",), options=_FASTSTART),
    "mp3": Container(why="its codec's own", audio=("mp3",), extensions=("mp3",)),
    "opus": Container(why="its codec's own", audio=("opus",), extensions=("opus",)),
    "wav": Container(why="for editors of sound", audio=("pcm",), extensions=("wav",)),
    "flac": Container(why="its codec's own", audio=("flac",), extensions=("flac",)),
    "gif": Container(why="a picture that moves, without sound", video=("gif",), extensions=("gif",)),
}


def video_encoder(name: str, *, gpu: bool) -> str | None:
    """The encoder that a codec or an encoder is asked for by; None where there is none of this name."""
    return ENCODES[name][gpu] if name in ENCODES else name if name in VIDEO else None


def audio_encoder(name: str) -> str | None:
    return AUDIO_ENCODES.get(name) or (name if name in AUDIO else None)
