"""Genuine `-progress` output of ffmpeg 9.0.2 becomes Progress, against what the command was expected to write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ffmpeg.parse import parse
from core.ffmpeg.progress import Expected, Meter, expected, seconds
from core.task import Media, Progress, Stream

# -i bigbuckbunny.mp4 -c:v libx264 -preset veryslow -c:a aac -t 2 a.mp4: four of its reports.
VIDEO = """\
frame=0
fps=0.00
stream_0_0_q=0.0
bitrate=   0.3kbits/s
total_size=48
out_time_us=1344000
out_time_ms=1344000
out_time=00:00:01.344000
dup_frames=0
drop_frames=0
speed=6.66x
progress=continue
frame=4
fps=2.00
stream_0_0_q=28.0
bitrate=N/A
total_size=48
out_time_us=N/A
out_time_ms=N/A
out_time=N/A
dup_frames=0
drop_frames=0
speed=N/A
progress=continue
frame=30
fps=7.49
stream_0_0_q=28.0
bitrate=N/A
total_size=262192
out_time_us=N/A
out_time_ms=N/A
out_time=N/A
dup_frames=0
drop_frames=0
speed=N/A
progress=continue
frame=50
fps=8.51
stream_0_0_q=-1.0
bitrate=2215.8kbits/s
total_size=553947
out_time_us=2000000
out_time_ms=2000000
out_time=00:00:02.000000
dup_frames=0
drop_frames=0
speed=0.341x
progress=end
"""

# -stream_loop 20 -i bigbuckbunny.mp4 -vn -c:a aac a.m4a: the first of its reports.
AUDIO = """\
bitrate= 302.0kbits/s
total_size=524332
out_time_us=13888000
out_time_ms=13888000
out_time=00:00:13.888000
dup_frames=0
drop_frames=0
speed=27.8x
progress=continue
"""


def reports(text: str, expect: Expected) -> list[Progress]:
    meter = Meter(expect)
    return [news for line in text.splitlines(keepends=True) if (news := meter.feed(line))]


def test_meter_goes_by_the_frames_written_where_the_clock_runs_ahead() -> None:
    assert reports(VIDEO, Expected(duration_seconds=2.0, frames=50)) == [
        Progress(percent=0.0, frame=0, speed=6.66, out_time_seconds=1.344),
        Progress(percent=8.0, frame=4, fps=2.0, eta_seconds=23.0),
        Progress(percent=60.0, frame=30, fps=7.49, eta_seconds=2.7),
        Progress(percent=99.9, frame=50, fps=8.51, speed=0.341, out_time_seconds=2.0, eta_seconds=0.0),
    ]


def test_meter_says_no_percentage_where_the_length_is_unknown() -> None:
    assert reports(VIDEO, Expected())[1:3] == [
        Progress(frame=4, fps=2.0),
        Progress(frame=30, fps=7.49),
    ]


def test_meter_reads_a_report_without_frames() -> None:
    assert reports(AUDIO, Expected(duration_seconds=111.552)) == [
        Progress(percent=12.4, speed=27.8, out_time_seconds=13.888, eta_seconds=3.5)
    ]


def test_meter_leaves_out_the_clock_of_the_source() -> None:
    assert reports(AUDIO, Expected(duration_seconds=10.0, clock=False)) == [Progress()]


@pytest.mark.parametrize(
    ("report", "progress"),
    [
        (
            "out_time_us=-20000\nspeed=   0x\nprogress=continue\n",
            Progress(percent=0.0, speed=0.0, out_time_seconds=0.0),
        ),
        (
            "out_time_us=10020000\nspeed=1.82e+03x\nprogress=continue\n",
            Progress(percent=99.9, speed=1820.0, out_time_seconds=10.02, eta_seconds=0.0),
        ),
        ("out_time_us=\nframe=x\nfps\nprogress=end\n", Progress()),
    ],
)
def test_meter_reads_what_is_odd(report: str, progress: Progress) -> None:
    assert reports(report, Expected(duration_seconds=10.0)) == [progress]


# Each was given to ffmpeg's -t: None is "Invalid duration".
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.5", 12.5),
        ("5.", 5.0),
        (" 1", 1.0),
        ("+1", 1.0),
        ("-1.5", -1.5),
        ("200ms", 0.2),
        ("10us", 1e-05),
        ("1s", 1.0),
        ("00:00:01.5", 1.5),
        ("0:1", 1.0),
        ("01:00", 60.0),
        ("100:00:00", 360000.0),
        ("-00:00:01", -1.0),
        ("00:00:01s", 1.0),
        ("1e0", None),
        ("1m", None),
        (".5", None),
        ("00:75", None),
        ("00:60:00", None),
        ("90:00", None),
        ("1:2:3:4", None),
        ("+00:00:01", None),
        ("1 ", None),
        ("1S", None),
        ("", None),
        (None, None),
    ],
)
def test_seconds_reads_a_time_as_ffmpeg_does(text: str | None, value: float | None) -> None:
    assert seconds(text) == value


VIDEO_STREAM = Stream(type="video", codec="h264", frame_rate=25.0)
SOUND = Stream(type="audio", codec="aac")
MEDIA = {
    "v.mp4": Media(container="mp4", duration_seconds=10.0, streams=(VIDEO_STREAM, SOUND)),
    "w.mp4": Media(container="mp4", duration_seconds=4.0, streams=(VIDEO_STREAM, SOUND)),
    "a.mp3": Media(container="mp3", duration_seconds=30.0, streams=(SOUND,)),
    "p.png": Media(container="png_pipe", streams=(Stream(type="video", codec="png", frame_rate=25.0),)),
    "x.mkv": Media(container="matroska", streams=(VIDEO_STREAM,)),
    "cover.mp3": Media(
        container="mp3",
        duration_seconds=30.0,
        streams=(SOUND, Stream(type="video", codec="mjpeg", frame_rate=90000.0)),
    ),
}


def whole(duration_seconds: float | None, frames: int | None = None, *, clock: bool = True) -> Expected:
    return Expected(duration_seconds=duration_seconds, frames=frames, clock=clock)


@pytest.mark.parametrize(
    ("text", "expect"),
    [
        ("-i v.mp4 o.mp4", whole(10.0, 250)),
        ("-i x.mkv o.mp4", whole(None)),
        ("-i x.mkv -t 3 o.mp4", whole(3.0, 75)),
        ("-ss 2 -i v.mp4 o.mp4", whole(8.0, 200)),
        ("-ss 2 -to 4 -i v.mp4 o.mp4", whole(2.0, 50)),
        ("-ss 2 -t 4 -to 3 -i v.mp4 o.mp4", whole(4.0, 100)),  # ffmpeg: "-t and -to cannot be used together; using -t"
        ("-sseof -3 -i v.mp4 o.mp4", whole(3.0, 75)),
        ("-i v.mp4 -ss 2 -to 3 o.mp4", whole(1.0, 25)),
        ("-i v.mp4 -ss 2 -c copy o.mp4", whole(8.0, 200, clock=False)),
        ("-itsoffset 3 -i v.mp4 o.mp4", whole(10.0, 250, clock=False)),
        ("-i v.mp4 -t 60 o.mp4", whole(10.0, 250)),
        ("-i v.mp4 -vn o.m4a", whole(10.0)),
        ("-i v.mp4 -r 10 o.mp4", whole(10.0, 100)),
        ("-i v.mp4 -r ntsc o.mp4", whole(10.0)),
        ("-i v.mp4 -vf fps=30000/1001,scale=2:2 o.mp4", whole(10.0, 300)),
        ("-i v.mp4 -fpsmax 240 o.mp4", whole(10.0, 250)),
        ("-i v.mp4 -fpsmax 20 -vf 'scale=2*max(1\\,trunc(iw/2)):-2' o.mp4", whole(10.0, 200)),
        ("-i v.mp4 -fpsmax ntsc o.mp4", whole(10.0, 250)),
        ("-i v.mp4 -vf yadif=1 o.mp4", whole(10.0)),
        ("-i v.mp4 -vf scale=640:-2,format=yuv420p o.mp4", whole(10.0, 250)),
        ("-i v.mp4 -vf setpts=2*PTS o.mp4", whole(None)),
        ("-i v.mp4 -vf setpts=2*PTS -t 5 o.mp4", whole(5.0)),
        ("-i v.mp4 -af atempo=2 -vn o.mp3", whole(None)),
        ("-i v.mp4 -frames:v 1 o.png", whole(None, 1)),
        ("-i v.mp4 -vframes 999 o.mp4", whole(None, 250)),
        ("-i v.mp4 -fs 1M o.mp4", whole(None)),
        ("-i v.mp4 -i a.mp3 o.mp4", whole(30.0, 750)),
        ("-i v.mp4 -i a.mp3 -map 0:v -map 1:a -shortest o.mp4", whole(10.0, 250)),
        ("-i v.mp4 -i a.mp3 -map 0 o.mp4", whole(10.0, 250)),
        ("-i cover.mp3 o.m4a", whole(30.0)),
        ("-stream_loop 2 -i v.mp4 o.mp4", whole(30.0, 750)),
        ("-stream_loop -1 -i v.mp4 o.mp4", whole(None)),
        ("-stream_loop -1 -i v.mp4 -i a.mp3 -shortest o.mp4", whole(30.0, 750)),
        ("-loop 1 -i p.png -i a.mp3 -shortest o.mp4", whole(30.0)),
        ("-loop 1 -framerate 25 -t 2 -i p.png o.mp4", whole(2.0)),
        ("-f lavfi -i testsrc2 o.mp4", whole(None)),
        ("-f lavfi -i testsrc2=s=2x2:d=3 o.mp4", whole(3.0)),
        ("-i v.mp4 -i p.png -filter_complex overlay o.mp4", whole(10.0, 250)),
        ("-i v.mp4 -i w.mp4 -filter_complex hstack o.mp4", whole(None)),
        ("-i v.mp4 -i w.mp4 -filter_complex '[0:v][1:v]overlay=shortest=1[v]' -map '[v]' o.mp4", whole(4.0, 100)),
        ("-i v.mp4 a.mp4 -s 2x2 b.mp4", whole(10.0, 250)),
        ("-i v.mp4 a.mp4 -t 3 b.mp4", whole(10.0)),
        ("-i v.mp4 a.mp4 -frames:v 1 t.jpg", whole(10.0)),
        ("-i v.mp4 a.mp4 -vn b.m4a", whole(10.0, 250)),
    ],
)
def test_expected_is_what_the_command_will_write(text: str, expect: Expected) -> None:
    parsed = parse(text)
    assert parsed.violations == ()
    assert expected(parsed.command, MEDIA) == expect


VALUES = st.one_of(
    st.sampled_from(["0", "1", "-1", "9" * 400, "1/0", "0:0:9" + "9" * 400, "inf", "nan", "[v]", "99", "copy", "٣"]),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=6),
)
ON_INPUT = st.sampled_from(["ss", "t", "to", "sseof", "stream_loop", "loop", "itsoffset", "r"])
ON_OUTPUT = st.sampled_from(["ss", "t", "to", "map", "r", "frames", "vframes", "c", "vf", "af", "fs"])


@given(st.lists(st.tuples(ON_INPUT, VALUES), max_size=4), st.lists(st.tuples(ON_OUTPUT, VALUES), max_size=6))
def test_expected_never_raises(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> None:
    words = [word for name, value in before for word in (f"-{name}", value)]
    words += ["-i", "v.mp4", *(word for name, value in after for word in (f"-{name}", value)), "o.mp4"]
    command = parse(" ".join(f"'{word}'" for word in words if "'" not in word)).command
    expect = expected(command, MEDIA)
    assert expect.duration_seconds is None or expect.duration_seconds >= 0
