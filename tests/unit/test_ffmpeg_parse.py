"""Text becomes a command by ffmpeg's own grammar, and everything wrong with its form is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ffmpeg.command import Command, Input, Option, Output, Violation
from core.ffmpeg.parse import Parsed, parse


def opt(name: str, value: str | None = None, *, spec: str | None = None, negated: bool = False) -> Option:
    return Option(name=name, specifier=spec, value=value, negated=negated)


SIMPLE = Command(inputs=(Input(name="a.mp4"),), outputs=(Output(name="b.mp4", options=(opt("c", "copy"),)),))


@pytest.mark.parametrize(
    "text",
    [
        "-i a.mp4 -c copy b.mp4",
        "ffmpeg -i a.mp4 -c copy b.mp4",
        "  ffmpeg\t-i 'a.mp4'\n -c\r\n \"copy\" b.mp4 ",
        "ffmpeg -i a.mp4 \\\n  -c copy \\\r\n  b.mp4",
    ],
)
def test_parse_reads_the_same_command_however_it_is_spelled(text: str) -> None:
    assert parse(text) == Parsed(command=SIMPLE)


def test_parse_gives_each_option_to_the_file_that_it_stands_before() -> None:
    text = (
        "-y -ss 1 -i a.mp4 -noautorotate -f lavfi -i color=c=black -filter_complex '[0:v][1:v]overlay[v]' "
        "-map '[v]' -c:v:0 libx264 -metadata:s:a:0 language=eng -vn one.mp4 -t -5 two.mp4 -stats"
    )
    assert parse(text) == Parsed(
        command=Command(
            global_options=(opt("y"), opt("filter_complex", "[0:v][1:v]overlay[v]"), opt("stats")),
            inputs=(
                Input(name="a.mp4", options=(opt("ss", "1"),)),
                Input(name="color=c=black", options=(opt("autorotate", negated=True), opt("f", "lavfi"))),
            ),
            outputs=(
                Output(
                    name="one.mp4",
                    options=(
                        opt("map", "[v]"),
                        opt("c", "libx264", spec="v:0"),
                        opt("metadata", "language=eng", spec="s:a:0"),
                        opt("vn"),
                    ),
                ),
                Output(name="two.mp4", options=(opt("t", "-5"),)),
            ),
        )
    )


def test_parse_counts_positions_in_the_words_of_the_text() -> None:
    command = parse("ffmpeg -ss 1 -i a.mp4 -c copy b.mp4").command
    found = (
        command.inputs[0].options[0].position,
        command.inputs[0].position,
        command.outputs[0].options[0].position,
        command.outputs[0].position,
    )
    assert found == (1, 4, 5, 7)


def test_parse_keeps_a_quoted_line_end_and_a_single_quoted_backslash() -> None:
    parsed = parse("-i a.mp4 -vf \"null,\\\nnull\n,null\" -metadata title='x\\\ny' b.mp4")
    assert parsed == Parsed(
        command=Command(
            inputs=(Input(name="a.mp4"),),
            outputs=(Output(name="b.mp4", options=(opt("vf", "null,null\n,null"), opt("metadata", "title=x\\\ny"))),),
        )
    )


def test_text_is_canonical() -> None:
    text = "ffmpeg -i 'a.mp4'  one.mp4 -t 3 -i \"b c.mp4\" -c:v  copy two.mp4 -y"
    assert parse(text).command.text == "-y -i a.mp4 -t 3 -i 'b c.mp4' one.mp4 -c:v copy two.mp4"


NO_INPUT = Violation(position=None, token="", reason="The command has no input: write -i and a name of input_files.")
NO_OUTPUT = Violation(
    position=None, token="", reason="The command has no output: it must end in the name of an output file."
)


def at(position: int | None, token: str, reason: str) -> Violation:
    return Violation(position=position, token=token, reason=reason)


@pytest.mark.parametrize(
    ("text", "violations"),
    [
        ("", [NO_INPUT, NO_OUTPUT]),
        ("ffmpeg", [NO_INPUT, NO_OUTPUT]),
        ("-i a.mp4", [NO_OUTPUT]),
        ("b.mp4", [NO_INPUT]),
        ("-i", [at(0, "-i", "-i is not followed by the name of an input file."), NO_INPUT, NO_OUTPUT]),
        ("-i -c copy b.mp4", [at(0, "-i", "-i is not followed by the name of an input file."), NO_INPUT]),
        ("-i a.mp4 'b.mp4", [at(None, "", "A quotation mark is opened and not closed.")]),
        ("-i a.mp4 b.mp4 \\", [at(None, "", "The command ends in a backslash with nothing after it.")]),
        ("-i a\x00.mp4 b.mp4", [at(None, "", "The command has the control character U+0000 at offset 4.")]),
        ("-i a\ud800.mp4 b.mp4", [at(None, "", "The command has the control character U+D800 at offset 4.")]),
        ("-i a.mp4 b.mp4 " + "x" * 16384, [at(None, "", "The command is longer than 16384 bytes.")]),
        (
            "-i a.mp4 b.mp4 -c copy",
            [at(3, "-c", "-c is not followed by the file it belongs to.")],
        ),
        ("-i a.mp4 b.mp4 -c", [at(3, "-c", "-c needs a value.")]),
        (
            "-i a.mp4 --c copy b.mp4 -- c.mp4",
            [
                at(2, "--c", "--c is not allowed: an option is one dash and its name."),
                at(5, "--", "-- is not allowed: an option is one dash and its name."),
            ],
        ),
        (
            "-i a.mp4 -/vf x b.mp4",
            [at(2, "-/vf", "-/vf is not allowed: an option is one dash and its name.")],
        ),
        (
            "-i a.mp4 -presett slow -vb 1M -nocrf b.mp4",
            [
                at(2, "-presett", "-presett is no option of ffmpeg 9.0.2. Did you mean -preset?"),
                at(4, "-vb", "-vb is no option of ffmpeg 9.0.2. Did you mean -b:v?"),
                at(6, "-nocrf", "-nocrf is no option of ffmpeg 9.0.2. Did you mean -crf?"),
            ],
        ),
        (
            "-crf 20 -vf null -i a.mp4 -stream_loop 2 b.mp4",
            [
                at(0, "-crf", "-crf is for an output, but stands before the input a.mp4."),
                at(2, "-vf", "-vf is for an output, but stands before the input a.mp4."),
                at(6, "-stream_loop", "-stream_loop is for an input, but stands before the output b.mp4."),
            ],
        ),
        ("-i a.mp4 -vf:0 null b.mp4", [at(2, "-vf:0", "-vf:0: this option takes no stream specifier.")]),
        ("-version -i a.mp4 b.mp4", [at(0, "-version", "-version shows information and transcodes nothing.")]),
    ],
)
def test_parse_reports_all_that_is_wrong(text: str, violations: list[Violation]) -> None:
    assert list(parse(text).violations) == violations


def test_violation_repeats_at_most_200_bytes_of_the_users_text() -> None:
    (found,) = parse(f"-i a.mp4 -{'ü' * 500} b.mp4").violations
    assert found.token == "-" + "ü" * 99
    assert found.reason == f"-{'ü' * 99} is no option of ffmpeg 9.0.2."


# Words of real commands, pieces that have a meaning to the shell or to ffmpeg, and anything else.
WORDS = st.one_of(
    st.sampled_from(
        ["ffmpeg", "-i", "-c", "-c:v", "-vf", "-nostats", "-noautorotate", "-f", "lavfi", "-map", "[v]", "-y"]
    ),
    st.sampled_from(["-ss", "1", "-b:v:0", "-filter_complex", "-stream_loop", "-frames:v", "-shortest", "-h", "copy"]),
    st.sampled_from(
        ["a.mp4", "out.mp4", "-", "--", "--x", "-/vf", "''", '"a b"', "'x\\\ny'", "\\", '"x\\\ny"', "\\\n"]
    ),
    st.text(max_size=8),
)
SOUP = st.lists(WORDS, max_size=20).map(" ".join)


@given(SOUP)
def test_canonical_text_parses_to_the_same_command(text: str) -> None:
    parsed = parse(text)
    if not parsed.violations:
        assert parse(parsed.command.text) == Parsed(command=parsed.command)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc"))), min_size=1, max_size=5))
def test_canonical_text_keeps_every_value_as_it_was(values: list[str]) -> None:
    command = Command(
        inputs=(Input(name="a.mp4"),),
        outputs=(Output(name="b.mp4", options=tuple(opt("metadata", value) for value in values)),),
    )
    assert parse(command.text) == Parsed(command=command)
