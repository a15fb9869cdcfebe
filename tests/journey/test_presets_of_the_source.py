"""Presets that look at the source, on real footage of many kinds: what the worker made of each, and what came out.

Ladders are played to the end, and the key frames of all their rungs compared; loudness is measured again; the cues of
a sprite are laid over its picture. NVENC is not here: no machine that runs this has it.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from core import presets
from core.ffmpeg import loudness
from core.ffmpeg.looks import LOOKS
from support import footage
from support.leftovers import scratch, seconds_until
from support.service import Service, running
from support.source_server import serving

_X264 = ("-c:v", "libx264", "-preset", "ultrafast")
_CLIP = ("-i", str(footage.CLIP), "-t")
# What each source is made by; the clip itself has 1280x720 at 25 pictures a second, and sound in 5.1.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "clip.mp4": ("-i", str(footage.CLIP), "-c", "copy"),
    "short.mp4": (*_CLIP, "2.4", "-c", "copy"),
    "4k.mp4": (*_CLIP, "1.2", "-vf", "scale=3840:2160,fps=24000/1001", *_X264, "-c:a", "aac", "-ac", "1"),
    "portrait.mkv": (*_CLIP, "2.5", "-vf", "crop=406:720,fps=30000/1001", *_X264, "-an"),
    "tiny.mkv": (*_CLIP, "1.2", "-vf", "scale=98:54,setsar=1", *_X264, "-c:a", "copy"),
    "fast.mp4": (
        *_CLIP,
        "2.5",
        "-vf",
        "scale=854:480,fps=50,negate=enable='gte(t,0.7)'",
        *_X264,
        "-g",
        "37",
        "-c:a",
        "copy",
    ),
    "slow.mkv": ("-f", "lavfi", "-i", "testsrc2=d=52:r=24000/1001:s=64x36", *_X264),
    "anamorphic.mkv": (*_CLIP, "1.2", "-vf", "scale=720:576,setsar=64/45", *_X264, "-an"),
    "raw.h264": (*_CLIP, "2", "-an", "-vf", "scale=320:180", *_X264, "-f", "h264"),
    "small.mp4": (*_CLIP, "2", "-vf", "scale=320:180", *_X264, "-c:a", "copy"),
    "loud.mkv": (*_CLIP, "4", "-vf", "scale=160:90", *_X264, "-af", "aformat=channel_layouts=stereo,volume=25dB"),
    "tone.wav": ("-f", "lavfi", "-i", "sine=d=4:f=440:sample_rate=44100", "-af", "volume=-12dB"),
    "silence.wav": ("-f", "lavfi", "-i", "anullsrc=d=1"),
    "soundless.mp4": (*_CLIP, "0.5", "-an", "-c", "copy"),
    "long.mkv": ("-f", "lavfi", "-i", "testsrc2=d=95:r=2:s=192x108", *_X264),
}
TURNED = "turned.mp4"  # 720x1280 as it is stored, and 1280x720 as it is shown

# Preset, parameters, source, output.
TASKS: Mapping[str, tuple[str, dict[str, Any], str, str]] = {
    "hls": ("hls-ladder", {"segment_seconds": 1}, "short.mp4", "master.m3u8"),
    "hls, 4k": ("hls-ladder", {"segment_seconds": 1, "quality": "small"}, "4k.mp4", "m.m3u8"),
    "hls, portrait": ("hls-ladder", {"segment_seconds": 1, "segments": "mpegts"}, "portrait.mkv", "a film.m3u8"),
    "hls, tiny": ("hls-ladder", {}, "tiny.mkv", "m.m3u8"),
    "hls, slow": ("hls-ladder", {"segment_seconds": 2}, "slow.mkv", "m.m3u8"),
    "hls, turned": ("hls-ladder", {"segment_seconds": 1, "most_lines": 480}, TURNED, "m.m3u8"),
    "dash": ("dash-ladder", {"segment_seconds": 2}, "short.mp4", "manifest.mpd"),
    "dash, fast": ("dash-ladder", {"segment_seconds": 1}, "fast.mp4", "m.mpd"),
    "dash, anamorphic": ("dash-ladder", {"segment_seconds": 1}, "anamorphic.mkv", "m.mpd"),
    "loudness": ("loudness", {}, "clip.mp4", "o.mp4"),
    "loudness, loud": ("loudness", {"target": -23, "layout": "mono"}, "loud.mkv", "o.mkv"),
    "loudness, sound only": ("loudness", {"target": -20}, "tone.wav", "o.m4a"),
    "loudness, silence": ("loudness", {}, "silence.wav", "o.m4a"),
    "own rate": ("web-mp4-own-rate", {"most": "20M"}, "small.mp4", "o.mp4"),
    "own rate, capped": ("web-mp4-own-rate", {"most": "150k"}, "small.mp4", "o.mp4"),
    "own rate, not told": ("web-mp4-own-rate", {"unknown": "200k"}, "raw.h264", "o.mp4"),
    "sprite": ("sprite", {"every": 1}, "clip.mp4", "sprite.jpg"),
    "sprite, portrait": ("sprite", {"every": 1, "width": 64}, "portrait.mkv", "a #1.png"),
    "sprite, long": ("sprite", {"every": 1, "most": 12, "width": 48}, "long.mkv", "s.jpg"),
    "no sound to correct": ("loudness", {}, "soundless.mp4", "o.mp4"),
    "no picture to show": ("sprite", {}, "tone.wav", "s.jpg"),
    "no picture to climb": ("hls-ladder", {}, "tone.wav", "m.m3u8"),
    "no length": ("sprite", {}, "raw.h264", "s.jpg"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name, arguments in SOURCES.items():
        footage.run(*arguments, str(folder / name))
    upright = ("-display_rotation", "90", "-i", str(folder / "portrait.mkv"))
    footage.run(*upright, "-c", "copy", str(folder / TURNED))
    return folder


@pytest.fixture(scope="module")
def tasks(service: Service, media: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Each task as it was when it was registered."""
    with serving(media) as source:

        def body(preset: str, parameters: dict[str, Any], name: str, output: str) -> dict[str, Any]:
            inputs = {name: f"{source.url}/media/{name}"}
            return {"preset": preset, "parameters": parameters, "input_files": inputs, "output_filename": output}

        on_the_card = {"compute": "gpu", "gpu_fallback": True}
        yield {
            **{name: registered(service, body(*row)) for name, row in TASKS.items()},
            "card": registered(service, body("hls-ladder", {}, "tiny.mkv", "m.m3u8") | on_the_card),
        }


