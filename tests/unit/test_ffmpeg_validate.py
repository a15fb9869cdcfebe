"""A command may run when its names are the declared ones and it leaves alone what the worker controls."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import CommandNotAllowed
from core.ffmpeg import names, options
from core.ffmpeg.command import Command, Input, Option, Output
from core.ffmpeg.option_rules import DROPPED, REFUSED
from core.ffmpeg.validate import check


def refusal(text: str, inputs: Sequence[str] = ("in.mp4",), outputs: Sequence[str] = ("out.mp4",)) -> CommandNotAllowed:
    with pytest.raises(CommandNotAllowed) as raised:
        check(text, input_names=inputs, output_names=outputs)
    return raised.value


def reasons(text: str, inputs: Sequence[str] = ("in.mp4",), outputs: Sequence[str] = ("out.mp4",)) -> list[str]:
    return [violation["reason"] for violation in refusal(text, inputs, outputs).details["violations"]]


def test_check_gives_the_command_without_what_the_worker_sets_itself() -> None:
    text = "ffmpeg -hide_banner -nostdin -stats -n -y -stats_period 2 -i in.mp4 -c:v libx264 out.mp4 -nostats"
    assert check(text, input_names=["in.mp4"], output_names=["out.mp4"]) == Command(
        inputs=(Input(name="in.mp4"),),
        outputs=(Output(name="out.mp4", options=(Option(name="c", specifier="v", value="libx264"),)),),
    )


@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        ("-f lavfi -i testsrc2=d=1 out.mp4", [], ["out.mp4"]),
        ("-i in.mp4 a.mp4 -vn b.m4a", ["in.mp4"], ["b.m4a", "a.mp4"]),
        ("-i in.mp4 thumb_%03d.jpg", ["in.mp4"], ["thumb_%03d.jpg"]),
        ("-i in.mp4 -f mp4 out", ["in.mp4"], ["out"]),
        ('-i "my clip (1).mp4" "result – final.mp4"', ["my clip (1).mp4"], ["result – final.mp4"]),
        ("-i 'кино.mkv' '映画;$(x)&[1]{2}^~#!=@+,.mp4'", ["кино.mkv"], ["映画;$(x)&[1]{2}^~#!=@+,.mp4"]),
        (
            "-i in.mp4 -f hls -master_pl_name main.m3u8 -hls_segment_filename s_%v_%03d.ts p_%v.m3u8",
            ["in.mp4"],
            ["main.m3u8", "p_%v.m3u8", "s_%v_%03d.ts"],
        ),
        ("-init_hw_device cuda=gpu:0 -hwaccel cuda -i in.mp4 out.mp4", ["in.mp4"], ["out.mp4"]),
    ],
)
def test_check_allows(text: str, inputs: list[str], outputs: list[str]) -> None:
    command = check(text, input_names=inputs, output_names=outputs)
    assert check(command.text, input_names=inputs, output_names=outputs) == command


def test_check_reports_every_violation_with_word_and_position() -> None:
    error = refusal("ffmpeg -v debug -i /etc/passwd -crf 20 /tmp/out.mp4 -report")
    assert error.message == "-v is not allowed: the service sets the log level itself. (and 5 more)"
    assert error.details == {
        "violations": [
            {"position": 1, "token": "-v", "reason": "-v is not allowed: the service sets the log level itself."},
            {
                "position": 8,
                "token": "-report",
                "reason": "-report is not allowed: it writes a file that is not a declared output.",
            },
            {"position": 4, "token": "/etc/passwd", "reason": "The input /etc/passwd is not in input_files."},
            {
                "position": None,
                "token": "in.mp4",
                "reason": "The input file in.mp4 is not used by the command: it has no -i for it.",
            },
            {
                "position": 7,
                "token": "/tmp/out.mp4",
                "reason": "The output /tmp/out.mp4 has a slash: it is a plain name, not a path.",
            },
            {
                "position": None,
                "token": "out.mp4",
                "reason": "The output file out.mp4 is not written by the command.",
            },
        ]
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-i in.mp4 other.mp4 out.mp4", "The output other.mp4 is not declared; declared: out.mp4."),
        ("-i in.mp4 - out.mp4", "The output - begins with a dash, a dot or a space, or ends in a dot or a space."),
        ("-i in.mp4 pipe:1 out.mp4", "The output pipe:1 has a colon: it is a plain name, not a URL or a protocol."),
        ("-i in.mp4 out.mp4 -i https://host/x", "The input https://host/x is not in input_files."),
        (
            "-i in.mp4 -f hls -hls_segment_filename ../s%d.ts out.mp4",
            "The value of -hls_segment_filename, ../s%d.ts, begins with a dash, a dot or a space, "
            "or ends in a dot or a space.",
        ),
        (
            "-i in.mp4 -pass 1 -passlogfile /tmp/x out.mp4",
            "The value of -passlogfile, /tmp/x, has a slash: it is a plain name, not a path.",
        ),
        (
            "-vaapi_device /etc/passwd -i in.mp4 out.mp4",
            "-vaapi_device is not allowed: it opens a device by a path; -hwaccel cuda needs none.",
        ),
        (
            "-init_hw_device drm:/etc/passwd -i in.mp4 out.mp4",
            "The value of -init_hw_device, drm:/etc/passwd, may be cuda only.",
        ),
    ],
)
def test_check_refuses(text: str, reason: str) -> None:
    assert reasons(text) == [reason]


@pytest.mark.parametrize(
    ("text", "inputs", "outputs", "found"),
    [
        (
            "-i a.mp4 a.mp4",
            ["a.mp4"],
            ["a.mp4"],
            ["The name a.mp4 is used for more than one file; case does not count."] * 2,
        ),
        (
            "-i a.mp4 A.MP4",
            ["a.mp4"],
            ["A.MP4"],
            [f"The name {name} is used for more than one file; case does not count." for name in ("a.mp4", "A.MP4")],
        ),
        ("-i a.mp4 b.mp4 b.mp4", ["a.mp4"], ["b.mp4"], ["The output b.mp4 is written more than once."] * 2),
        ("-i a.mp4 b", ["a.mp4"], ["b"], ["The output b has no extension to tell its format: add one, or -f."]),
        (
            "-i ../a b.mp4",
            ["../a"],
            ["b.mp4"],
            ["The input name ../a begins with a dash, a dot or a space, or ends in a dot or a space."],
        ),
    ],
)
def test_check_refuses_names(text: str, inputs: list[str], outputs: list[str], found: list[str]) -> None:
    assert reasons(text, inputs, outputs) == found


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_check_refuses_by_name_what_the_worker_controls(name: str) -> None:
    kind = options.find(name)
    assert kind is not None, "no such option in this ffmpeg"
    word = f"-{name} x" if kind.takes_value else f"-{name}"
    text = f"-i in.mp4 {word} out.mp4" if kind.on_output else f"{word} -i in.mp4 out.mp4"
    assert reasons(text) == [f"-{name} is not allowed: {REFUSED[name]}"]


def test_check_lists_no_more_than_100_violations() -> None:
    error = refusal("-abcdefgh " * 1500 + "-i in.mp4 out.mp4")
    assert (len(error.details["violations"]), error.message) == (
        100,
        "-abcdefgh is no option of ffmpeg 9.0.2. (and 1499 more)",
    )


def test_dropped_options_are_global_ones() -> None:
    assert [name for name in sorted(DROPPED) if not getattr(options.find(name), "everywhere", False)] == []


@pytest.mark.parametrize(
    ("name", "role", "fault"),
    [
        ("a.mp4", "input", None),
        ("", "input", "is empty."),
        ("x" * 121, "output", "is longer than 120 characters."),
        ("日" * 80, "output", None),
        ("日" * 80 + "x", "output", "is longer than 240 bytes in UTF-8."),
        ("日" * 120, "input", None),
        (".htaccess", "output", "begins with a dash, a dot or a space, or ends in a dot or a space."),
        ("-y", "input", "begins with a dash, a dot or a space, or ends in a dot or a space."),
        ("a.mp4 ", "input", "begins with a dash, a dot or a space, or ends in a dot or a space."),
        ("e\u0301.mp4", "input", "is not in Unicode's composed form (NFC)."),
        ("a/b.mp4", "output", "has a slash: it is a plain name, not a path."),
        ("a\\b.mp4", "output", "has a slash: it is a plain name, not a path."),
        ("http:a.mp4", "output", "has a colon: it is a plain name, not a URL or a protocol."),
        ("a|b.mp4", "output", "has the character '|', which is not allowed in a name."),
        ("a\u202egpj.mp4", "output", "has the invisible character U+202E."),
        ("a\nb.mp4", "output", "has the invisible character U+000A."),
        ("a%03d.jpg", "output", None),
        (
            "a%03d.jpg",
            "input",
            "has a percent sign; only an output may have one, as the counter %d or %03d, or the variant %v.",
        ),
        (
            "%s.jpg",
            "output",
            "has a percent sign; only an output may have one, as the counter %d or %03d, or the variant %v.",
        ),
    ],
)
def test_name_fault(name: str, role: names.Role, fault: str | None) -> None:
    assert names.fault(name, role) == fault


WORDS = st.sampled_from(["-i", "in.mp4", "-c", "-f", "lavfi", "-pass", "-passlogfile", "-hls_segment_filename", "x"])


@given(st.lists(WORDS | st.text(max_size=8), max_size=12).map(" ".join), st.text(max_size=8), st.text(max_size=8))
def test_check_raises_nothing_but_its_refusal(text: str, source: str, output: str) -> None:
    refused: CommandNotAllowed | None = None
    try:
        check(text, input_names=[source], output_names=[output])
    except CommandNotAllowed as error:
        refused = error
    if refused:
        listed: list[dict[str, Any]] = refused.details["violations"]
        assert listed
        assert all(len(violation["token"].encode()) <= 200 for violation in listed)
        assert not re.search(r"[\x00-\x1f\ud800-\udfff]", refused.message)
