"""What the flags ask for becomes the body of register."""

import re
from pathlib import Path
from typing import Any

import pytest

from handlers.client.faults import Usage
from handlers.client.request import Source, Wish, order, target_for

URL = "https://media.example.com/talks/opening%20talk.mov?sig=secret"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URL, Source(name="opening talk.mov", where=URL)),
        ("a.mov=" + URL, Source(name="a.mov", where=URL)),
        ("s3://bucket/a/b.mxf", Source(name="b.mxf", where="s3://bucket/a/b.mxf")),
        ("https://media.example.com/", Source(name="input", where="https://media.example.com/")),
        ("talks/a.mov", Source(name="a.mov", where=Path("talks/a.mov"))),
        ("b.mov=talks/a.mov", Source(name="b.mov", where=Path("talks/a.mov"))),
        ("https://media.example.com/?a=b", Source(name="input", where="https://media.example.com/?a=b")),
    ],
)
def test_source_is_a_file_or_a_url_with_a_name(text: str, expected: Source) -> None:
    assert Source.read(text) == expected


def test_source_that_is_a_file_is_one_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.mov").touch()

    assert Source.read("a=b.mov") == Source(name="a=b.mov", where=Path("a=b.mov"))


def body(wish: Wish, *sources: str, outputs: tuple[str, ...] = ("out/o.mp4",)) -> dict[str, Any]:
    made = order(wish, [Source.read(text) for text in sources], [Path(text) for text in outputs])
    return made.registration({one.name: str(one.where) for one in made.sources})


def test_options_have_what_the_flags_say() -> None:
    wish = Wish(
        fields={
            "video.codec": "h264",
            "video.crf": "23",
            "video.scale": "720",
            "trim.start": "00:01",
            "container": "mp4",
        },
        settings={"audio.channels": "2"},
        extra=("-metadata", "title=A talk"),
        further={"compute": "cpu"},
    )

    assert body(wish, "a.mov") == {
        "options": {
            "video": {"codec": "h264", "crf": 23, "scale": "720"},
            "trim": {"start": "00:01"},
            "container": "mp4",
            "audio": {"channels": 2},
            "extra_args": ["-metadata", "title=A talk"],
        },
        "compute": "cpu",
        "output_filename": "o.mp4",
        "input_files": {"a.mov": "a.mov"},
    }


def test_nothing_said_is_options_without_a_wish() -> None:
    assert body(Wish(), "a.mov")["options"] == {}


def test_no_audio_is_null() -> None:
    assert body(Wish(without=("audio",)), "a.mov")["options"] == {"audio": None}


def test_preset_takes_its_parameters() -> None:
    shown = body(
        Wish(preset="gif", settings={"fps": "12", "quality": "high", "at": "1.5"}), "a.mov", outputs=("a.gif",)
    )

    assert (shown["preset"], shown["parameters"]) == ("gif", {"fps": 12, "quality": "high", "at": 1.5})


def test_command_is_passed_on_with_all_names() -> None:
    command = "-i a.mov -i b.srt -vf subtitles=b.srt c.mp4 d.jpg"

    assert body(Wish(command=command), "x/a.mov", "b.srt=y.srt", outputs=("c.mp4", "t/d.jpg")) == {
        "command": command,
        "output_files": ["c.mp4", "d.jpg"],
        "input_files": {"a.mov": "x/a.mov", "b.srt": "y.srt"},
    }


def test_command_may_leave_the_names_open_and_then_they_are_plain() -> None:
    shown = body(Wish(command="-i {input} -vf drawtext=text=%{pts} {output}"), "-it's 100%.mov", outputs=("o'.mp4",))

    assert shown["command"] == "-i 'it_s 100_.mov' -vf drawtext=text=%{pts} o_.mp4"
    assert (list(shown["input_files"]), shown["output_filename"]) == (["it_s 100_.mov"], "o_.mp4")


def test_output_that_is_a_pattern_stays_one_in_a_command() -> None:
    shown = body(Wish(command="-i {input} {output}"), "a%03d.mov", outputs=("t/it's_%03d.jpg",))

    assert shown["command"] == "-i a_03d.mov it_s_%03d.jpg"
    assert body(Wish(preset="gif"), "a.mov", outputs=("a_%d.gif",))["output_filename"] == "a__d.gif"


@pytest.mark.parametrize(
    ("wish", "sources", "outputs", "words"),
    [
        (Wish(), ["a.mov"], [], "--output FILE"),
        (Wish(), ["a.mov", "b.mov"], ["o.mp4"], "take a --command"),
        (Wish(preset="gif"), [], ["o.gif"], "take a --command"),
        (Wish(command="x", preset="gif"), ["a.mov"], ["o.mp4"], "not two of these"),
        (Wish(command="x", fields={"video.crf": "1"}), ["a.mov"], ["o.mp4"], "not two of these"),
        (Wish(command="x", settings={"a": "b"}), ["a.mov"], ["o.mp4"], "says it all itself"),
        (Wish(command="-i {input} o.mp4"), [], ["o.mp4"], "there is no input"),
        (Wish(command="x"), ["a.mov", "b/a.mov"], ["o.mp4"], "Two of the inputs are called 'a.mov'"),
        (Wish(command="x"), ["a.mov"], ["o.mp4", "b/o.mp4"], "Two of the outputs are called 'o.mp4'"),
        (Wish(settings={"crf": "3"}), ["a.mov"], ["o.mp4"], "-o crf: there is no such field"),
        (Wish(without=("video",), fields={"video.crf": "3"}), ["a.mov"], ["o.mp4"], "--no-video leaves nothing"),
    ],
)
def test_what_cannot_be_one_task_is_said(wish: Wish, sources: list[str], outputs: list[str], words: str) -> None:
    with pytest.raises(Usage, match=re.escape(words)):
        body(wish, *sources, outputs=tuple(outputs))


def test_input_of_the_outputs_name_gets_another_where_it_is_ours_to_choose() -> None:
    sources = [Source.read("Talk.mp4"), Source.read("logo.png")]
    made = order(Wish(command="-i {input} -i logo.png {output}"), sources, [Path("web/talk.mp4")])

    assert [one.name for one in made.sources] == ["source-Talk.mp4", "logo.png"]
    assert made.body == {"command": "-i source-Talk.mp4 -i logo.png talk.mp4", "output_filename": "talk.mp4"}
    assert made.targets == {"talk.mp4": Path("web/talk.mp4")}
    # and else it is left as it was typed
    plain = order(Wish(command="-i talk.mp4 talk.mp4"), [Source.read("talk.mp4")], [Path("web/talk.mp4")])
    assert [one.name for one in plain.sources] == ["talk.mp4"]


def test_target_of_one_of_many_follows_its_name() -> None:
    assert target_for("web/{number}-{stem}.mp4", Source.read("talks/a.b.mov"), 7) == Path("web/7-a.b.mp4")