def registered(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    answer = service.http.post("/ffmpeg/register", json=body, params={"execute": True})
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


@pytest.fixture
def fetched(service: Service, tasks: dict[str, dict[str, Any]], tmp_path: Path) -> Any:
    """A function that gives a completed task and a folder with all that it has stored."""

    def fetch(name: str) -> tuple[dict[str, Any], Path]:
        task = service.ended(tasks[name]["task_id"], seconds=600)
        assert task["status"] == "completed", task["error"]
        for output in task["outputs"]:
            (tmp_path / output["filename"]).write_bytes(service.http.get(output["url"]).content)
        return task, tmp_path

    return fetch


def key_frames(path: Path) -> list[float]:
    """When the key frames of a film are, in seconds."""
    with av.open(str(path)) as film:
        (picture,) = film.streams.video
        base = float(picture.time_base or 0)
        return [round(float(p.pts or 0) * base, 3) for p in film.demux(picture) if p.size and p.is_keyframe]


def size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as film:
        return (film.streams.video[0].width, film.streams.video[0].height)


# Task; rungs with their sizes, whether there is sound, seconds of a segment and of the whole, pictures in a second.
LADDERS: Mapping[str, tuple[dict[str, tuple[int, int]], bool, float, float, float]] = {
    "hls": ({"720p": (1280, 720), "480p": (854, 480), "360p": (640, 360)}, True, 1, 2.4, 25),
    "hls, 4k": (
        {"1080p": (1920, 1080), "720p": (1280, 720), "480p": (854, 480), "360p": (640, 360)}, True, 1, 1.2, 23.976,
    ),
    "hls, portrait": ({"360p": (360, 638)}, False, 1, 2.5, 29.97),
    "hls, tiny": ({"54p": (98, 54)}, True, 6, 1.2, 25),
    "hls, slow": ({"36p": (64, 36)}, False, 2, 52, 23.976),
    "hls, turned": ({"360p": (638, 360)}, False, 1, 2.5, 29.97),
}  # fmt: skip


@pytest.mark.parametrize("name", LADDERS)
def test_hls_has_the_rungs_that_the_source_fills_over_one_sound(fetched: Any, name: str) -> None:
    rungs, sound, _, seconds, _ = LADDERS[name]
    task, folder = fetched(name)
    master = task["outputs"][0]["filename"]
    stem, text = master.removesuffix(".m3u8"), (folder / master).read_text()
    sizes = re.findall(r"RESOLUTION=(\d+)x(\d+)", text)
    assert [(int(wide), int(high)) for wide, high in sizes] == list(rungs.values())
    assert re.findall(r"^[^#\s].*$", text, re.MULTILINE) == [f"{stem}_{rung}.m3u8" for rung in rungs]
    groups = re.findall(r'TYPE=AUDIO,GROUP-ID="([^"]+)".*URI="([^"]+)"', text)
    assert groups == ([("group_sound", f"{stem}_sound.m3u8")] if sound else [])
    assert text.count('AUDIO="group_sound"') == (len(rungs) if sound else 0)
    assert all(rate < 2 for rate in _rates_over_their_limit(text, rungs))
    assert footage.played_seconds(task["output_url"]) == pytest.approx(seconds, abs=0.15)
    for rung, sides in rungs.items():
        assert size(folder / f"{stem}_{rung}.m3u8") == sides


@pytest.mark.parametrize("name", LADDERS)
def test_what_a_playlist_names_is_stored_under_that_name(fetched: Any, name: str) -> None:
    """As a browser reads it, to which a percent sign is half a character and what follows # is no part of a name."""
    task, folder = fetched(name)
    stored = {output["filename"] for output in task["outputs"]}
    texts = [(folder / name).read_text() for name in stored if name.endswith(".m3u8")]
    named = {name for text in texts for name in re.findall(r'^[^#\s].*$|(?<=URI=")[^"]+', text, re.MULTILINE)}
    assert named == stored - {task["outputs"][0]["filename"]}
    assert not any(set("%#?") & set(name) for name in named)


def _rates_over_their_limit(master: str, rungs: Mapping[str, Any]) -> list[float]:
    limits = {"1080p": 5e6, "720p": 2.8e6, "480p": 1.4e6}
    rates = re.findall(r"AVERAGE-BANDWIDTH=(\d+)", master)
    return [int(rate) / limits.get(rung, 8e5) for rate, rung in zip(rates, rungs, strict=True)]


@pytest.mark.parametrize("name", LADDERS)
def test_the_rungs_of_hls_have_their_key_frames_at_the_same_times(fetched: Any, name: str) -> None:
    rungs, _, every, seconds, rate = LADDERS[name]
    task, folder = fetched(name)
    stem = task["outputs"][0]["filename"].removesuffix(".m3u8")
    times = {rung: key_frames(folder / f"{stem}_{rung}.m3u8") for rung in rungs}
    (first, *others) = times.values()
    assert all(other == first for other in others), times
    _are_where_segments_begin(first, every, seconds, rate)


def _are_where_segments_begin(times: list[float], every: float, seconds: float, rate: float) -> None:
    """Each is the first picture of its segment: less than a picture's time late, also after many at an odd rate."""
    late = [time - times[0] - number * every for number, time in enumerate(times)]
    assert all(-0.002 <= one < 1 / rate + 0.002 for one in late), late
    assert len(times) == -(-seconds // every)


def test_each_part_of_hls_is_stored_and_the_main_file_is_the_first(fetched: Any) -> None:
    task, _ = fetched("hls, portrait")
    names = [output["filename"] for output in task["outputs"]]
    assert names == ["a film.m3u8", "a film_360p.m3u8", *(f"a film_360p_0000{number}.ts" for number in range(3))]
    assert task["output_url"] == task["outputs"][0]["url"]


DASHES: Mapping[str, tuple[list[tuple[int, int]], bool, float, float, float]] = {
    "dash": ([(1280, 720), (854, 480), (640, 360)], True, 2, 2.4, 25),
    "dash, fast": ([(854, 480), (640, 360)], True, 1, 2.5, 50),
    "dash, anamorphic": ([(854, 480), (640, 360)], False, 1, 1.2, 25),
}


@pytest.mark.parametrize("name", DASHES)
def test_dash_plays_and_its_rungs_have_their_key_frames_at_the_same_times(fetched: Any, name: str) -> None:
    sizes, sound, every, seconds, rate = DASHES[name]
    task, folder = fetched(name)
    manifest = folder / task["outputs"][0]["filename"]
    text = manifest.read_text()
    assert text.count("<AdaptationSet") == 1 + sound
    assert text.count("<Representation") == len(sizes) + sound
    assert footage.played_seconds(task["output_url"]) == pytest.approx(seconds, abs=0.15)
    films = [_joined(folder, number) for number in range(len(sizes))]
    assert [size(film) for film in films] == sizes
    first, *others = [key_frames(film) for film in films]
    assert others == [first] * len(others)
    _are_where_segments_begin(first, every, seconds, rate)


def _joined(folder: Path, number: int) -> Path:
    parts = [folder / f"init-stream{number}.m4s", *sorted(folder.glob(f"chunk-stream{number}-*.m4s"))]
    film = folder / f"joined{number}.mp4"
    film.write_bytes(b"".join(part.read_bytes() for part in parts))
    return film


def test_the_task_shows_the_command_that_ran(service: Service, tasks: dict[str, dict[str, Any]]) -> None:
    before, after = tasks["hls"]["command"], service.ended(tasks["hls"]["task_id"], seconds=600)["command"]
    assert before.count("-map 0:V:0") == 1
    assert after.count("-map 0:V:0") == 3
    assert "-var_stream_map" in after
    log = service.http.get(f"/ffmpeg/log/{tasks['hls']['task_id']}").text
    assert f"$ ffmpeg {after}\n" in log


def measured(path: Path) -> loudness.Loudness:
    arguments = ("-i", str(path), "-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-")
    found = loudness.read(footage.run("-loglevel", "info", *arguments).stderr.splitlines())
    assert found
    return found


@pytest.mark.parametrize(
    ("name", "target", "layout", "codec", "limited"),
    [
        ("loudness", -16, "stereo", "h264", True),
        ("loudness, loud", -23, "mono", "h264", True),
        ("loudness, sound only", -20, "stereo", None, False),
    ],
)
def test_sound_is_brought_to_its_loudness(
    fetched: Any, name: str, target: float, layout: str, codec: str, limited: bool
) -> None:
    task, folder = fetched(name)
    (output,) = task["outputs"]
    found = measured(folder / output["filename"])
    assert found.integrated == pytest.approx(target, abs=1)
    assert found.peak <= -1
    sound = output["media"]["streams"][-1]
    assert (sound["codec"], sound["channel_layout"]) == ("aac", layout)
    assert [stream["codec"] for stream in output["media"]["streams"][:-1]] == ([codec] if codec else [])
    assert ("alimiter=" in task["command"]) == limited
    assert (":measured_I=" in task["command"]) != limited


def test_the_picture_is_copied_where_only_the_sound_is_corrected(fetched: Any, tmp_path: Path) -> None:
    task, folder = fetched("loudness")
    hashes = [
        footage.run("-i", str(path), "-map", "0:v", "-c", "copy", "-f", "streamhash", "-").stdout
        for path in (footage.CLIP, folder / "o.mp4")
    ]
    assert hashes[0] == hashes[1]
    assert task["outputs"][0]["media"]["duration_seconds"] == pytest.approx(5.31, abs=0.1)


def test_silence_is_left_as_it_is(fetched: Any) -> None:
    task, folder = fetched("loudness, silence")
    assert "anull" in task["command"]
    assert measured(folder / "o.m4a").integrated == loudness.SILENCE


@pytest.mark.parametrize(
    ("name", "rate"),
    [("own rate", None), ("own rate, capped", 150_000), ("own rate, not told", 200_000)],
)
def test_the_bit_rate_follows_the_source_within_its_limit(
    fetched: Any, media: Path, name: str, rate: int | None
) -> None:
    task, _ = fetched(name)
    (output,) = task["outputs"]
    picture = output["media"]["streams"][0]
    with av.open(str(media / TASKS[name][2])) as source:
        own = source.streams.video[0]
        rate = rate or own.bit_rate or 0
        assert (picture["codec"], picture["width"], picture["height"]) == ("h264", own.width, own.height)
    assert f"-b:v {rate} " in task["command"]
    assert f"-maxrate {rate} -bufsize {2 * rate} " in task["command"]
    assert picture["bit_rate"] == pytest.approx(rate, rel=0.35)


# Task; pictures, their size, the seconds between them, and the length of the film.
SPRITES: Mapping[str, tuple[int, tuple[int, int], int, float]] = {
    "sprite": (6, (160, 90), 1, 5.31),
    "sprite, portrait": (3, (36, 64), 1, 2.5),
    "sprite, long": (12, (48, 28), 8, 95.0),
}
CUE = re.compile(r"(\d\d):(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d):(\d\d\.\d{3})\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)\n")


@pytest.mark.parametrize("name", SPRITES)
def test_the_cues_of_a_sprite_cover_the_film_and_lie_in_the_picture(fetched: Any, name: str) -> None:
    count, (wide, high), every, seconds = SPRITES[name]
    task, folder = fetched(name)
    picture, cues = (output["filename"] for output in task["outputs"])
    text = (folder / cues).read_text()
    found = [match.groups() for match in CUE.finditer(text)]
    times = [tuple(int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in (f[:3], f[3:6])) for f in found]
    places = [tuple(int(number) for number in f[7:]) for f in found]
    assert text.startswith("WEBVTT\n\n")
    assert (cues, len(found)) == (f"{picture.rpartition('.')[0]}.vtt", count)
    assert {f[6] for f in found} == {picture.replace(" ", "%20").replace("#", "%23")}
    assert [begin for begin, _ in times] == [number * every for number in range(count)]
    assert all(before[1] == after[0] for before, after in pairwise(times))
    assert times[-1][1] == pytest.approx(seconds, abs=0.1)
    assert len(set(places)) == count
    assert {(w, h) for _, _, w, h in places} == {(wide, high)}
    whole = size(folder / picture)
    assert all(x + w <= whole[0] and y + h <= whole[1] for x, y, w, h in places)


def test_each_place_of_a_sprite_shows_what_the_film_shows_then(fetched: Any) -> None:
    _, folder = fetched("sprite")
    places = ((0, 0), (160, 0), (320, 0), (0, 90), (160, 90), (320, 90))
    shown = [grey(folder / "sprite.jpg", f"crop=160:90:{x}:{y}") for x, y in places]
    then = [grey(footage.CLIP, "scale=160:90", at=number) for number in range(len(places))]
    nearest = [min(range(len(then)), key=lambda number: _apart(one, then[number])) for one in shown]
    assert nearest == list(range(len(places)))
    assert all(_apart(one, other) < 6 for one, other in zip(shown, then, strict=True))


def grey(path: Path, filters: str, *, at: int = 0) -> bytes:
    """The picture at a time, as one byte for each pixel."""
    seek = ("-ss", str(at)) if at else ()  # which a picture does not understand
    arguments = (*seek, "-i", str(path), "-frames:v", "1", "-vf", f"{filters},format=gray", "-f", "rawvideo")
    command = [footage.ffmpeg(), "-loglevel", "error", *arguments, "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _apart(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no sound to correct", "The input soundless.mp4 has no sound, which the preset loudness needs."),
        ("no picture to show", "The input tone.wav has no video, which the preset sprite needs."),
        ("no picture to climb", "The input tone.wav has no video, which the preset hls-ladder needs."),
        ("no length", "The input raw.h264 does not tell how long it is, which the preset sprite needs."),
    ],
)
def test_a_source_that_lacks_what_is_needed_fails_in_plain_words(
    service: Service, tasks: dict[str, dict[str, Any]], name: str, message: str
) -> None:
    error = service.ended(tasks[name]["task_id"], seconds=600)["error"]
    assert (error["code"], error["message"], error["retryable"]) == ("MEDIA_INVALID", message, False)


