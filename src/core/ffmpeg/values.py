"""What any value in a command may be, whoever takes it: no path, no URL, no endless formula, no number past its cap.

A number that ffmpeg would compute from a formula is not judged; the time and memory limits of the task are for that.
"""

import re

MOST_FRAMES_PER_SECOND = 240
MOST_PIXELS = 8192 * 8192  # also what -max_pixels lets an input have
LONGEST_SIDE = 16384  # of a picture, where only one side is known; it is also the limit of most encoders
MOST_THREADS = 16

SIZE = re.compile(r"\s*(\d{1,9})\s*[xX*]\s*(\d{1,9})\s*", re.ASCII)
NUMBER = re.compile(r"\s*([-+]?\d+(?:\.\d*)?|[-+]?\.\d+)(?:e([-+]?\d{1,3}))?([kKMGT]?)i?B?\s*", re.ASCII)
RATE_NAME = re.compile(r"[a-z-]+")
POWER = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
# A slash that divides follows a number, a word or a bracket; any other begins a path, as a backslash may.
PATH = re.compile(r"(?:^|[^\w)\]. ])/|^\\|^--|\.\.")
PROTOCOL = re.compile(
    r"(?:^|[=:|,;'\[])(?:async|bluray|cache|concatf?|crypto|data|fd|file|ftp|gophers?|https?|md5|pipe|rtmp\w*|rtp|sftp"
    r"|shared|srt|subfile|tcp|tee|tls|udp\w*|unix)[:,]",
    re.IGNORECASE,
)
WORDS = re.compile(r"[\w.+\-|,&#@ ()]*")
SPACE = re.compile(r"\s+")


def words(text: str) -> frozenset[str]:
    """A set as it reads best in a table: its words in one string."""
    return frozenset(text.split())


def number(text: str | None) -> float | None:
    """The plain number that `text` is; None for a formula, a word or nothing."""
    found = NUMBER.fullmatch(text or "")
    return float(f"{found[1]}e{found[2] or 0}") * POWER[found[3]] if found else None


def rate(text: str | None) -> float | None:
    """Frames in a second: `25`, `30000/1001`, `25:1`; None for a name such as ntsc."""
    above, _, below = (text or "").replace(":", "/").partition("/")
    upper, lower = number(above), number(below or "1")
    return upper / lower if upper is not None and lower else None


def fault(value: str) -> str | None:
    """What is wrong with a value that is neither free text nor a file, as the end of a sentence."""
    if PATH.search(value) or PROTOCOL.search(value):
        return "looks like a path or a URL, which it cannot be."
    return formula_fault(value)


def formula_fault(value: str) -> str | None:
    # ffmpeg takes all space out of a formula before it reads it.
    return "has while(), which may never end." if "while(" in SPACE.sub("", value).lower() else None


def words_fault(value: str) -> str | None:
    return None if WORDS.fullmatch(value) else "has characters that no name here has."


def size_fault(value: str) -> str | None:
    found = SIZE.fullmatch(value)
    return sides_fault(float(found[1]), float(found[2])) if found else None


def sides_fault(width: float | None, height: float | None) -> str | None:
    """Whether a picture is larger than is allowed; a side that is not known is None."""
    if max(width or 0, height or 0) > LONGEST_SIDE or (width or 1) * (height or 1) > MOST_PIXELS:
        return f"is larger than the {MOST_PIXELS} pixels, or the {LONGEST_SIDE} on one side, that a picture may have."
    return None


def rate_fault(value: str) -> str | None:
    # ffmpeg would compute a formula here, so that 1000*1000 passed for nothing; a name such as ntsc is no formula.
    if rate(value) is None and not RATE_NAME.fullmatch(value):
        return "must be a plain rate, such as 25 or 30000/1001."
    return most_fault(rate(value), MOST_FRAMES_PER_SECOND)


def count_fault(value: str, most: float) -> str | None:
    if number(value) is None and value != "auto":
        return "must be a plain number."
    return most_fault(number(value), most)


def most_fault(value: float | None, most: float) -> str | None:
    return f"is more than {most:g}, which is the most." if value is not None and value > most else None
