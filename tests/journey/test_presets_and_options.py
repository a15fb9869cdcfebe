"""Every preset, and a set of options, on real footage: through the service, a worker and ffmpeg, to what came out.

All are registered at once and end as the workers get to them; each test looks at one.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from core import presets
from core.ffmpeg import build, form
from core.ffmpeg.codecs import CONTAINERS
from core.ffmpeg.looks import LOOKS
from core.ffmpeg.validate import check
from handlers import local
from support import footage
from support.service import Service, running
from support.source_server import serving

SMALL, LARGE, ODD = "small.mkv", "bigbuckbunny.mp4", "odd.mkv"  # 320x180, 1280x720, and 181x321: on its side, and odd
TV, FLASH, SONG = "tv.mkv", "flash.mp4", "song.mp3"  # two fields of 360x288 shown as 512x288; one picture; with a cover
PHOTO = "photo.jpg"
DOT, RACE = "dot.mkv", "race.mkv"  # one pixel; 300 pictures a second
_X264 = ("-c:v", "libx264", "-preset", "ultrafast")

TINY = """
summary = "Tiny."
extensions = ["mkv"]
command = "-i {input} -vf scale={width}:-2 {video} -an {output}"
[video]
codec = "h264"
preset = "ultrafast"
[parameters.width]
type = "integer"
description = "How wide."
default = 64
least = 32
most = 64
"""

Facts = tuple[str, ...]
H264_AAC: Facts = ("h264", "yuv420p", "aac", "stereo")

# Preset, parameters, source, output; then its container, size, streams and seconds.
PRESETS: Mapping[str, tuple[Any, ...]] = {
    "web 480p, scaled down": ("web-mp4-480p", {"quality": "small"}, LARGE, "o.mp4", "mp4", (854, 480), H264_AAC, 5.31),
    "web 480p, interlaced": ("web-mp4-480p", {}, TV, "o.mp4", "mp4", (360, 288), ("h264", "yuv420p"), 0.8),
    "web 480p, on its side": ("web-mp4-480p", {}, ODD, "o.m4v", "mov", (180, 320), ("h264", "yuv420p"), 1.0),
    "web 720p": ("web-mp4-720p", {"audio_bitrate": 64000}, SMALL, "o.mp4", "mp4", (320, 180), H264_AAC, 1.5),
    "web 1080p": ("web-mp4-1080p", {"quality": "high"}, SMALL, "o.mp4", "mp4", (320, 180), H264_AAC, 1.5),
    "proxy": ("editing-proxy", {}, SMALL, "o.mov", "mov", (320, 180),
              ("prores", "yuv422p10le", "pcm_s16le", "5.1"), 1.5),
    "proxy, scaled down": ("editing-proxy", {"height": 144}, ODD, "o.mov", "mov", (82, 144),
                           ("prores", "yuv422p10le"), 1.0),
    "hevc": ("hevc-archive", {}, SMALL, "o.mkv", "matroska", (320, 180), ("hevc", "yuv420p10le", "aac", "5.1"), 1.5),
    "av1": ("av1-archive", {}, SMALL, "o.mkv", "matroska", (320, 180), ("av1", "yuv420p10le", "aac", "5.1"), 1.5),
    "av1, odd": ("av1-archive", {}, ODD, "o.mkv", "matroska", (180, 320), ("av1", "yuv420p10le"), 1.0),
    "av1, one pixel": ("av1-archive", {}, DOT, "o.mkv", "matroska", (2, 2), ("av1", "yuv420p10le"), 0.4),
    "av1, 300 a second": ("av1-archive", {}, RACE, "o.mkv", "matroska", (64, 64), ("av1", "yuv420p10le"), 0.4),
    "aac": ("audio-aac", {}, SMALL, "o.m4a", "m4a", None, ("aac", "stereo"), 1.5),
    "opus": ("audio-opus", {"channels": 1}, SMALL, "o.opus", "ogg", None, ("opus", "mono"), 1.5),
    "mp3": ("audio-mp3", {"bitrate": "64k"}, SMALL, "o.mp3", "mp3", None, ("mp3", "stereo"), 1.5),
    "gif": ("gif", {"duration": 0.5, "start": 0.5}, SMALL, "o.gif", "gif", (320, 180), ("gif", "bgra"), 0.5),
    "gif, scaled down": ("gif", {"duration": 0.5, "width": 101}, SMALL, "o.gif", "gif", (100, 56),
                         ("gif", "bgra"), 0.5),
    # PyAV, which looks into what comes out, knows of animated WebP no more than that it is there.
    "webp": ("animated-webp", {"duration": 0.5}, SMALL, "o.webp", "webp_pipe", None, ("webp",), None),
    "thumbnail": ("thumbnail", {"at": 0.4}, TV, "o.jpg", "image2", (512, 288), ("mjpeg", "yuvj420p"), None),
    "thumbnail, png": ("thumbnail", {"width": 64}, ODD, "o.png", "png_pipe", (64, 114), ("png", "rgb24"), None),
    "contact sheet": ("contact-sheet", {"every": 1, "columns": 2, "rows": 2}, SMALL, "o.jpg", "image2",
                      (2 * 320 + 12, 2 * 180 + 12), ("mjpeg", "yuvj420p"), None),
    "gif, one picture": ("gif", {}, FLASH, "o.gif", "gif", (320, 180), ("gif", "bgra"), None),
    "thumbnail, of a photo": ("thumbnail", {}, PHOTO, "o.jpg", "image2", (320, 180), ("mjpeg", "yuvj420p"), None),
    "gif, of a photo": ("gif", {"start": 3}, PHOTO, "o.gif", "gif", (320, 180), ("gif", "bgra"), None),
    "webp, of a photo": ("animated-webp", {}, PHOTO, "o.webp", "webp_pipe", (320, 180), ("webp", "yuv420p"), None),
    "the operator's own": ("tiny", {"width": 32}, SMALL, "o.mkv", "matroska", (32, 18), ("h264", "yuv420p"), 1.5),
    "hls": ("hls-720p", {"segment_seconds": 1}, SMALL, "o.m3u8", None, None, None, None),
}  # fmt: skip

# Options, source, output; then its container, size, streams and seconds.
OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "none": ({}, SMALL, "o.mp4", "mp4", (320, 180), ("h264", "yuv420p", "aac", "5.1"), 1.5),
    "odd": ({}, ODD, "o.webm", "webm", (180, 320), ("vp9", "yuv420p"), 1.0),
    "surround": ({"video": {"codec": "copy"}, "audio": {"codec": "opus"}}, SMALL, "o.mkv", "matroska", (320, 180),
                 ("h264", "yuv420p", "opus", "5.1"), 1.5),
    "all": ({"video": {"codec": "hevc", "crf": 30, "fps": "12.5", "scale": {"width": 160}, "preset": "ultrafast",
                       "profile": "main10", "pixel_format": "yuv420p10le"},
             "audio": {"codec": "mp3", "bitrate": "96k", "channels": 1, "sample_rate": 44100},
             "container": "mp4", "trim": {"start": 0.2, "end": "00:01"}, "extra_args": ["-metadata", "title=a"]},
            SMALL, "o.mp4", "mp4", (160, 90), ("hevc", "yuv420p10le", "mp3", "mono"), 0.8),
    "sound": ({"video": None, "audio": {"codec": "alac"}}, SMALL, "o.mov", "mov", None, ("alac", "5.1"), 1.5),
    "silent": ({"video": {"codec": "libsvtav1", "bitrate": 200_000, "preset": 12}, "audio": None}, SMALL, "o.mkv",
               "matroska", (320, 180), ("av1", "yuv420p"), 1.5),
    "prores": ({"video": {"codec": "prores", "profile": "lt"}}, SMALL, "o.mov", "mov", (320, 180),
               ("prores", "yuv422p10le", "aac", "5.1"), 1.5),
    "wav": ({"audio": {"channels": 2, "sample_rate": 16000}}, SMALL, "o.wav", "wav", None,
            ("pcm_s16le", "2 channels"), 1.5),
    "flac": ({}, SMALL, "o.flac", "flac", None, ("flac", "5.1"), 1.5),
    "gif": ({"video": {"fps": 5, "scale": "-2:90"}}, SMALL, "o.gif", "gif", (160, 90), ("gif", "bgra"), 1.5),
}  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    (folder / LARGE).write_bytes(footage.CLIP.read_bytes())
    part = ("-i", str(footage.CLIP), "-t")
    footage.run(*part, "1.5", "-vf", "scale=320:180", *_X264, "-c:a", "copy", str(folder / SMALL))
    sideways = "scale=321:181,transpose=1,format=yuv444p"
    footage.run(*part, "1", "-vf", sideways, *_X264, "-an", str(folder / ODD))
    fields = (
        "-vf",
        "tinterlace=interleave_top,setfield=tff,setsar=64/45",
        "-flags",
        "+ildct+ilme",
        "-c:v",
        "mpeg2video",
    )
    footage.run("-f", "lavfi", "-i", "testsrc2=d=0.8:r=50:s=360x288", *fields, str(folder / TV))
    footage.run("-i", str(folder / SMALL), "-frames:v", "1", "-c", "copy", "-an", str(folder / FLASH))
    for name, look in ((DOT, "r=25,scale=1:1"), (RACE, "r=300:s=64x64")):
        footage.run("-f", "lavfi", "-i", f"testsrc2=d=0.4:{look}", "-c:v", "ffv1", str(folder / name))
    footage.run("-i", str(folder / FLASH), "-update", "1", str(folder / PHOTO))
    cover = ("-f", "lavfi", "-i", "color=red:s=64x64", "-map", "0:a", "-map", "1:v", "-disposition:v", "attached_pic")
    footage.run("-i", str(folder / SMALL), *cover, "-frames:v", "1", "-c:v", "mjpeg", "-ac", "2", str(folder / SONG))
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    own = tmp_path_factory.mktemp("presets")
    (own / "tiny.toml").write_text(TINY)
    with running(tmp_path_factory.mktemp("service"), PRESETS_DIR=str(own)) as started:
        yield started


@pytest.fixture(scope="module")
def tasks(service: Service, media: Path) -> Iterator[dict[tuple[str, str], str]]:
    """The ids of all tasks, by what they are."""
    with serving(media) as source:

        def registered(what: dict[str, Any], name: str, output: str) -> str:
            body = {**what, "input_files": {name: f"{source.url}/media/{name}"}, "output_filename": output}
            answer = service.http.post("/ffmpeg/register", json=body, params={"execute": True})
            assert answer.status_code == 201, answer.text
            return str(answer.json()["task_id"])

        ids = {
            ("preset", name): registered({"preset": row[0], "parameters": row[1]}, row[2], row[3])
            for name, row in PRESETS.items()
        }
        ids["preset", "web, of a song"] = registered({"preset": "web-mp4-720p"}, SONG, "o.mp4")
        ids |= {("options", name): registered({"options": row[0]}, *row[1:3]) for name, row in OPTIONS.items()}
        yield ids


def completed(service: Service, task_id: str) -> dict[str, Any]:
    task = service.ended(task_id, seconds=600)
    assert task["status"] == "completed", task["error"]
    return task


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_holds_each_codec_that_the_table_says(media: Path, tmp_path: Path, container: str) -> None:
    row = CONTAINERS[container]
    output = f"o.{row.extensions[0]}"
    videos = [
        form.Video(codec=codec, preset=None if codec in ("prores", "gif") else "ultrafast") for codec in row.video
    ]
    pairs = [(video, None) for video in videos] + [(None, form.Audio(codec=codec)) for codec in row.audio]
    for video, audio in pairs:
        wishes = form.Options(video=video, audio=audio, trim=form.Trim(duration=0.2))
        text = form.command(wishes, source=SMALL, output=output, gpu=False)
        command = check(text, input_names=[SMALL], output_names=[output])
        arguments = build.build(command, inputs={SMALL: str(media / SMALL)}, progress_fd=1, max_output_bytes=10**9)
        subprocess.run([footage.ffmpeg(), *arguments], cwd=tmp_path, check=True, capture_output=True)
        assert footage.played_seconds(str(tmp_path / output)) == pytest.approx(0.2, abs=0.1), (video, audio)


def size(output: dict[str, Any]) -> tuple[int, int] | None:
    return next(((s["width"], s["height"]) for s in output["media"]["streams"] if s["width"]), None)


def facts(output: dict[str, Any]) -> Facts:
    streams = output["media"]["streams"]
    words = (w for s in streams for w in (s["codec"], s["pixel_format"], s["channel_layout"]))
    return tuple(word for word in words if word)


def is_as_told(output: dict[str, Any], container: str, sides: Any, streams: Facts, seconds: float | None) -> None:
    assert (output["media"]["container"], size(output), facts(output)) == (container, sides, streams)
    if seconds is not None:
        assert output["media"]["duration_seconds"] == pytest.approx(seconds, abs=0.15)


@pytest.mark.parametrize("name", [name for name, row in PRESETS.items() if row[4]])
def test_a_preset_gives_what_it_promises(service: Service, tasks: dict[tuple[str, str], str], name: str) -> None:
    (output,) = completed(service, tasks["preset", name])["outputs"]
    is_as_told(output, *PRESETS[name][4:])


@pytest.mark.parametrize("name", OPTIONS)
def test_options_give_what_they_ask_for(service: Service, tasks: dict[tuple[str, str], str], name: str) -> None:
    (output,) = completed(service, tasks["options", name])["outputs"]
    is_as_told(output, *OPTIONS[name][3:])


def test_hls_plays_to_its_end_and_each_segment_begins_anew(
    service: Service, tasks: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    outputs = completed(service, tasks["preset", "hls"])["outputs"]
    assert [output["filename"] for output in outputs] == ["o.m3u8", "o0.ts", "o1.ts"]
    for output in outputs:
        (tmp_path / output["filename"]).write_bytes(service.http.get(output["url"]).content)
    assert footage.played_seconds(str(tmp_path / "o.m3u8")) == pytest.approx(1.5, abs=0.15)
    assert footage.played_seconds(str(tmp_path / "o1.ts")) == pytest.approx(0.5, abs=0.15)


def test_a_song_with_a_cover_is_no_film(service: Service, tasks: dict[tuple[str, str], str]) -> None:
    error = service.ended(tasks["preset", "web, of a song"], seconds=600)["error"]
    assert (error["code"], error["retryable"]) == ("MEDIA_INVALID", False)
    assert error["message"] == "The input song.mp3 has no video, which the preset web-mp4-720p needs."


def test_fields_become_whole_pictures(
    service: Service, tasks: dict[tuple[str, str], str], media: Path, tmp_path: Path
) -> None:
    (output,) = completed(service, tasks["preset", "web 480p, interlaced"])["outputs"]
    (tmp_path / "o.mp4").write_bytes(service.http.get(output["url"]).content)
    assert interlaced(tmp_path / "o.mp4") < interlaced(media / TV) / 2 > 5


def interlaced(path: Path) -> int:
    """How many pictures look as if they were two fields."""
    said = footage.run("-loglevel", "info", "-i", str(path), "-vf", "idet", "-f", "null", "-").stderr
    *_, (top, bottom) = re.findall(r"Multi frame detection: TFF: *(\d+) BFF: *(\d+)", said)
    return int(top) + int(bottom)


def test_the_picture_of_an_animated_webp_moves(
    service: Service, tasks: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    (output,) = completed(service, tasks["preset", "webp"])["outputs"]
    made = service.http.get(output["url"]).content
    assert (made[:4], made[8:12], made.count(b"ANMF")) == (
        b"RIFF",
        b"WEBP",
        7,
    )  # 0.5 s at 12 a second, and what is left
    width, height = (int.from_bytes(made[at : at + 3], "little") + 1 for at in (24, 27))
    assert (width, height) == (320, 180)


def test_every_preset_was_run() -> None:
    """Those that depend on the source are run in test_presets_of_the_source.py."""
    known_at_once = {name for name, made in presets.shelf(None).items() if not made.looks or not LOOKS[made.looks].gaps}
    assert {row[0] for row in PRESETS.values()} == {*known_at_once, "tiny"}


def test_the_service_does_not_start_with_a_preset_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.toml").write_text('summary = "Odd."')
    assert local.main({"PRESETS_DIR": str(tmp_path), "DATA_DIR": str(tmp_path / "data")}) == 1
    assert "The service cannot start: The preset odd.toml of PRESETS_DIR cannot be used: " in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_the_service_does_not_start_with_a_default_preset_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    env = {"PRESETS_DIR": str(tmp_path), "DEFAULT_PRESET": "web-720p", "DATA_DIR": str(tmp_path / "data")}
    assert local.main({**env, "FFMPEG_PATH": "none"}) == 1  # which would be said, if the other were not
    said = capsys.readouterr().err
    assert said.startswith("The service cannot start: DEFAULT_PRESET='web-720p': there is no such preset; set one of ")
    assert {"tiny", "web-mp4-720p"} <= set(said.replace(",", "").replace(".", "").split())
    assert not (tmp_path / "data").exists()
