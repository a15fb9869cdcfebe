"""What is made of a source that is known: its loudness, bit rate and length; and what a preset's file must have."""

import math
from dataclasses import replace
from typing import Any

import pytest

from core import presets
from core.errors import InvalidArgument
from core.ffmpeg import preset, preset_file, progress, recipe, source, sprite
from core.ffmpeg.loudness import Loudness, correction, read
from core.ffmpeg.preset import PresetInvalid
from core.ffmpeg.sprite import Grid
from core.register import Registration, command_text, recipe_for
from core.task import Media, Progress, Recipe, Stream

PACKAGED = presets.shelf(None)
PICTURE = Stream(type="video", codec="h264", width=1280, height=720, frame_rate=25.0)
COVER = Stream(type="video", codec="mjpeg", width=600, height=600)
SOUND = Stream(type="audio", codec="aac", channels=2, sample_rate=44_100, bit_rate=128_000)
FILM = Media(container="mp4", duration_seconds=95.5, bit_rate=4_000_000, streams=(PICTURE, SOUND))
SUMMARY = """
[Parsed_ebur128_1 @ 0x7f01] [info] Summary:

  Integrated loudness:
    I:         -34.1 LUFS
    Threshold: -44.5 LUFS

  Loudness range:
    LRA:         3.0 LU
    Threshold: -53.8 LUFS
    LRA low:   -35.9 LUFS
    LRA high:  -32.9 LUFS

  True peak:
    Peak:      -13.5 dBFS
[out#0/crc @ 0x5559] [info] video:0KiB audio:996KiB
"""
QUIET = Loudness(integrated=-34.1, threshold=-44.5, range=3.0, peak=-13.5)


def made(name: str, media: Media | None, *, gpu: bool = False, measured: Loudness | None = None, **given: Any) -> str:
    found = PACKAGED[name]
    output = f"out.{found.extensions[0]}"
    return preset.made(found, given, source="in", output=output, gpu=gpu, media=media, measured=measured).text


# Loudness


def test_the_last_summary_is_read() -> None:
    assert read(SUMMARY.replace("-34.1", "-1.0").splitlines() + SUMMARY.splitlines()) == QUIET
    assert read(SUMMARY.replace("-13.5", "-inf").splitlines()) == replace(QUIET, peak=-math.inf)


@pytest.mark.parametrize("log", ["", SUMMARY.replace("-34.1", "loud"), SUMMARY.replace("True peak", "Peak")])
def test_what_is_no_summary_is_nothing(log: str) -> None:
    assert read(log.splitlines()) is None


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (None, "loudnorm=I=-20:TP=-1.5:LRA=11"),
        (
            replace(QUIET, peak=-15.7),  # 14.1 up, and as loud as it may be
            "loudnorm=I=-20:TP=-1.5:LRA=11:measured_I=-34.1:measured_TP=-15.7:measured_LRA=3:measured_thresh=-44.5"
            ":linear=true",
        ),
        (
            Loudness(integrated=-14.0, threshold=-24.0, range=18.5, peak=-3.0),
            "loudnorm=I=-20:TP=-1.5:LRA=18.5:measured_I=-14:measured_TP=-3:measured_LRA=18.5:measured_thresh=-24"
            ":linear=true",
        ),
        (QUIET, "volume=14.10dB,aresample=192000,alimiter=limit=-1.5dB:level=disabled:latency=1"),
        (Loudness(integrated=-70.0, threshold=0.0, range=0.0, peak=-math.inf), "anull"),
    ],
)
def test_a_sound_is_corrected_by_one_factor_and_limited_where_its_peaks_leave_no_room(
    measured: Loudness | None, expected: str
) -> None:
    assert correction(-20, -1.5, measured) == expected


def test_the_whole_of_loudness() -> None:
    first = preset.measuring(PACKAGED["loudness"], {"layout": "mono"}, source="in", output="out.mp4")
    assert first == (
        "-i in -map 0:a:0 -vn -sn -dn -af aformat=channel_layouts=mono,ebur128=peak=true:framelog=quiet "
        "-c:a pcm_s16le -f crc out.mp4",
        ("out.mp4",),
    )
    assert made("loudness", FILM, measured=QUIET, layout="mono", target=-12.5) == (
        "-i in -map '0:V:0?' -map 0:a:0 -c:v copy -af aformat=channel_layouts=mono,volume=21.60dB,aresample=192000,"
        "alimiter=limit=-1.5dB:level=disabled:latency=1 -c:a aac -b:a 160k -ar 44100 -sn -dn "
        "-movflags +faststart out.mp4"
    )
    assert preset.measuring(PACKAGED["gif"], {}, source="in", output="out.gif") is None


def test_more_samples_than_an_encoder_takes_are_not_asked_for() -> None:
    for rate, expected in ((96_000, 48_000), (8_000, 8_000), (None, 48_000)):
        media = replace(FILM, streams=(replace(SOUND, sample_rate=rate),))
        assert f" -ar {expected} " in made("loudness", media)


