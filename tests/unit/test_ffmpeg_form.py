"""Options become the commands that are written out here, and what cannot be is refused by its field."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidArgument
from core.ffmpeg import codecs, compute, fallback, form
from core.ffmpeg.codecs import AUDIO, CONTAINERS, ENCODES, QUALITIES, VIDEO
from core.ffmpeg.form import Audio, Options, Size, Trim, Video
from core.ffmpeg.validate import check

EVEN = "-vf 'scale=trunc(iw/2)*2:trunc(ih/2)*2'"
OPUS = "-c:a libopus -af 'aformat=channel_layouts=7.1|6.1|5.1|5.0|quad|3.0|stereo|mono'"
# What stands between the input and the sound, for each codec: on the CPU, and with a card.
PICTURE = {
    "h264": (
        f"{EVEN} -c:v libx264 -crf 23 -pix_fmt yuv420p",
        f"{EVEN} -c:v h264_nvenc -rc vbr -cq 24 -b:v 0 -pix_fmt yuv420p",
    ),
    "hevc": (f"{EVEN} -c:v libx265 -crf 25", f"{EVEN} -c:v hevc_nvenc -rc vbr -cq 26 -b:v 0"),
    "av1": (f"{EVEN} -c:v libsvtav1 -preset 8 -crf 32", f"{EVEN} -c:v av1_nvenc -rc vbr -cq 33 -b:v 0"),
    "vp9": (f"{EVEN} -c:v libvpx-vp9 -row-mt 1 -deadline good -cpu-used 2 -crf 32 -b:v 0 -pix_fmt yuv420p",) * 2,
    "prores": (f"{EVEN} -c:v prores_ks -pix_fmt yuv422p10le",) * 2,
    "gif": ("-vf 'split[a][b];[a]palettegen[p];[b][p]paletteuse' -c:v gif",) * 2,
    "copy": ("-c:v copy",) * 2,
}
SOUND = {
    "aac": "-c:a aac",
    "opus": OPUS,
    "mp3": "-c:a libmp3lame",
    "vorbis": "-c:a libvorbis",
    "ac3": "-c:a ac3",
    "flac": "-c:a flac",
    "alac": "-c:a alac",
    "pcm": "-c:a pcm_s16le",
    "copy": "-c:a copy",
}
ENDING = {
    "mp4": "-movflags +faststart",
    "mov": "-movflags +faststart",
    "m4a": "-movflags +faststart",
    "mkv": "-sn",
    "webm": "-sn",
}


def written(options: Options, output: str = "out.mp4", *, gpu: bool = False) -> str:
    """The command, which may run as it is."""
    text = form.command(options, source="in.mov", output=output, gpu=gpu)
    assert check(text, input_names=["in.mov"], output_names=[output]).text == text
    return text


def refusal(options: Options, output: str = "out.mp4", *, gpu: bool = False) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refused:
        form.command(options, source="in.mov", output=output, gpu=gpu)
    return refused.value


def tried(options: Options, output: str, *, gpu: bool) -> tuple[str | None, str]:
    """The command, or the field that is to blame."""
    try:
        return form.command(options, source="in.mov", output=output, gpu=gpu), ""
    except InvalidArgument as refused:
        return None, refused.details["field"]


def joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("container", [name for name, row in CONTAINERS.items() if row.video])
@pytest.mark.parametrize("codec", PICTURE)
def test_each_video_codec_in_each_container(codec: str, container: str, gpu: bool) -> None:
    options, output = Options(video=Video(codec=codec), audio=None), f"out.{container}"
    if codec not in (*CONTAINERS[container].video, "copy"):
        fault = refusal(options, output, gpu=gpu)
        assert fault.details == {"field": "video.codec", "allowed": list(CONTAINERS[container].video)}
        assert fault.message.startswith(f"{container} cannot hold {codec}")
        return
    tag = "-tag:v hvc1" if codec == "hevc" and container in ("mp4", "mov") else ""
    expected = joined("-i in.mov", PICTURE[codec][gpu], tag, "-an", ENDING.get(container, ""), output)
    assert written(options, output, gpu=gpu) == expected


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("codec", SOUND)
def test_each_audio_codec_in_each_container(codec: str, container: str) -> None:
    row = CONTAINERS[container]
    options, output = Options(video=None, audio=Audio(codec=codec)), f"out.{container}"
    if not row.audio:
        assert refusal(options, output).details["field"] == "audio"
    elif codec not in (*row.audio, "copy"):
        assert refusal(options, output).details == {"field": "audio.codec", "allowed": list(row.audio)}
    else:
        expected = joined("-i in.mov -vn", SOUND[codec], ENDING.get(container, ""), output)
        assert written(options, output) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("out.mp4", f"{PICTURE['h264'][0]} -c:a aac -movflags +faststart"),
        ("out.M4V", f"{PICTURE['h264'][0]} -c:a aac -movflags +faststart"),
        ("out.mov", f"{PICTURE['h264'][0]} -c:a aac -movflags +faststart"),
        ("out.mkv", f"{PICTURE['h264'][0]} -c:a aac -sn"),
        ("out.webm", f"{PICTURE['vp9'][0]} {OPUS} -sn"),
        ("out.m4a", "-vn -c:a aac -movflags +faststart"),
        ("out.mp3", "-vn -c:a libmp3lame"),
        ("out.opus", f"-vn {OPUS}"),
        ("out.wav", "-vn -c:a pcm_s16le"),
        ("out.flac", "-vn -c:a flac"),
        ("out.gif", f"{PICTURE['gif'][0]} -an"),
    ],
)
def test_without_wishes_the_container_decides(output: str, expected: str) -> None:
    assert written(Options(), output) == f"-i in.mov {expected} {output}"


ALL = Video(
    codec="hevc", crf=21.5, fps="30000/1001", scale="-1:720", preset="slow", profile="main10",
    pixel_format="yuv420p10le",
)  # fmt: skip


def test_every_wish_has_its_place() -> None:
    options = Options(
        video=ALL,
        audio=Audio(codec="opus", bitrate="96k", channels=6, sample_rate=48000),
        container="mp4",
        trim=Trim(start="00:01:00.5", end=90),
        extra_args=("-metadata", "title=It's a talk"),
    )
    assert written(options) == (
        "-ss 60.5 -t 29.5 -i in.mov -vf fps=30000/1001,scale=-2:720 -c:v libx265 -preset slow -crf 21.5 "
        "-profile:v main10 -pix_fmt yuv420p10le -tag:v hvc1 -c:a libopus -b:a 96k -ac 6 -ar 48000 "
        """-movflags +faststart -metadata 'title=It'"'"'s a talk' out.mp4"""
    )


def test_the_same_wishes_of_the_card() -> None:
    assert written(Options(video=ALL, audio=None), gpu=True) == (
        "-i in.mov -vf fps=30000/1001,scale=-2:720 -c:v hevc_nvenc -preset p6 -rc vbr -cq 21.5 -b:v 0 "
        "-profile:v main10 -pix_fmt p010le -tag:v hvc1 -an -movflags +faststart out.mp4"
    )


@pytest.mark.parametrize(
    ("video", "gpu", "expected"),
    [
        (Video(bitrate="2.5M"), False, "-c:v libx264 -b:v 2.5M -pix_fmt yuv420p"),
        (Video(bitrate=800_000), True, "-c:v h264_nvenc -rc vbr -b:v 800000 -pix_fmt yuv420p"),
        (Video(codec="libx265"), True, "-c:v libx265 -crf 25 -tag:v hvc1"),
        (Video(codec="h264_nvenc"), False, "-c:v h264_nvenc -rc vbr -cq 24 -b:v 0 -pix_fmt yuv420p"),
        (Video(codec="h265", crf=0), False, "-c:v libx265 -crf 0 -tag:v hvc1"),
        (Video(codec="av1", preset=10), False, "-c:v libsvtav1 -preset 10 -crf 32"),
        (Video(preset="p7"), True, "-c:v h264_nvenc -preset p7 -rc vbr -cq 24 -b:v 0 -pix_fmt yuv420p"),
        (Video(pixel_format="yuv444p"), False, "-c:v libx264 -crf 23 -pix_fmt yuv444p"),
    ],
)
def test_video_wishes_in_the_words_of_the_encoder(video: Video, gpu: bool, expected: str) -> None:
    options = Options(video=video, audio=None)
    assert written(options, gpu=gpu) == f"-i in.mov {EVEN} {expected} -an -movflags +faststart out.mp4"


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("1280x720", "scale=1280:720"),
        ("1280:720", "scale=1280:720"),
        (" 1280 X -1 ", "scale=1280:-2"),
        ("-2:720", "scale=-2:720"),
        (Size(width=640), "scale=640:-2"),
        (Size(height=360), "scale=-2:360"),
        (Size(width=640, height=360), "scale=640:360"),
    ],
)
def test_scale_gives_even_sides(scale: Any, expected: str) -> None:
    assert f"-vf {expected} -c:v" in written(Options(video=Video(scale=scale)))


def test_fps_alone_keeps_the_sides_even() -> None:
    assert "-vf 'fps=25,scale=trunc(iw/2)*2:trunc(ih/2)*2' -c:v" in written(Options(video=Video(fps=25)))


def test_a_gif_is_cut_down_before_its_palette_is_made() -> None:
    options = Options(video=Video(fps=10, scale="320:-2"))
    graph = "fps=10,scale=320:-2,split[a][b];[a]palettegen[p];[b][p]paletteuse"
    assert written(options, "out.gif") == f"-i in.mov -vf '{graph}' -c:v gif -an out.gif"


@pytest.mark.parametrize(
    ("trim", "expected"),
    [
        (Trim(), "-i"),
        (Trim(start=0), "-i"),
        (Trim(start=5), "-ss 5 -i"),
        (Trim(duration=0.1), "-t 0.1 -i"),
        (Trim(start="1:30", duration="00:00:10.25"), "-ss 90 -t 10.25 -i"),
        (Trim(end="250ms"), "-t 0.25 -i"),
    ],
)
def test_trim_is_asked_of_the_input(trim: Trim, expected: str) -> None:
    assert written(Options(trim=trim, audio=None, video=Video(codec="copy"))).startswith(f"{expected} in.mov")


def test_a_filter_of_the_callers_own_replaces_ours() -> None:
    own = Options(audio=None, extra_args=("-vf", "hflip"))
    assert written(own) == (
        "-i in.mov -c:v libx264 -crf 23 -pix_fmt yuv420p -an -movflags +faststart -vf hflip out.mp4"
    )


@pytest.mark.parametrize("extra", [("/etc/passwd",), ("-i", "other.mp4"), ("-report",), ("out.mp4", "-c", "copy")])
def test_extra_args_are_judged_like_any_command(extra: tuple[str, ...]) -> None:
    text = form.command(Options(extra_args=extra), source="in.mov", output="out.mp4", gpu=False)
    with pytest.raises(InvalidArgument):
        check(text, input_names=["in.mov"], output_names=["out.mp4"])


def test_extra_args_are_words_whatever_they_hold() -> None:
    value = "a b'; -i /etc/passwd \\\n \"$(x)"
    text = form.command(Options(extra_args=("-metadata", f"title={value}")), source="in", output="o.mp4", gpu=False)
    command = check(text, input_names=["in"], output_names=["o.mp4"])
    assert command.outputs[0].options[-1].value == f"title={value}"


@pytest.mark.parametrize(
    ("options", "output", "field"),
    [
        (Options(video=Video(codec="h265x")), "out.mp4", "video.codec"),
        (Options(video=Video(codec="h264", crf=52)), "out.mp4", "video.crf"),
        (Options(video=Video(crf=math.nan)), "out.mp4", "video.crf"),
        (Options(video=Video(crf=10**400)), "out.mp4", "video.crf"),
        (Options(video=Video(codec="prores", crf=5)), "out.mov", "video.crf"),
        (Options(video=Video(codec="prores", bitrate="5M")), "out.mov", "video.bitrate"),
        (Options(video=Video(crf=20, bitrate="5M")), "out.mp4", "video.bitrate"),
        (Options(video=Video(bitrate="fast")), "out.mp4", "video.bitrate"),
        (Options(video=Video(bitrate=0)), "out.mp4", "video.bitrate"),
        (Options(video=Video(bitrate=1e300)), "out.mp4", "video.bitrate"),
        (Options(video=Video(bitrate="9" * 400)), "out.mp4", "video.bitrate"),
        (Options(video=Video(bitrate="1M -y")), "out.mp4", "video.bitrate"),
        (Options(video=Video(fps=0)), "out.mp4", "video.fps"),
        (Options(video=Video(fps=241)), "out.mp4", "video.fps"),
        (Options(video=Video(fps="25/0")), "out.mp4", "video.fps"),
        (Options(video=Video(fps=math.inf)), "out.mp4", "video.fps"),
        (Options(video=Video(fps="25,movie=x")), "out.mp4", "video.fps"),
        (Options(video=Video(scale="big")), "out.mp4", "video.scale"),
        (Options(video=Video(scale="1280")), "out.mp4", "video.scale"),
        (Options(video=Video(scale="1281x720")), "out.mp4", "video.scale"),
        (Options(video=Video(scale="0x720")), "out.mp4", "video.scale"),
        (Options(video=Video(scale="-2:-2")), "out.mp4", "video.scale"),
        (Options(video=Video(scale="-3:720")), "out.mp4", "video.scale"),
        (Options(video=Video(scale="²x720")), "out.mp4", "video.scale"),
        (Options(video=Video(scale=Size())), "out.mp4", "video.scale"),
        (Options(video=Video(scale=Size(width=10**30))), "out.mp4", "video.scale"),
        (Options(video=Video(scale=Size(width=10**400 + 1))), "out.mp4", "video.scale"),
        (Options(video=Video(preset="hasty")), "out.mp4", "video.preset"),
        (Options(video=Video(preset="p4")), "out.mp4", "video.preset"),
        (Options(video=Video(profile="main10")), "out.mp4", "video.profile"),
        (Options(video=Video(pixel_format="yuv420p12le")), "out.mp4", "video.pixel_format"),
        (Options(video=Video(codec="copy", crf=20)), "out.mp4", "video.codec"),
        (Options(video=Video(codec="h264")), "out.mp3", "video"),
        (Options(video=None, audio=None), "out.mp4", "video"),
        (Options(audio=Audio(codec="opus9")), "out.mp4", "audio.codec"),
        (Options(audio=Audio(codec="pcm")), "out.mp4", "audio.codec"),
        (Options(audio=Audio(codec="copy", channels=2)), "out.mp4", "audio.codec"),
        (Options(audio=Audio(codec="mp3", bitrate="321k")), "out.mp4", "audio.bitrate"),
        (Options(audio=Audio(codec="flac", bitrate="100k")), "out.mkv", "audio.bitrate"),
        (Options(audio=Audio(channels=0)), "out.mp4", "audio.channels"),
        (Options(audio=Audio(codec="mp3", channels=6)), "out.mp4", "audio.channels"),
        (Options(audio=Audio(codec="opus", sample_rate=44100)), "out.mp4", "audio.sample_rate"),
        (Options(audio=Audio(codec="flac", sample_rate=1)), "out.mkv", "audio.sample_rate"),
        (Options(audio=Audio()), "out.txt", "output_filename"),
        (Options(), "out", "output_filename"),
        (Options(), "out%d.mp4", "output_filename"),
        (Options(container="avi"), "out.avi", "container"),
        (Options(container="mkv"), "out.mp4", "container"),
        (Options(trim=Trim(start=-1)), "out.mp4", "trim.start"),
        (Options(trim=Trim(start="soon")), "out.mp4", "trim.start"),
        (Options(trim=Trim(start=5, end=5)), "out.mp4", "trim.end"),
        (Options(trim=Trim(duration=0)), "out.mp4", "trim.duration"),
        (Options(trim=Trim(duration=1e-9)), "out.mp4", "trim.duration"),
        (Options(trim=Trim(start=1e-7, end=2e-7)), "out.mp4", "trim.end"),
        (Options(trim=Trim(duration=math.nan)), "out.mp4", "trim.duration"),
        (Options(trim=Trim(end=5, duration=5)), "out.mp4", "trim"),
        (Options(video=Video(fps=25), extra_args=("-vf", "hflip")), "out.mp4", "extra_args"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_is_refused_by_its_field(options: Options, output: str, field: str) -> None:
    fault = refusal(options, output)
    assert fault.details["field"] == field
    assert len(fault.message) < 600


def test_the_bounds_of_a_bit_rate_are_said_in_full() -> None:
    fault = refusal(Options(video=Video(bitrate="9G")))
    assert fault.message == "video.bitrate must be a bit rate such as 128k or 2.5M, from 1k to 1000000k, not 9G."


def test_a_refusal_lists_what_there_is() -> None:
    fault = refusal(Options(video=Video(codec="h265x")))
    allowed = [
        "h264", "hevc", "h265", "av1", "vp9", "prores", "gif", "libx264", "libx265", "libsvtav1", "libvpx-vp9",
        "prores_ks", "h264_nvenc", "hevc_nvenc", "av1_nvenc", "copy",
    ]  # fmt: skip
    assert fault.message == f"Unsupported video codec: h265x; use one of {', '.join(allowed)}."
    assert fault.details == {"field": "video.codec", "allowed": allowed}


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
@pytest.mark.parametrize("wishes", [{}, {"crf": 30, "preset": "slow"}, {"bitrate": "1M"}])
def test_what_is_asked_of_the_card_has_a_form_for_the_cpu(codec: str, wishes: dict[str, Any]) -> None:
    text = form.command(Options(video=Video(codec=codec, **wishes)), source="in.mov", output="out.mkv", gpu=True)
    command = check(text, input_names=["in.mov"], output_names=["out.mkv"])
    assert compute.needs(command) == "gpu"
    assert ENCODES[codec][0] in fallback.to_cpu(command).text


def test_the_tables_agree_with_each_other() -> None:
    assert {name for pair in ENCODES.values() for name in pair} == set(VIDEO)
    assert set(codecs.AUDIO_ENCODES.values()) == set(AUDIO)
    assert {codec for row in CONTAINERS.values() for codec in row.video} <= {row.codec for row in VIDEO.values()}
    assert {codec for row in CONTAINERS.values() for codec in row.audio} <= {row.codec for row in AUDIO.values()}
    for row in VIDEO.values():
        assert row.why
        if row.quality:
            best, worst = row.crf
            assert best <= row.profile_crf[0] < row.profile_crf[1] < row.profile_crf[2] <= worst
            assert len(QUALITIES) == len(row.profile_crf)
        assert row.usual_preset in (None, *row.presets)
        assert row.usual_pixels in (None, *row.pixel_formats)


NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.integers(-5, 70), st.integers(), st.floats(), st.sampled_from([10**400, 25, 30, 48000, 128_000, 1e300])
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["-y", "128k", "2.5M", "30000/1001", "00:01:30", "1e3", "1280x720", "-2:720", "3:-1", "'", ",movie=a"]
    ),
)
WORDS = st.sampled_from(
    [*ENCODES, *VIDEO, *codecs.AUDIO_ENCODES, *AUDIO, "copy", "fast", "p4", "main10", "yuv420p10le", "x y", ""]
)
EITHER = st.one_of(st.none(), NUMBERS, TEXTS)
WORD = st.one_of(st.none(), WORDS, TEXTS)
SIDE = st.one_of(st.none(), st.integers(-3, 20_000), st.integers())
VIDEOS = st.builds(
    Video, codec=WORD, crf=st.one_of(st.none(), NUMBERS), bitrate=EITHER, fps=EITHER,
    scale=st.one_of(st.none(), TEXTS, st.builds(Size, width=SIDE, height=SIDE)), preset=st.one_of(WORD, EITHER),
    profile=WORD, pixel_format=WORD,
)  # fmt: skip
SOUNDS = st.builds(Audio, codec=WORD, bitrate=EITHER, channels=st.one_of(st.none(), st.integers()), sample_rate=SIDE)
WISHES = st.builds(
    Options,
    video=st.one_of(st.none(), st.just(Video()), VIDEOS),
    audio=st.one_of(st.none(), st.just(Audio()), SOUNDS),
    container=st.one_of(st.none(), st.sampled_from(list(CONTAINERS))),
    trim=st.builds(Trim, start=EITHER, end=EITHER, duration=EITHER),
)


@settings(max_examples=400, deadline=None)
@given(WISHES, st.sampled_from([f"o.{name}" for name in CONTAINERS]), st.booleans())
def test_whatever_is_wished_is_refused_by_its_field_or_may_run(options: Options, output: str, gpu: bool) -> None:
    text, field = tried(options, output, gpu=gpu)
    if text is None:
        assert field
        return
    command = check(text, input_names=["in.mov"], output_names=[output])
    assert ([one.name for one in command.inputs], [one.name for one in command.outputs]) == (["in.mov"], [output])


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(("codec", "crf", "bitrate", "fps", "scale", "preset", "profile", "pixel_format")),
    st.one_of(NUMBERS, TEXTS, WORDS),
    st.sampled_from(["h264", "hevc", "av1", "vp9", "libx264", "hevc_nvenc"]),
)
def test_one_odd_wish_is_refused_by_its_field_or_may_run(field: str, value: Any, codec: str) -> None:
    wish: dict[str, Any] = {"codec": codec, field: value if field in ("bitrate", "fps", "preset") else str(value)}
    if field == "crf":
        wish["crf"] = value if isinstance(value, int | float) else 20
    options = Options(video=Video(**wish), audio=None)
    text, refused = tried(options, "o.mkv", gpu=False)
    if text is None:
        assert refused == f"video.{field}"
        return
    check(text, input_names=["in.mov"], output_names=["o.mkv"])
