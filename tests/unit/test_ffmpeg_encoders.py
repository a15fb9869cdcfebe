"""What `ffmpeg -encoders` prints becomes names, and what the service promises is looked for among them."""

import pytest

from core.ffmpeg import encoders
from core.worker import process

# Genuine lines of ffmpeg 9.0.2, the legend among them.
LISTING = """\
Encoders:
 V..... = Video
 A..... = Audio
 S..... = Subtitle
 .F.... = Frame-level multithreading
 ..S... = Slice-level multithreading
 ...X.. = Codec is experimental
 ....B. = Supports draw_horiz_band
 .....D = Supports direct rendering method 1
 ------
 V....D libx264              libx264 H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10 (codec h264)
 V....D libx264rgb           libx264 H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10 RGB (codec h264)
 VFS..D prores_ks            Apple ProRes (iCodec Pro) (codec prores)
 A..X.D opus                 Opus
 S..... srt                  SubRip subtitle (codec subrip)
"""
EVERYTHING = frozenset({*encoders.PROMISED, *encoders.PROMISED_WITH_A_CARD})


def test_listing_becomes_names() -> None:
    assert encoders.listed(LISTING) == {"libx264", "libx264rgb", "prores_ks", "opus", "srt"}


def test_what_is_no_listing_has_no_names() -> None:
    assert encoders.listed("Unrecognized option 'encoders'.\n") == frozenset()


@pytest.mark.parametrize(
    ("there", "card", "lacking"),
    [
        (EVERYTHING, True, ()),
        (EVERYTHING - {"h264_nvenc"}, True, ("h264_nvenc",)),
        (EVERYTHING - {"h264_nvenc"}, False, ()),
        (EVERYTHING - {"libx265", "aac"}, False, ("libx265", "aac")),
        # what only begins like it is another encoder
        (EVERYTHING - {"libx264"} | {"libx264rgb"}, False, ("libx264",)),
    ],
)
def test_what_is_promised_and_not_there_is_named(there: frozenset[str], card: bool, lacking: tuple[str, ...]) -> None:
    assert encoders.lacking(there, card=card) == lacking


def test_build_that_comes_with_the_wheel_lacks_nothing() -> None:
    there = process.ffmpeg_encoders(process.find_ffmpeg(None))

    assert encoders.lacking(there, card=True) == ()
    assert len(there) > 100
