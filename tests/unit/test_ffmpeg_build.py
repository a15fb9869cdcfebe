"""The whole argument list, exactly as ffmpeg gets it."""

import pytest

from core.ffmpeg import formats
from core.ffmpeg.build import build, local_name
from core.ffmpeg.parse import parse

PREFIX = (
    *("-nostdin", "-hide_banner", "-y", "-loglevel", "level+warning", "-nostats", "-max_alloc", "536870912"),
    *("-progress", "pipe:7", "-stats_period", "0.5"),
)
GUARD = ("-protocol_whitelist", "file", "-format_whitelist", formats.WHITELIST, "-max_pixels", "67108864")
MOST = ("-fs", "1000")
INPUTS = {"in.mp4": "../in/i0.mp4", "logo.png": "../in/i1.png"}


@pytest.mark.parametrize(
    ("text", "args"),
    [
        (
            "-i in.mp4 -c copy out.mp4",
            (*GUARD, "-i", "file:../in/i0.mp4", "-c", "copy", *MOST, "file:./out.mp4"),
        ),
        (
            "-ss 1 -i in.mp4 -loop 1 -i logo.png -filter_complex overlay=1:2 -noautoscale a.mp4 -b:v:0 1M 'b c.mp4'",
            (
                *("-filter_complex", "overlay=x=1:y=2", "-ss", "1", *GUARD, "-i", "file:../in/i0.mp4"),
                *("-loop", "1", *GUARD, "-i", "file:../in/i1.png"),
                *("-noautoscale", *MOST, "file:./a.mp4", "-b:v:0", "1M", *MOST, "file:./b c.mp4"),
            ),
        ),
        (
            "-f lavfi -i color=red:d=1 -f hls -hls_segment_filename s_%03d.ts out.m3u8",
            (
                *("-f", "lavfi", "-i", "color=color=red:d=1"),
                *("-f", "hls", "-hls_segment_filename", "s_%03d.ts", *MOST, "file:./out.m3u8"),
            ),
        ),
        (
            r"""-i in.mp4 -vf "drawtext=logo.png:text='a\:b, c'" -fs 500 a.mp4 -fs 2K b.mp4""",
            (
                *(*GUARD, "-i", "file:../in/i0.mp4"),
                *("-vf", r"drawtext=fontfile=../in/i1.png:text=a\\:b\, c", "-fs", "500", "file:./a.mp4"),
                *("-fs", "2K", *MOST, "file:./b.mp4"),
            ),
        ),
        (
            "-i in.mp4 -pass 1 a.mp4 -pass 1 -passlogfile mine b.mp4",
            (
                *(*GUARD, "-i", "file:../in/i0.mp4"),
                *("-pass", "1", "-passlogfile", "../tmp/ffmpeg2pass", *MOST, "file:./a.mp4"),
                *("-pass", "1", "-passlogfile", "../tmp/mine", *MOST, "file:./b.mp4"),
            ),
        ),
    ],
)
def test_build_gives_the_whole_argument_list(text: str, args: tuple[str, ...]) -> None:
    assert build(parse(text).command, inputs=INPUTS, progress_fd=7, max_output_bytes=1000) == (*PREFIX, *args)


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("Film.MP4", "i3.mp4"),
        ("a.tar.gz", "i3.gz"),
        ("noext", "i3"),
        ("a.mp4;rm", "i3"),
        ("a.verylongext", "i3"),
        ("a.", "i3"),
        ("list.M3U8", "i3"),
        ("drawing.svg", "i3"),
        ("https://host/dir.d/clip.WebM?sig=a.mp4#x.avi", "i3.webm"),
        ("https://host/clip?file=a.mp4", "i3"),
    ],
)
def test_local_name_keeps_nothing_but_a_safe_extension(name: str, local: str) -> None:
    assert local_name(3, name) == local
