"""Presets: what a file may say, what may fill a gap, and that the ones of the package hold."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from core import presets
from core.errors import InvalidArgument
from core.ffmpeg import compute, fallback, preset, preset_file
from core.ffmpeg.form import Video
from core.ffmpeg.preset import Parameter, Preset, PresetInvalid
from core.ffmpeg.validate import check

PACKAGED = presets.shelf(None)

PREVIEW = """
summary = "A preview."
extensions = ["mp4"]
command = "-t {seconds} -i {input} -vf scale={width}:-2,eq=gamma={gamma} {video} -tune {tune} -b:a {rate} {output}"
quality = "small"

[video]
codec = "h264"
preset = "fast"

[parameters.seconds]
type = "integer"
description = "How long."
default = 10
least = 1
most = 60

[parameters.width]
type = "integer"
description = "How wide."
default = 320
least = 16
most = 640

[parameters.gamma]
type = "number"
description = "How bright."
default = 1
least = 0.5
most = 2

[parameters.tune]
type = "word"
description = "For what."
default = "film"
allowed = ["film", "animation"]

[parameters.rate]
type = "bitrate"
description = "Of the sound."
default = "64k"
least = 32000
most = 128000
"""


def written(made: Preset, *, gpu: bool = False, output: str = "out.mp4", **given: Any) -> str:
    return preset.command(made, given, source="in.mov", output=output, gpu=gpu)


def test_a_file_becomes_a_preset() -> None:
    made = preset_file.read("preview", PREVIEW)
    assert (made.name, made.summary, made.extensions) == ("preview", "A preview.", ("mp4",))
    assert made.video == Video(codec="h264", preset="fast")
    assert [(one.name, one.type, one.default, one.least, one.most, one.allowed) for one in made.parameters] == [
        ("quality", "word", "small", None, None, ("high", "balanced", "small")),
        ("seconds", "integer", 10, 1, 60, ()),
        ("width", "integer", 320, 16, 640, ()),
        ("gamma", "number", 1, 0.5, 2, ()),
        ("tune", "word", "film", None, None, ("film", "animation")),
        ("rate", "bitrate", "64k", 32000, 128000, ()),
    ]
    preset_file.prove(made)


def test_its_gaps_are_filled_with_defaults() -> None:
    assert written(preset_file.read("preview", PREVIEW)) == (
        "-t 10 -i in.mov -vf scale=320:-2,eq=gamma=1 -c:v libx264 -preset fast -crf 28 -pix_fmt yuv420p "
        "-tune film -b:a 64k out.mp4"
    )


def test_its_gaps_are_filled_with_what_is_given() -> None:
    given: dict[str, Any] = {
        "quality": "high",
        "seconds": 3,
        "width": 640,
        "gamma": 1.25,
        "tune": "animation",
        "rate": 96000,
    }
    assert written(preset_file.read("preview", PREVIEW), gpu=True, **given) == (
        "-t 3 -i in.mov -vf scale=640:-2,eq=gamma=1.25 -c:v h264_nvenc -preset p3 -rc vbr -cq 19 -b:v 0 "
        "-pix_fmt yuv420p -tune animation -b:a 96000 out.mp4"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", 0), ("seconds", 61), ("seconds", 1.5), ("seconds", "5"), ("seconds", True), ("seconds", 10**400),
        ("width", "320:-2,movie=/etc/passwd"), ("width", None), ("gamma", math.nan), ("gamma", math.inf),
        ("gamma", "1"), ("gamma", 0.4), ("tune", "film -y"), ("tune", "grain"), ("tune", 1), ("tune", ""),
        ("rate", "64k -i x"), ("rate", "-64k"), ("rate", "1k"), ("rate", "9M"), ("rate", "64kk"), ("rate", 6.4e4),
        ("rate", "６４k"), ("rate", "64k\n"), ("rate", True), ("quality", "best"), ("quality", 23),
        ("video", "libx264"), ("input", "x"), ("Seconds", 5), ("\ud800", 5), ("x" * 9999, 5),
    ],
)  # fmt: skip
def test_nothing_else_fills_a_gap(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        written(preset_file.read("preview", PREVIEW), **{name: value})
    assert refused.value.details["field"].startswith("parameters.")
    assert len(json.dumps(refused.value.message)) < 700


def test_a_refusal_says_what_would_do() -> None:
    made = preset_file.read("preview", PREVIEW)
    cases: tuple[tuple[dict[str, Any], str, Any], ...] = (
        ({"rate": "9M"}, "parameters.rate must be a bit rate such as 128k, from 32k to 128k, not 9M.", None),
        ({"seconds": 0}, "parameters.seconds must be a whole number from 1 to 60, not 0.", None),
        ({"gamma": 9}, "parameters.gamma must be a number from 0.5 to 2, not 9.", None),
        ({"tune": "x"}, "parameters.tune must be one of film, animation, not x.", ["film", "animation"]),
    )
    for given, message, allowed in cases:
        with pytest.raises(InvalidArgument) as refused:
            written(made, **given)
        assert (refused.value.message, refused.value.details.get("allowed")) == (message, allowed)


def test_the_output_has_the_extension_of_the_preset() -> None:
    assert written(PACKAGED["audio-mp3"], output="OUT.MP3").endswith(" OUT.MP3")
    with pytest.raises(InvalidArgument) as refused:
        written(PACKAGED["web-mp4-720p"], output="out.mkv")
    assert refused.value.details == {"field": "output_filename"}
    assert refused.value.message == "The output of web-mp4-720p ends in .mp4 or .m4v, unlike out.mkv."


@pytest.mark.parametrize("name", ["hls-720p", "hls-ladder"])
def test_a_playlist_has_a_name_that_can_stand_in_one(name: str) -> None:
    with pytest.raises(InvalidArgument, match="needs a name without #"):
        written(PACKAGED[name], output="talk #1.m3u8")
    assert written(PACKAGED["dash-ladder"], output="talk #1.mpd")


@pytest.mark.parametrize("name", ["web-mp4-720p", "thumbnail", "hls-ladder"])
def test_a_preset_makes_no_numbered_files(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is one file: give it a name without %"):
        written(PACKAGED[name], output=f"o%d.{PACKAGED[name].extensions[0]}")


@pytest.mark.parametrize(
    ("was", "now", "reason"),
    [
        ('summary = "A preview."', "", "summary"),
        ('summary = "A preview."', "summary =", "TOML"),
        ('summary = "A preview."', "sumary = 1", "unknown field sumary"),
        ('extensions = ["mp4"]', "extensions = []", "extensions"),
        ('extensions = ["mp4"]', "extensions = [4]", "extensions"),
        ("{output}", "out.mp4", "{output}"),
        ("-i {input}", "-i in", "{input}"),
        ("{video}", "", "{video}"),
        ("{seconds}", "10", "{seconds}"),
        ("{seconds}", "{second}", "no such parameter"),
        ("-t {seconds}", "-{seconds} 5", "may not stand"),
        ("-tune {tune}", "-tune:{tune} x", "may not stand"),
        ("{output}", "x{output}", "may not stand"),
        ("-t {seconds}", "-t '{seconds}", "cannot be split"),
        ('codec = "h264"', 'codec = "h265x"', "h265x"),
        ('codec = "h264"', "", "none of"),
        ('codec = "h264"', 'kodec = "h264"', "kodec"),
        ('quality = "small"', 'quality = "tiny"', "quality must be one of"),
        ('type = "integer"', 'type = "path"', "type"),
        ("default = 320", "default = 641", "its own bounds"),
        ("most = 640", "", "its own bounds"),
        ('allowed = ["film", "animation"]', "", "allowed words"),
        ('allowed = ["film", "animation"]', 'allowed = ["film", "-y"]', "allowed words"),
        ('allowed = ["film", "animation"]', 'allowed = ["film", "a b"]', "allowed words"),
        ("[parameters.tune]", "[parameters.input]", "may be called"),
        ("[parameters.tune]\n", "[parameters.tune]\nunit = 1\n", "unknown field unit"),
    ],
)
def test_a_wrong_file_says_why(was: str, now: str, reason: str) -> None:
    assert was in PREVIEW
    with pytest.raises(PresetInvalid, match=reason.replace("{", r"\{")):
        preset_file.read("preview", PREVIEW.replace(was, now, 1))


@pytest.mark.parametrize("name", ["", "Preview", "a_b", "-a", "a" * 64, "ä"])
def test_a_preset_has_a_plain_name(name: str) -> None:
    with pytest.raises(PresetInvalid, match="name"):
        preset_file.read(name, PREVIEW)


@pytest.mark.parametrize(
    ("was", "now", "reason"),
    [
        ("-b:a", "-report -b:a", "-report is not allowed"),
        ("eq=gamma", "movie=/etc/passwd,eq=gamma", "movie"),
        ("most = 640", "most = 100000", "larger than"),
        ('preset = "fast"', 'preset = "p4"', "Unsupported preset of libx264"),
        ('extensions = ["mp4"]', 'extensions = ["sh"]', "extension"),
    ],
)
def test_a_command_that_may_not_run_is_no_preset(was: str, now: str, reason: str) -> None:
    with pytest.raises(PresetInvalid, match=reason):
        preset_file.prove(preset_file.read("preview", PREVIEW.replace(was, now, 1)))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('preset = "fast"', "pixel_format = 5"),
        ('preset = "fast"', 'profile = ["main"]'),
        ('preset = "fast"', 'crf = "best"'),
        ('preset = "fast"', 'bitrate = ["5M"]'),
        ("most = 128000", "most = inf"),
    ],
)
def test_a_field_of_the_wrong_kind_is_no_preset(was: str, now: str) -> None:
    with pytest.raises(PresetInvalid):
        preset_file.prove(preset_file.read("preview", PREVIEW.replace(was, now, 1)))


@pytest.mark.parametrize("name", PACKAGED)
def test_what_the_package_has_may_run_with_every_bound(name: str) -> None:
    preset_file.prove(PACKAGED[name])


@pytest.mark.parametrize("name", PACKAGED)
def test_what_uses_the_card_has_a_form_for_the_cpu(name: str) -> None:
    made = PACKAGED[name]
    output = f"out.{made.extensions[0]}"
    command = check(written(made, gpu=True, output=output), input_names=["in.mov"], output_names=[output])
    assert (compute.needs(command) == "gpu") == preset.uses_card(made)
    assert compute.needs(fallback.to_cpu(command)) == "cpu"


def test_the_package_has_the_presets_that_are_promised() -> None:
    assert list(PACKAGED) == [
        "animated-webp", "audio-aac", "audio-mp3", "audio-opus", "av1-archive", "contact-sheet", "dash-ladder",
        "editing-proxy", "gif", "hevc-archive", "hls-720p", "hls-ladder", "loudness", "sprite", "thumbnail",
        "web-mp4-1080p", "web-mp4-480p", "web-mp4-720p", "web-mp4-own-rate",
    ]  # fmt: skip
    assert {name for name, made in PACKAGED.items() if preset.uses_card(made)} == {
        "av1-archive", "dash-ladder", "hevc-archive", "hls-720p", "hls-ladder", "web-mp4-1080p", "web-mp4-480p",
        "web-mp4-720p", "web-mp4-own-rate",
    }  # fmt: skip


def test_a_folder_adds_presets_and_replaces_those_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "preview.toml").write_text(PREVIEW)
    (tmp_path / "gif.toml").write_text(PREVIEW)
    (tmp_path / "README.md").write_text("No preset.")
    there = presets.shelf(tmp_path)
    assert set(there) == {*PACKAGED, "preview"}
    assert there["gif"].summary == "A preview."


def test_a_wrong_file_of_the_folder_names_itself(tmp_path: Path) -> None:
    (tmp_path / "preview.toml").write_text(PREVIEW.replace("-b:a", "-report -b:a"))
    with pytest.raises(PresetInvalid, match=r"The preset preview\.toml of PRESETS_DIR cannot be used: .*-report"):
        presets.shelf(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x = ", b""])
def test_a_file_that_is_no_preset_names_itself(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.toml").write_bytes(content)
    with pytest.raises(PresetInvalid, match=r"odd\.toml"):
        presets.shelf(tmp_path)


def test_a_folder_that_is_not_there_is_no_silent_default(tmp_path: Path) -> None:
    with pytest.raises(PresetInvalid, match="is no folder"):
        presets.shelf(tmp_path / "nowhere")


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument) as refused:
        presets.find("web-mp4-4k", None)
    assert refused.value.details == {"field": "preset", "allowed": list(PACKAGED)}
    assert refused.value.message.startswith("There is no preset web-mp4-4k; ")


def test_a_parameter_is_data() -> None:
    assert PACKAGED["audio-aac"].parameters[1] == Parameter(
        name="channels", type="integer", description="1 is mono, 2 stereo; more are mixed down.",
        default=2, least=1, most=2,
    )  # fmt: skip
