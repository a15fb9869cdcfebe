"""Every case of tests/cases/commands.json with its verdict; and what mutations of the allowed ones can reach."""

import re
import shlex
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import CommandNotAllowed
from core.ffmpeg import build
from core.ffmpeg.command import Command
from core.ffmpeg.validate import check
from support.cases import FLIPPED, Case, cases

CASES = cases()
ALLOWED = [case for case in CASES if case.allowed]


def judged(case: Case, text: str | None = None) -> Command | None:
    try:
        return check(text or case.command, input_names=case.inputs, output_names=[case.output])
    except CommandNotAllowed as refusal:
        listed = refusal.details["violations"]
    assert listed
    assert all(violation["reason"] and len(violation["token"].encode()) <= 200 for violation in listed)
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_case_has_its_verdict(case: Case) -> None:
    if not case.may_start:
        assert (judged(case) is not None) == case.allowed


@pytest.mark.parametrize("case", ALLOWED, ids=lambda case: case.id)
def test_an_allowed_command_is_the_same_when_it_is_judged_again(case: Case) -> None:
    command = judged(case)
    assert command is not None
    assert judged(case, command.text) == command


def test_the_flipped_cases_are_in_the_list() -> None:
    assert set(FLIPPED) <= {case.id for case in CASES}


# What may stand in the argument list, said without the code that made it.
OUR_FILE = re.compile(r"file:\.\./in/i\d+(\.[a-z0-9]{1,8})?|file:\./[^/\\:]+|\.\./tmp/[^/\\:]+")
FREE = ("-metadata",)
NAMES = r"(?:^|[=:'|\[,;])\\*(?:https?|ftp|tcp|udp|rtmp|rtp|file|concat|subfile|data|pipe|md5|tee|crypto|fd)"
PROTOCOL = re.compile(NAMES + r"\\*:")
ESCAPED_PROTOCOL = re.compile(NAMES + r"\\+:")  # a bare colon is between two options there
LISTS = re.compile(r"-(?:vf|af|filter|lavfi|i$|bsf|x264opts|[a-z0-9]+-params)")
GRAPH = re.compile(r"-(?:vf|af|filter|lavfi|i$)")
# A value that is only shown: what is escaped there, in one level (\\;) or in both (\\\\:), does not end it.
DRAWN = re.compile(r"(?<![a-z])(?:text|timecode|key|value|force_style)=(?:\\\\.|\\.|[^:,;\[\]\\])*")


def escapes(arguments: Sequence[str]) -> list[str]:
    """The arguments that name anything but the task's own files."""
    found = []
    for before, token in zip(("", *arguments), arguments, strict=False):
        if OUR_FILE.fullmatch(token) or before.split(":")[0] in FREE or before in ("-progress", "-creation_time"):
            continue
        if token.startswith(("-/", "--")):
            found.append(token)
        bare = re.sub(r"\.\./(?:in/i\d+|tmp/)", "", DRAWN.sub("", token))
        if re.match(r"-[a-z]\w*:", bare):  # an option with its stream specifier: -c:v
            bare = bare.replace(":", "_")
        protocol = ESCAPED_PROTOCOL if LISTS.match(before) else PROTOCOL
        if re.match(r"[/\\]", bare) or ".." in bare or "://" in bare or protocol.search(bare):
            found.append(token)
        if re.search(r"(?:^|[=:,;\]])\\*/", bare):
            found.append(token)
        unescaped = re.sub(r"\\.", "_", bare)  # what is escaped separates nothing
        if GRAPH.match(before) and re.search(r"(?:^|[\],;=])(?:a?movie|a?zmq|a?sendcmd|ladspa|frei0r)\b", unescaped):
            found.append(token)
    return found


def built(case: Case, command: Command) -> tuple[str, ...]:
    paths = {name: f"../in/{build.local_name(index, name)}" for index, name in enumerate(case.inputs)}
    return build.build(command, inputs=paths, progress_fd=3, max_output_bytes=10**9)


@pytest.mark.parametrize("case", ALLOWED, ids=lambda case: case.id)
def test_what_is_built_names_the_tasks_own_files_only(case: Case) -> None:
    command = judged(case)
    assert command is not None
    assert escapes(built(case, command)) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("-i", "/etc/passwd"),
        ("-vf", "lut3d=file=/etc/passwd"),
        ("-vf", r"drawtext=fontfile=\/x"),
        ("-/vf", "x"),
        ("-vf", "subtitles=filename=../../x"),
        ("-i", "http://127.0.0.1/"),
        ("file:../../x.mp4",),
        ("-filter_complex", "[0:v]movie=filename=x"),
        ("-x", "a=concat:b"),
        ("-vf", r"subtitles=filename=concat\\:b"),
    ],
)
def test_the_oracle_sees_an_escape(arguments: Sequence[str]) -> None:
    assert escapes(arguments)


INSERTS = st.sampled_from(
    [
        *(
            "-/",
            "'",
            '"',
            "\\",
            "\\\\",
            "..",
            "../",
            ":",
            "/etc/passwd",
            "http://127.0.0.1/",
            "file:",
            "%",
            "|",
            "[",
            "]",
        ),
        *(";movie=/etc/passwd", ",movie=x[m];[m]", "=/etc/passwd", ":textfile=/etc/passwd", ":/text=/etc/passwd", "@x"),
        *(" -/filter_complex /etc/passwd ", " -attach /etc/passwd ", " -f concat ", " -dump_attachment:t '' "),
        *(
            "concat:a|b",
            ":fontsdir=/etc",
            ":stats=/tmp/x",
            ":csv=/tmp/x",
            ":cqmfile=/etc/passwd",
            "sws_flags=a;movie=x,",
        ),
        *(",metadata=print:file=/tmp/x", ",lut3d=/etc/passwd", ",subtitles=in.mp4", ",sendcmd=f=/x", "\n", "\t", " "),
        *(":psfile=/etc/passwd", ",drawtext=in.mp4:text=/etc", ",ass=/etc/passwd", ",arnndn=../x", " -i /etc/passwd "),
        *(" -hls_segment_filename ../x ", " -passlogfile ../../x ", " -protocol_whitelist http ", " /tmp/out.mp4 "),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Case, str]:
    case = draw(st.sampled_from(ALLOWED))
    text = case.command
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 3)) if draw(st.booleans()) else 0
        text = text[:at] + draw(INSERTS) + text[at + cut :]
    return case, text


@given(mutated())
@settings(max_examples=400, deadline=None)
def test_a_mutated_command_is_refused_or_harmless(mutant: tuple[Case, str]) -> None:
    case, text = mutant
    command = judged(case, text)
    if command is not None:
        assert escapes(built(case, command)) == []
        assert judged(case, command.text) == command


SOUP = st.sampled_from(
    sorted(
        {word for case in CASES if len(case.command) < 2000 for word in case.command.split()} | {"'", '"', "\\", "-i"}
    )
)


@given(st.lists(SOUP | st.text(max_size=5), max_size=14))
@settings(max_examples=200, deadline=None)
def test_a_soup_of_words_never_raises(words: list[str]) -> None:
    case = Case(
        id="", command="x", inputs=("in.mp4", "look.cube"), output="out.mp4", allowed=False, may_start=False, gpu=False
    )
    for text in (" ".join(words), shlex.join(words)):
        command = judged(case, text or " ")
        if command is not None:
            assert escapes(built(case, command)) == []
