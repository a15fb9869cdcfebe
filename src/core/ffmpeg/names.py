"""Which names an input or an output may have.

An input's name never reaches the disk; an output's name is a file name, a part of an object's key and of a URL.
"""

import re
import unicodedata
from typing import Literal

Role = Literal["input", "output"]

MAX_CHARACTERS = 120
MAX_OUTPUT_BYTES = 240  # in UTF-8: a file's name has at most 255, and ffmpeg adds numbers and endings of its own
PUNCTUATION = frozenset(" ._()+@-–'’!,&#=~[]{}$^;")  # each tried on ffmpeg as an output and in a playlist
# A counter (%d, %03d) or a variant (%v). Nothing else after a percent sign: %s and the like mean the clock.
PATTERN = re.compile(r"%(?:0?\d{0,2}d|v)")
# A name that is legal in either role, and means nothing to any syntax that it stands in.
PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
EXTENSION = re.compile(r"[^.]\.[A-Za-z0-9]{1,10}$")


def fault(name: str, role: Role) -> str | None:
    """Why `name` cannot be the name of an input or an output, as the end of a sentence that begins with the name."""
    if not name:
        return "is empty."
    if len(name) > MAX_CHARACTERS:
        return f"is longer than {MAX_CHARACTERS} characters."
    if role == "output" and len(name.encode(errors="replace")) > MAX_OUTPUT_BYTES:
        return f"is longer than {MAX_OUTPUT_BYTES} bytes in UTF-8."
    if name[0] in "-. " or name[-1] in ". ":
        return "begins with a dash, a dot or a space, or ends in a dot or a space."
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode's composed form (NFC)."
    return _character_fault(PATTERN.sub("", name) if role == "output" else name)


def legal(text: str, *, most: int) -> str:
    """The input's name nearest to `text`, with its extension, at most so many characters."""
    if len(text) <= most and PLAIN.fullmatch(text):
        return text
    composed = unicodedata.normalize("NFC", text)
    clean = "".join(c if _character_fault(c) is None else "_" for c in composed)
    name = unicodedata.normalize("NFC", clean).lstrip("-. ").rstrip(". ")
    if len(name) > most:
        extension = name[-11:].rpartition(".")[1:] if has_extension(name) else ("", "")
        name = name[: most - len("".join(extension))].rstrip(". ") + "".join(extension)
    return name or "file"


def is_pattern(name: str) -> bool:
    """Whether ffmpeg makes several files of it."""
    return PATTERN.search(name) is not None


def has_extension(name: str) -> bool:
    return EXTENSION.search(name) is not None


def _character_fault(name: str) -> str | None:
    bad = next((c for c in name if c not in PUNCTUATION and unicodedata.category(c)[0] not in "LMN"), None)
    if bad is None:
        return None
    if bad == "/" or bad == "\\":
        return "has a slash: it is a plain name, not a path."
    if bad == ":":
        return "has a colon: it is a plain name, not a URL or a protocol."
    if bad == "%":
        return "has a percent sign; only an output may have one, as the counter %d or %03d, or the variant %v."
    return f"has the character {bad!r}, which is not allowed in a name." if bad.isprintable() else _invisible(bad)


def _invisible(character: str) -> str:
    return f"has the invisible character U+{ord(character):04X}."
