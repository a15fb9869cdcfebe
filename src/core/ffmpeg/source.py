"""What of a probed source matters to whoever makes a command for it: its picture, its sound, their size and rate.

What is not told is None; nothing is guessed. What is made of it is for looks.py and the modules that it names.
"""

from core.ffmpeg.expect import IMAGES, is_picture
from core.task import Media, Stream

LEAST_OF_A_COVER = 1_000  # frames in a second: what is told of a cover is its time base, and no camera is so fast
LEAST_BIT_RATE = 1_000  # below, somebody counted something else


def picture(media: Media) -> Stream | None:
    """The first video stream that moves; a cover image does not."""
    return next((stream for stream in media.streams if stream.type == "video" and _moves(stream)), None)


def sound(media: Media) -> Stream | None:
    return next((stream for stream in media.streams if stream.type == "audio"), None)


def is_still(media: Media) -> bool:
    """Whether it is one picture and no film, so that there is no other moment in it than its beginning."""
    shown = picture(media)
    return is_picture(media) and shown is not None and bool(shown.width)  # which is not told of a WebP that moves


def lasts(media: Media, seconds: float) -> bool:
    """Whether it is so long, or may be, as it does not tell; one picture is not."""
    length = media.duration_seconds
    return not media.container.endswith("_pipe") if length is None else length >= seconds


def lines(stream: Stream) -> int | None:
    """How many pixels the shorter side of a picture has as it is shown, which turning does not change."""
    if not stream.width or not stream.height:
        return None
    return min(round(stream.width * _aspect(stream.sample_aspect_ratio)), stream.height)


def bit_rate(media: Media) -> int | None:
    """Bits per second of the picture: its stream's own, else the file's without what its sound is known to take."""
    stream = picture(media)
    if stream is None:
        return None
    rest = (media.bit_rate or 0) - sum(one.bit_rate or 0 for one in media.streams if one.type == "audio")
    found = stream.bit_rate or rest
    return found if found >= LEAST_BIT_RATE else None


def _moves(stream: Stream) -> bool:
    if stream.frame_rate is None:
        return stream.codec not in IMAGES
    return 0 < stream.frame_rate < LEAST_OF_A_COVER


def _aspect(ratio: str | None) -> float:
    """How much wider than high a pixel is."""
    wide, _, high = (ratio or "1:1").partition(":")
    return int(wide) / int(high) if wide.isdecimal() and high.isdecimal() and int(wide) and int(high) else 1.0
