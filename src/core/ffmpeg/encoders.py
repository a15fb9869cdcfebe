"""Which encoders the service promises, and which of them a build of ffmpeg lacks.

Every build here can transcode; one without these would fail tasks one by one, for users who did nothing wrong.
"""

import re

# What each is promised for.
PROMISED = {
    "libx264": "H.264",
    "libx265": "HEVC",
    "libsvtav1": "AV1",
    "aac": "AAC",
    "libopus": "Opus",
}
PROMISED_WITH_A_CARD = {
    "h264_nvenc": "H.264 by the card",
    "hevc_nvenc": "HEVC by the card",
}

# ` V....D libx264              libx264 H.264 / AVC ...`: six flags, of which the first is the kind, and the name.
_LINE = re.compile(r" [VAS][.F][.S][.X][.B][.D] ([\w-]+) .*")


def listed(text: str) -> frozenset[str]:
    """The names in what `ffmpeg -encoders` prints."""
    return frozenset(found[1] for line in text.splitlines() if (found := _LINE.fullmatch(line)))


def lacking(there: frozenset[str], *, card: bool) -> tuple[str, ...]:
    """The promised encoders that are not there; those of a card are promised where there is one."""
    promised = (*PROMISED, *(PROMISED_WITH_A_CARD if card else ()))
    return tuple(name for name in promised if name not in there)
