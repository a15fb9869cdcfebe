"""The whole argument list, exactly as ffmpeg gets it."""

import pytest

from core.ffmpeg.build import build, local_name
from core.ffmpeg.parse import parse

PREFIX = (
    *("-nostdin", "-hide_banner", "-y", "-loglevel", "level+warning", "-nostats"),
    *("-progress", "pipe:7", "-stats_period", "0.5"),
)
INPUTS = {"in.mp4": "../in/i0.mp4", "logo.png": "../in/i1.png"}


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("-i in.mp4 -c copy out.mp4", ("-i", "file:../in/i0.mp4", "-c", "copy", "file:./out.mp4")),
        (
            "-ss 1 -i in.mp4 -loop 1 -i logo.png -filter_complex overlay -noautoscale a.mp4 -b:v:0 1M 'b c.mp4'",
            (
                *("-filter_complex", "overlay", "-ss", "1", "-i", "file:../in/i0.mp4"),
                *("-loop", "1", "-i", "file:../in/i1.png"),
                *("-noautoscale", "file:./a.mp4", "-b:v:0", "1M", "file:./b c.mp4"),
            ),
        ),
        (
            "-f lavfi -i color=c=red:d=1 -f hls -hls_segment_filename s_%03d.ts out.m3u8",
            (
                *("-f", "lavfi", "-i", "color=c=red:d=1"),
                *("-f", "hls", "-hls_segment_filename", "s_%03d.ts", "file:./out.m3u8"),
            ),
        ),
        (
            "-i in.mp4 -pass 1 a.mp4 -pass 1 -passlogfile mine b.mp4",
            (
                *("-i", "file:../in/i0.mp4", "-pass", "1", "-passlogfile", "../tmp/ffmpeg2pass", "file:./a.mp4"),
                *("-pass", "1", "-passlogfile", "../tmp/mine", "file:./b.mp4"),
            ),
        ),
    ],
)
def test_build_gives_the_whole_argument_list(text: str, args: tuple[str, ...]) -> None:
    assert build(parse(text).command, inputs=INPUTS, progress_fd=7) == (*PREFIX, *args)


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("Film.MP4", "i3.mp4"),
        ("a.tar.gz", "i3.gz"),
        ("noext", "i3"),
        ("a.mp4;rm", "i3"),
        ("a.verylongext", "i3"),
        ("a.", "i3"),
        ("https://host/dir.d/clip.WebM?sig=a.mp4#x.avi", "i3.webm"),
        ("https://host/clip?file=a.mp4", "i3"),
    ],
)
def test_local_name_keeps_nothing_but_a_safe_extension(name: str, local: str) -> None:
    assert local_name(3, name) == local
