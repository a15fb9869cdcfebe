"""What is kept of an attempt for people to read: which commands were run, what ffmpeg said, and how it ended.

Only what may be shown is written into it: lines come scrubbed. What is too long loses its beginning.
"""

from collections.abc import Sequence

from core.read_log import MAX_BYTES

_CUT = "(what came before is left out)"


class Journal:
    """The log of one attempt, as it grows."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, *lines: str) -> None:
        self._lines += lines

    def text(self) -> str:
        """The last MAX_BYTES of it, in whole lines; empty when ffmpeg was never run."""
        kept = _last(self._lines, room=MAX_BYTES - len(_CUT) - 1)
        cut = [_CUT] if len(kept) < len(self._lines) else []
        return "".join(f"{line}\n" for line in (*cut, *kept))


def _last(lines: Sequence[str], *, room: int) -> Sequence[str]:
    for count, line in enumerate(reversed(lines)):
        room -= len(line.encode(errors="replace")) + 1
        if room < 0:
            return lines[len(lines) - count :]
    return lines