# Bit rate


@pytest.mark.parametrize(
    ("media", "rate"),
    [
        (replace(FILM, streams=(replace(PICTURE, bit_rate=1_205_959), SOUND)), 1_205_959),
        (FILM, 4_000_000 - 128_000),
        (replace(FILM, streams=(PICTURE, replace(SOUND, bit_rate=None))), 4_000_000),
        (replace(FILM, bit_rate=None), None),
        (replace(FILM, bit_rate=128_500), None),  # what is left is no picture's
        (replace(FILM, streams=(SOUND,)), None),
    ],
)
def test_a_picture_has_the_rate_that_is_told_or_what_its_sound_leaves(media: Media, rate: int | None) -> None:
    assert source.bit_rate(media) == rate


@pytest.mark.parametrize(
    ("media", "given", "rate"),
    [
        (FILM, {}, 3_872_000),
        (FILM, {"most": "2M"}, 2_000_000),
        (None, {}, 2_500_000),
        (replace(FILM, bit_rate=None), {"unknown": 700_000}, 700_000),
        (replace(FILM, bit_rate=None), {"unknown": "9M"}, 6_000_000),
    ],
)
def test_a_bit_rate_follows_the_source_up_to_a_limit(media: Media | None, given: dict[str, Any], rate: int) -> None:
    assert made("web-mp4-own-rate", media, **given) == (
        "-i in -vf 'bwdif=mode=send_frame:deint=interlaced,scale=trunc(iw/2)*2:trunc(ih/2)*2' -c:v libx264 "
        f"-b:v {rate} -pix_fmt yuv420p -maxrate {rate} -bufsize {2 * rate} -c:a aac -b:a 128k -ac 2 "
        "-movflags +faststart out.mp4"
    )
    assert f" -c:v h264_nvenc -rc vbr -b:v {rate} " in made("web-mp4-own-rate", media, gpu=True, **given)


# Sprites


@pytest.mark.parametrize(
    ("seconds", "every", "most", "expected"),
    [
        (5.31, 1, 100, Grid(1, 6, 3, 2)),
        (5.0, 1, 100, Grid(1, 5, 3, 2)),
        (0.04, 5, 100, Grid(5, 1, 1, 1)),
        (95.0, 1, 12, Grid(8, 12, 4, 3)),
        (7200.0, 5, 100, Grid(72, 100, 10, 10)),
        (7201.0, 5, 200, Grid(37, 195, 10, 20)),
        (None, 5, 7, Grid(5, 7, 3, 3)),
    ],
)
def test_a_grid_has_room_for_the_whole_film(seconds: float | None, every: int, most: int, expected: Grid) -> None:
    found = sprite.grid(seconds, every=every, most=most)
    assert found == expected
    assert found.columns * found.rows >= found.count
    assert seconds is None or (found.count - 1) * found.every < seconds <= found.count * found.every


def test_a_cue_says_when_and_where() -> None:
    assert sprite.vtt(Grid(1800, 3, 2, 2), seconds=3723.0456, sprite="a b#c.jpg", width=320, height=180) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:30:00.000\na%20b%23c.jpg#xywh=0,0,160,90\n\n"
        "00:30:00.000 --> 01:00:00.000\na%20b%23c.jpg#xywh=160,0,160,90\n\n"
        "01:00:00.000 --> 01:02:03.046\na%20b%23c.jpg#xywh=0,90,160,90\n"
    )


# Recipes


def asked(name: str, output: str, **more: Any) -> Registration:
    return Registration(preset=name, input_files={"in": "https://media.example/in"}, output_files=(output,), **more)


def test_a_preset_that_looks_at_the_source_leaves_a_recipe() -> None:
    wanted = asked("sprite", "s.jpg", parameters={"every": 2}, compute="gpu")
    assert recipe_for(wanted, None) == Recipe(
        preset="sprite", text=PACKAGED["sprite"].text, parameters={"every": 2}, gpu=True
    )
    plain = Registration(command="-i in o.gif", input_files=wanted.input_files, output_files=("o.gif",))
    assert recipe_for(plain, None) is None


def test_a_recipe_of_an_unknown_source_is_what_was_registered() -> None:
    for name, found in PACKAGED.items():
        wanted = asked(name, f"o.{found.extensions[0]}")
        kept = recipe_for(wanted, None)
        assert (kept is not None) == (found.looks is not None)
        if kept:
            assert recipe.command(kept, source="in", output=wanted.output_files[0]).text == command_text(wanted, None)


