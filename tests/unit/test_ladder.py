"""Which rungs a source fills, and the whole command of a ladder, on the CPU and on the card."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from core import presets
from core.ffmpeg import build, compute, fallback, preset, preset_file, source
from core.ffmpeg.ladder import Rung, rungs
from core.ffmpeg.validate import check
from core.task import Media, Stream

OFFERED = {360: 800_000, 480: 1_400_000, 720: 2_800_000, 1080: 5_000_000, 2160: 16_000_000}
SCALE = (
    "bwdif=mode=send_frame:deint=interlaced,"
    r"scale=w=2*max(1\,min(trunc(max(iw\,iw*sar)/2)\,round(iw*sar*{0}/min(iw*sar\,ih)/2)))"
    r":h=2*max(1\,min(trunc(ih/2)\,round(ih*{0}/min(iw*sar\,ih)/2)))"
)
PICTURE = Stream(type="video", codec="h264", width=1280, height=720, frame_rate=29.97)
SOUND = Stream(type="audio", codec="aac", channels=6)
FILM = Media(container="mp4", duration_seconds=10.0, streams=(PICTURE, SOUND))
HLS = presets.shelf(None)["hls-ladder"]
DASH = presets.shelf(None)["dash-ladder"]


@pytest.mark.parametrize(
    ("lines", "most", "expected"),
    [
        (2160, 2160, [2160, 1080, 720, 480, 360]),
        (2160, 1080, [1080, 720, 480, 360]),
        (1080, 1080, [1080, 720, 480, 360]),
        (1079, 1080, [720, 480, 360]),
        (800, 1080, [720, 480, 360]),
        (360, 1080, [360]),
        (359, 1080, [359]),
        (54, 1080, [54]),
        (1080, 200, [200]),
    ],
)
def test_a_source_has_the_rungs_that_it_fills(lines: int, most: int, expected: list[int]) -> None:
    found = rungs(OFFERED, lines=lines, most_lines=most)
    assert [rung.lines for rung in found] == expected
    assert [rung.most for rung in found] == [OFFERED.get(height, OFFERED[360]) for height in expected]
    assert found[-1].name == f"{expected[-1]}p"
    assert Rung(1, 2) == Rung(lines=1, most=2)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, 720),
        ({"width": 720, "height": 1280}, 720),
        ({"width": 720, "height": 576, "sample_aspect_ratio": "64:45"}, 576),
        ({"width": 1440, "height": 1920, "sample_aspect_ratio": "1:2"}, 720),
        ({"width": 720, "height": 576, "sample_aspect_ratio": "0:1"}, 576),
        ({"width": None}, None),
    ],
)
def test_lines_are_those_of_the_shorter_side_as_it_is_shown(changes: dict[str, Any], lines: int | None) -> None:
    assert source.lines(replace(PICTURE, **changes)) == lines


def test_a_cover_is_no_picture() -> None:
    cover = Stream(type="video", codec="mjpeg", width=600, height=600)
    assert source.picture(Media(container="mp3", streams=(SOUND, cover))) is None
    fast = replace(PICTURE, frame_rate=300.0)
    assert source.picture(Media(container="mp4", streams=(fast,))) == fast
    assert source.picture(Media(container="avi", streams=(replace(cover, frame_rate=25.0),))) is not None
    assert source.picture(Media(container="mp3", streams=(replace(cover, frame_rate=90000.0), PICTURE))) == PICTURE


def words(made: preset.Preset, media: Media | None, *, gpu: bool = False, **given: Any) -> list[str]:
    output = f"main.{made.extensions[0]}"
    text, written = preset.made(made, given, source="in.mp4", output=output, gpu=gpu, media=media)
    command = check(text, input_names=["in.mp4"], output_names=written)
    assert compute.needs(command) == ("gpu" if gpu else "cpu")
    if gpu:
        assert compute.needs(fallback.to_cpu(command)) == "cpu"
    return shlex.split(text)


def test_the_whole_of_hls() -> None:
    assert words(HLS, FILM) == [
        "-i", "in.mp4", "-map", "0:V:0", "-map", "0:V:0", "-map", "0:V:0", "-map", "0:a:0",
        "-filter:v:0", SCALE.format(720), "-maxrate:v:0", "2800000", "-bufsize:v:0", "5600000",
        "-filter:v:1", SCALE.format(480), "-maxrate:v:1", "1400000", "-bufsize:v:1", "2800000",
        "-filter:v:2", SCALE.format(360), "-maxrate:v:2", "800000", "-bufsize:v:2", "1600000",
        "-force_key_frames", "expr:gte(t,n_forced*6)", "-g", "180", "-sc_threshold", "0", "-forced-idr", "1",
        "-c:v", "libx264", "-crf", "23", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", "-ac", "2",
        "-sn", "-dn", "-f", "hls", "-hls_time", "6", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4",
        "-hls_flags", "independent_segments",
        "-hls_segment_filename", "main_%v_%05d.m4s", "-hls_fmp4_init_filename", "main_%v_init.mp4",
        "-master_pl_name", "main.m3u8", "-var_stream_map",
        "v:0,agroup:sound,name:720p v:1,agroup:sound,name:480p v:2,agroup:sound,name:360p "
        "a:0,agroup:sound,name:sound,default:yes",
        "main_%v.m3u8",
    ]  # fmt: skip


def test_the_whole_of_hls_on_the_card() -> None:
    """As NVENC is told; no machine of the tests has it."""
    silent = Media(container="mp4", streams=(replace(PICTURE, height=500, frame_rate=23.976),))
    assert words(HLS, silent, gpu=True, segments="mpegts", segment_seconds=4, quality="high") == [
        "-i", "in.mp4", "-map", "0:V:0", "-map", "0:V:0",
        "-filter:v:0", SCALE.format(480), "-maxrate:v:0", "1400000", "-bufsize:v:0", "2800000",
        "-filter:v:1", SCALE.format(360), "-maxrate:v:1", "800000", "-bufsize:v:1", "1600000",
        "-force_key_frames", "expr:gte(t,n_forced*4)", "-g", "96", "-no-scenecut", "1", "-forced-idr", "1",
        "-c:v", "h264_nvenc", "-rc", "vbr", "-cq", "19", "-b:v", "0", "-pix_fmt", "yuv420p",
        "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-sn", "-dn",
        "-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod", "-hls_segment_type", "mpegts",
        "-hls_flags", "independent_segments",
        "-hls_segment_filename", "main_%v_%05d.ts",
        "-master_pl_name", "main.m3u8", "-var_stream_map", "v:0,name:480p v:1,name:360p", "main_%v.m3u8",
    ]  # fmt: skip


def test_the_whole_of_dash_on_the_card_in_hevc() -> None:
    hevc = preset_file.read("hevc-dash", DASH.text.replace('codec = "h264"', 'codec = "hevc"'))
    small = Media(container="mp4", streams=(replace(PICTURE, width=300, height=200, frame_rate=None), SOUND))
    preset_file.prove(hevc)
    whole = [
        "-i", "in.mp4", "-map", "0:V:0", "-map", "0:a:0",
        "-filter:v:0", SCALE.format(200), "-maxrate:v:0", "800000", "-bufsize:v:0", "1600000",
        "-force_key_frames", "expr:gte(t,n_forced*6)", "-g", "360", "-no-scenecut", "1", "-forced-idr", "1",
        "-c:v", "hevc_nvenc", "-rc", "vbr", "-cq", "26", "-b:v", "0",
        "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-sn", "-dn", "-f", "dash", "-seg_duration", "6",
        "-adaptation_sets", "id=0,streams=v id=1,streams=a", "main.mpd",
    ]  # fmt: skip
    assert words(hevc, small, gpu=True) == whole
    form = fallback.to_cpu(check(shlex.join(whole), input_names=["in.mp4"], output_names=["main.mpd"])).text
    assert "-g 360 -x265-params scenecut=0:open-gop=0 -forced-idr 1 -c:v libx265 -crf 26 " in form


def test_of_an_unknown_source_there_is_one_rung_that_is_never_scaled_up() -> None:
    assert words(HLS, None)[2:10] == [
        "-map", "0:V:0", "-map", "0:a:0?", "-filter:v:0", SCALE.format(1080), "-maxrate:v:0", "5000000",
    ]  # fmt: skip
    assert words(HLS, None)[-5:] == [
        "-hls_segment_filename", "main_%05d.m4s", "-hls_fmp4_init_filename", "main_init.mp4", "main.m3u8",
    ]  # fmt: skip


def test_a_rung_alone_is_called_by_its_name() -> None:
    """ffmpeg leaves %v in the name of a header where there is one playlist, and writes that into it."""
    silent = Media(container="mp4", streams=(replace(PICTURE, height=200),))
    assert words(HLS, silent)[-9:] == [
        "-hls_segment_filename", "main_%v_%05d.m4s", "-hls_fmp4_init_filename", "main_200p_init.mp4",
        "-master_pl_name", "main.m3u8", "-var_stream_map", "v:0,name:200p", "main_%v.m3u8",
    ]  # fmt: skip


def test_arguments_of_a_ladder_stay_in_the_folder_of_the_task() -> None:
    made = preset.made(HLS, {}, source="in.mp4", output="main.m3u8", gpu=False, media=FILM)
    command = check(made.text, input_names=["in.mp4"], output_names=made.written)
    arguments = build.build(command, inputs={"in.mp4": "../in/i0.mp4"}, progress_fd=3, max_output_bytes=100)
    assert arguments[-3:] == ("-fs", "100", "file:./main_%v.m3u8")
    assert made.written == ("main.m3u8", "main_%v.m3u8")
