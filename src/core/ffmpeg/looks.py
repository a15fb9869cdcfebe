"""What a preset may take from the source before it is a command: a table of looks, each a name in the preset's file.

A look fills gaps of the preset (preset.py) by what was asked for and what the source is. Without a source, at register,
it fills them so that the command would do for any; the worker fills them anew when it has probed the input.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core.ffmpeg import ladder, loudness, source, sprite, values
from core.ffmpeg.loudness import Loudness
from core.task import Media

MOST_SOUND_RATE = 48_000  # more samples in a second than any encoder here needs
SHORTEST_LADDER = 0.5  # seconds: of less, ffmpeg's HLS knows no rate, and leaves its master playlist empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a look goes by. `chosen` has each parameter as it is written; `media` is None where nothing is known."""

    chosen: Mapping[str, str]
    output: str
    rungs: Mapping[int, int] = field(default_factory=dict)  # lines of the shorter side, and bits per second
    encoder: str = ""
    media: Media | None = None
    measured: Loudness | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """`values` fill gaps within words, `words` take the place of a whole one."""

    values: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bitrate: int | None = None  # of the video, instead of a quality
    written: tuple[str, ...] = ()  # the names that are written; none: the output


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`parameters` are those that the preset must have, with their types; those and no others need no gap."""

    why: str
    fill: Callable[[Asked], Filling]
    parameters: Mapping[str, str]
    gaps: frozenset[str] = frozenset()
    needs: Callable[[Media], str | None] = lambda media: None  # what the source lacks, as a sentence's end
    others: bool = False  # whether files are written beside the output that are called after it
    measures: bool = False  # whether there is a run before, by the preset's `measure`
    essential: bool = False  # whether nothing can be made of a source that cannot be examined


def _ladder(asked: Asked) -> Filling:
    made = _climbed(asked)
    output = ladder.output_words(made, asked.output, segments=asked.chosen.get("segments", ""))
    words = {"rungs": ladder.words(made), "output": output}
    return Filling(words=words, written=ladder.written(output, asked.output))


def _climbed(asked: Asked) -> ladder.Ladder:
    most, seconds = int(asked.chosen["most_lines"]), int(asked.chosen["segment_seconds"])
    shown = source.picture(asked.media) if asked.media else None
    lines = source.lines(shown) if shown else None
    if asked.media is None or shown is None or lines is None:
        best = ladder.rungs(asked.rungs, lines=most, most_lines=most)[:1]
        return ladder.Ladder(rungs=best, encoder=asked.encoder, segment_seconds=seconds)
    return ladder.Ladder(
        rungs=ladder.rungs(asked.rungs, lines=lines, most_lines=most),
        encoder=asked.encoder,
        segment_seconds=seconds,
        frame_rate=shown.frame_rate,
        sound=source.sound(asked.media) is not None,
    )


def _bitrate(asked: Asked) -> Filling:
    own = source.bit_rate(asked.media) if asked.media else None
    most, unknown = (_bits(asked.chosen[name]) for name in ("most", "unknown"))
    rate = min(own or unknown, most)
    return Filling(bitrate=rate, values={"bitrate": str(rate), "buffer": str(2 * rate)})


def _bits(spelled: str) -> int:
    return round(values.number(spelled) or 0)


def _loudness(asked: Asked) -> Filling:
    heard = source.sound(asked.media) if asked.media else None
    rate = min((heard.sample_rate if heard else None) or MOST_SOUND_RATE, MOST_SOUND_RATE)
    target, peak = (float(asked.chosen[name]) for name in ("target", "true_peak"))
    how = loudness.correction(target, peak, asked.measured)
    return Filling(values={"loudness": how, "sample_rate": str(rate)})


def _sprite(asked: Asked) -> Filling:
    there = grid(asked)
    return Filling(values={"every": str(there.every), "columns": str(there.columns), "rows": str(there.rows)})


def grid(asked: Asked) -> sprite.Grid:
    every, most = int(asked.chosen["every"]), int(asked.chosen["most"])
    return sprite.grid(asked.media.duration_seconds if asked.media else None, every=every, most=most)


def _nothing(asked: Asked) -> Filling:
    return Filling()


def _no_picture(media: Media) -> str | None:
    return None if source.picture(media) else "has no video"


def _no_sound(media: Media) -> str | None:
    return None if source.sound(media) else "has no sound"


def _no_ladder(media: Media) -> str | None:
    return _no_picture(media) or (None if source.lasts(media, SHORTEST_LADDER) else "does not last half a second")


def _no_film(media: Media) -> str | None:
    if source.is_still(media):
        return "is one picture and no film"
    return _no_picture(media) or (None if media.duration_seconds else "does not tell how long it is")


LOOKS: Mapping[str, Look] = {
    "picture": Look(why="that it has one, which moves", fill=_nothing, parameters={}, needs=_no_picture),
    "sound": Look(why="that it has one", fill=_nothing, parameters={}, needs=_no_sound),
    "ladder": Look(
        why="how many lines it has, its frame rate, and whether it has sound: which renditions there are",
        fill=_ladder,
        parameters={"most_lines": "integer", "segment_seconds": "integer"},
        gaps=frozenset({"rungs"}),
        needs=_no_ladder,
        others=True,
    ),
    "bitrate": Look(
        why="the bit rate of its picture",
        fill=_bitrate,
        parameters={"most": "bitrate", "unknown": "bitrate"},
        gaps=frozenset({"bitrate", "buffer"}),
        needs=_no_picture,
    ),
    "loudness": Look(
        why="how loud it is, by a run that measures it, and its sample rate",
        fill=_loudness,
        parameters={"target": "number", "true_peak": "number"},
        gaps=frozenset({"loudness", "sample_rate"}),
        needs=_no_sound,
        measures=True,
    ),
    "sprite": Look(
        why="how long it is: how many pictures there are, and how far apart",
        fill=_sprite,
        parameters={"every": "integer", "most": "integer"},
        gaps=frozenset({"every", "columns", "rows"}),
        needs=_no_film,
        others=True,
        essential=True,
    ),
}