@pytest.mark.parametrize(
    ("name", "media", "lack"),
    [
        ("hls-ladder", FILM, None),
        ("hls-ladder", replace(FILM, streams=(SOUND,)), "has no video"),
        ("hls-ladder", None, None),
        ("loudness", replace(FILM, streams=(PICTURE,)), "has no sound"),
        ("loudness", None, None),
        ("sprite", FILM, None),
        ("sprite", replace(FILM, duration_seconds=None), "does not tell how long it is"),
        ("sprite", replace(FILM, container="image2", duration_seconds=0.04), "is one picture and no film"),
        ("sprite", None, "has no video"),
        ("web-mp4-own-rate", replace(FILM, streams=(SOUND,)), "has no video"),
        ("web-mp4-720p", replace(FILM, streams=(SOUND, COVER)), "has no video"),
        ("web-mp4-720p", replace(FILM, streams=(COVER, PICTURE)), None),
        ("audio-aac", replace(FILM, streams=(PICTURE,)), "has no sound"),
        ("hls-ladder", replace(FILM, duration_seconds=0.49), "does not last half a second"),
        ("hls-ladder", replace(FILM, duration_seconds=0.5), None),
        ("hls-ladder", replace(FILM, duration_seconds=None), None),
        ("hls-ladder", replace(FILM, container="png_pipe", duration_seconds=None), "does not last half a second"),
    ],
)
def test_what_a_source_lacks_is_said(name: str, media: Media | None, lack: str | None) -> None:
    kept = recipe.of(PACKAGED[name], {}, gpu=False)
    assert kept
    assert recipe.lack(kept, media) == lack


@pytest.mark.parametrize("output", ["m%d.m3u8", "m_%v.m3u8", "m" * 76 + ".m3u8"])
def test_others_can_be_called_after_the_output(output: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        command_text(asked("hls-ladder", output), None)
    assert refused.value.details == {"field": "output_filename"}
    assert command_text(asked("hls-ladder", "m" * 75 + ".m3u8"), None)


def test_a_run_before_counts_for_its_share_and_its_pictures_for_none() -> None:
    half = Progress(percent=40.0, frame=4, fps=5.0, speed=6.0, out_time_seconds=7.0, eta_seconds=8.0)
    assert progress.part(half, 0, 2) == Progress(percent=20.0, speed=6.0)
    assert progress.part(half, 1, 2) == replace(half, percent=70.0)
    assert progress.part(half, 0, 1) == half
    assert progress.part(Progress(frame=1), 1, 2) == Progress(frame=1)


LADDER = PACKAGED["hls-ladder"].text
SPRITE = PACKAGED["sprite"].text
LOUDNESS = PACKAGED["loudness"].text


@pytest.mark.parametrize(
    ("text", "was", "now", "reason"),
    [
        (LADDER, 'looks = "ladder"', 'looks = "stars"', "none of picture, sound, ladder, bitrate, loudness, sprite"),
        (LADDER, 'looks = "ladder"', 'looks = ["ladder"]', "wrong kind"),
        (SPRITE, 'type = "integer"\ndescription = "The most pictures."\ndefault = 100\nleast = 1',
         'type = "integer"\ndescription = "The most pictures."\ndefault = 100\nleast = 0', "most must be 1 at least"),
        (LADDER, 'looks = "ladder"\n', "", "rungs are for"),
        (LADDER, "{rungs}", "", "{rungs}"),
        (LADDER, "{rungs}", "x{rungs}", "may not stand"),
        (LADDER, '360 = "800k"', '360 = "fast"', "no bit rate"),
        (LADDER, '360 = "800k"', 'low = "800k"', "no number from 16 to 4320"),
        (LADDER, '360 = "800k"', '9 = "800k"', "no number from 16 to 4320"),
        (LADDER, '360 = "800k"', '360 = 800', "wrong kind"),
        (LADDER, 'codec = "h264"', 'codec = "av1"', "h264 or hevc"),
        (LADDER, "[parameters.most_lines]", "[parameters.lines]", "most_lines, of type integer"),
        (LADDER, 'most_lines]\ntype = "integer"', 'most_lines]\ntype = "number"', "most_lines, of type integer"),
        (LOUDNESS, "measure = '''", "measure = '' #'''", "measure|TOML"),
        (LOUDNESS, "{loudness}", "anull", "{loudness}"),
        (LOUDNESS, "ebur128=peak=true", "ebur128=peak={loudness}", "measure may have"),
        (LOUDNESS, 'looks = "loudness"', 'looks = "bitrate"', "most, of type bitrate"),
    ],
)  # fmt: skip
def test_a_file_has_all_that_its_look_goes_by(text: str, was: str, now: str, reason: str) -> None:
    assert was in text
    with pytest.raises(PresetInvalid, match=reason):
        preset_file.read("own", text.replace(was, now, 1))


def test_what_is_measured_by_a_forbidden_command_is_no_preset() -> None:
    with pytest.raises(PresetInvalid, match="-report is not allowed"):
        preset_file.prove(preset_file.read("own", LOUDNESS.replace("-f crc", "-report -f crc")))


def test_a_ladder_whose_rungs_may_not_run_is_no_preset() -> None:
    with pytest.raises(PresetInvalid, match="-report is not allowed"):
        preset_file.prove(preset_file.read("own", LADDER.replace("-f hls", "-report -f hls")))