def test_every_preset_that_depends_on_the_source_was_run() -> None:
    looking = {name for name, made in presets.shelf(None).items() if made.looks and LOOKS[made.looks].gaps}
    assert {row[0] for row in TASKS.values()} == looking


def test_what_is_made_for_the_card_runs_in_its_cpu_form_where_there_is_none(fetched: Any) -> None:
    task, _ = fetched("card")
    note = task["attempts"][0]["note"]
    assert "-no-scenecut 1 -forced-idr 1 -c:v h264_nvenc -rc vbr -cq 24 -b:v 0 " in task["command"]
    assert note.startswith("Ran on the CPU, as -i tiny.mkv -map 0:V:0 -map 0:a:0 -filter:v:0 ")
    assert "-sc_threshold 0 -forced-idr 1 -c:v libx264 -crf 24 " in note
    assert [output["filename"] for output in task["outputs"]][:3] == ["m.m3u8", "m_54p.m3u8", "m_54p_00000.m4s"]


def test_a_cancel_ends_the_measuring_run_which_counts_for_half(tmp_path: Path) -> None:
    # given an ffmpeg that measures for more than ten minutes, however fast the machine is
    slow = tmp_path / "ffmpeg"
    slow.write_text(f'#!/bin/sh\nexec {footage.ffmpeg()} -readrate 2 "$@"\n')
    slow.chmod(0o755)
    footage.run("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono:d=1500", str(tmp_path / "night.flac"))
    settings = {"FFMPEG_PATH": str(slow), "UNCONTAINED": "1", "SANDBOX": "degraded"}
    program = ("-m", "support.crashing", "service")
    with serving(tmp_path) as source, running(tmp_path / "service", program=program, **settings) as service:
        inputs = {"night.flac": f"{source.url}/media/night.flac"}
        task_id = registered(service, {"preset": "loudness", "input_files": inputs, "output_filename": "o.m4a"})[
            "task_id"
        ]
        percents = [task["progress"]["percent"] for task in _until_it_measures(service, task_id)]
        assert service.cancel(task_id).status_code == 202
        seconds_until(lambda: not scratch(service.data_dir / "scratch"), most=120)
    seen = [percent for percent in percents if percent is not None]
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 50


def _until_it_measures(service: Service, task_id: str) -> Iterator[dict[str, Any]]:
    for task in service.follow(task_id):
        assert task["status"] in ("queued", "running"), task
        yield task
        if task["progress"]["percent"]:
            return
