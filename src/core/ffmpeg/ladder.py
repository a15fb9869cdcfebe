"""A ladder: the same picture in several sizes, between which a player changes, over one sound that they share.

Which rungs there are follows from the source's shorter side. A player may change only where all rungs have a key
frame, so those are forced by time, and the encoder is kept from setting any of its own (codecs.py, `steady`). Which
sizes there may be, and the rate of each, is the preset's own.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.ffmpeg.codecs import VIDEO

MOST_USUAL_RATE = 60  # frames in a second, where the source does not tell

# Made whole first, where it is interlaced: scaled, two fields would be mixed for good. Scaled by the side that is the
# shorter one as shown: so a film on its side, or turned when it is read, is treated alike. Never up, not by a line.
_SCALE = (
    "bwdif=mode=send_frame:deint=interlaced,"
    r"scale=w=2*max(1\,min(trunc(max(iw\,iw*sar)/2)\,round(iw*sar*{0}/min(iw*sar\,ih)/2)))"
    r":h=2*max(1\,min(trunc(ih/2)\,round(ih*{0}/min(iw*sar\,ih)/2)))"
)


@dataclass(frozen=True, slots=True)
class Rung:
    lines: int  # of the shorter side
    most: int  # bits per second, over two seconds

    @property
    def name(self) -> str:
        return f"{self.lines}p"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """`sound` is None, and there is one rung, where nothing is known of the source."""

    rungs: tuple[Rung, ...]
    encoder: str
    segment_seconds: int
    frame_rate: float | None = None
    sound: bool | None = None


def rungs(offered: Mapping[int, int], *, lines: int, most_lines: int) -> tuple[Rung, ...]:
    """Those of the offered sizes that the source fills, the largest first; else one of the source's own size."""
    room = min(lines, most_lines)
    fitting = (Rung(height, offered[height]) for height in sorted(offered, reverse=True) if height <= room)
    return tuple(fitting) or (Rung(room, offered[min(offered)]),)


def words(ladder: Ladder) -> tuple[str, ...]:
    """Which streams there are, and what each is; what encodes them is said elsewhere."""
    return (*_maps(ladder), *_sizes(ladder.rungs), *_key_frames(ladder))


def output_words(ladder: Ladder, output: str, *, segments: str) -> tuple[str, ...]:
    """What stands in the place of the output's name: the playlists, and how their segments are called."""
    if output.lower().endswith(".mpd"):
        return (*_adaptation_sets(ladder), output)
    stem, many = output.rpartition(".")[0], ladder.sound is not None
    variant = f"{stem}_%v" if many else stem
    files: tuple[str, ...] = ("-hls_segment_filename", f"{variant}_%05d.{'ts' if segments == 'mpegts' else 'm4s'}")
    if segments != "mpegts":
        # Of one playlist alone ffmpeg leaves the %v in this name, and no browser fetches that.
        alone = many and len(ladder.rungs) == 1 and not ladder.sound
        header = f"{stem}_{ladder.rungs[0].name}" if alone else variant
        files += ("-hls_fmp4_init_filename", f"{header}_init.mp4")
    if not many:
        return (*files, output)
    return (*files, "-master_pl_name", output, "-var_stream_map", _variants(ladder), f"{variant}.m3u8")


def written(arguments: tuple[str, ...], output: str) -> tuple[str, ...]:
    """The output, and the playlists that stand beside it."""
    return (output, *(word for word in arguments[-1:] if word != output))


def _maps(ladder: Ladder) -> Iterator[str]:
    for _ in ladder.rungs:
        yield from ("-map", "0:V:0")
    if ladder.sound is not False:
        yield from ("-map", "0:a:0" if ladder.sound else "0:a:0?")


def _sizes(offered: tuple[Rung, ...]) -> Iterator[str]:
    for index, rung in enumerate(offered):
        yield from (f"-filter:v:{index}", _SCALE.format(rung.lines))
        yield from (f"-maxrate:v:{index}", str(rung.most), f"-bufsize:v:{index}", str(2 * rung.most))


def _key_frames(ladder: Ladder) -> tuple[str, ...]:
    # Counted in frames, a rate of 23.976 would drift from the segments; the count is a bound that is never reached.
    longest = math.ceil(ladder.segment_seconds * (ladder.frame_rate or MOST_USUAL_RATE))
    at = f"expr:gte(t,n_forced*{ladder.segment_seconds})"
    return ("-force_key_frames", at, "-g", str(longest), *(VIDEO[ladder.encoder].steady or ()))


def _variants(ladder: Ladder) -> str:
    group = ",agroup:sound" if ladder.sound else ""
    listed = [f"v:{index}{group},name:{rung.name}" for index, rung in enumerate(ladder.rungs)]
    if ladder.sound:
        listed.append(f"a:0{group},name:sound,default:yes")
    return " ".join(listed)


def _adaptation_sets(ladder: Ladder) -> tuple[str, ...]:
    if ladder.sound is None:
        return ()
    return ("-adaptation_sets", "id=0,streams=v id=1,streams=a" if ladder.sound else "id=0,streams=v")
