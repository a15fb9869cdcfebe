"""Filter graphs are read as ffmpeg reads them, and what is written reads the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ffmpeg.graph import Argument, Chain, Filter, Graph, GraphError, emit, parse


@pytest.mark.parametrize(
    ("text", "graph"),
    [
        ("null", Graph(chains=(Chain((Filter(name="null"),)),))),
        (
            " [0:v] [x]scale@big = 1280 : h=-2 [a] [b] , null ;\n[a]copy",
            Graph(
                chains=(
                    Chain(
                        (
                            Filter(
                                name="scale",
                                instance="big",
                                inputs=("0:v", "x"),
                                outputs=("a", "b"),
                                arguments=(Argument("1280"), Argument("-2", "h")),
                            ),
                            Filter(name="null"),
                        )
                    ),
                    Chain((Filter(name="copy", inputs=("a",)),)),
                )
            ),
        ),
        (
            "sws_flags=lanczos;mo\\vie=o\\ther",
            Graph(chains=(Chain((Filter(name="movie", arguments=(Argument("other"),)),)),), sws_flags="lanczos"),
        ),
        ("'mov'ie@'x;y'", Graph(chains=(Chain((Filter(name="movie", instance="x;y"),)),))),
        (
            r"drawtext=text\file=a:text='%{pts\:hms}, it'\\\''s' :x=",
            Graph(
                chains=(
                    Chain(
                        (
                            Filter(
                                name="drawtext",
                                arguments=(
                                    Argument("a", "textfile"),
                                    Argument("%{pts:hms}, it's", "text"),
                                    Argument("", "x"),
                                ),
                            ),
                        )
                    ),
                )
            ),
        ),
    ],
)
def test_parse(text: str, graph: Graph) -> None:
    assert parse(text) == graph


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the filter graph has no filter."),
        (" ; ", "a filter has no name."),
        ("[a", "a label is opened with [ and not closed."),
        ("[]null", "a label is empty."),
        ("null=a]", "']' follows the filter null; a comma or ; is due."),
        ("null[a]x", "'x' follows the filter null; a comma or ; is due."),
        ("@x=1", "a filter has no name."),
        ("sws_flags=a", "sws_flags= is not ended by a semicolon."),
        ("scale=w=1:2", "a filter option without a name follows one with a name."),
    ],
)
def test_parse_refuses_what_ffmpeg_would(text: str, reason: str) -> None:
    with pytest.raises(GraphError) as raised:
        parse(text)
    assert str(raised.value) == reason


@pytest.mark.parametrize(
    ("text", "emitted"),
    [
        ("scale=1280:-2", "scale=1280:-2"),
        ("[0:v] scale = w = 1 [a] ; [a] null ,", "[0:v]scale=w=1[a];[a]null"),
        ("drawtext=text='a\\:b, c'", r"drawtext=text=a\\:b\, c"),
        (r"pan=stereo|c0=c1", r"pan=stereo|c0\\=c1"),
        ("scale=1::", "scale=1::"),
    ],
)
def test_emit(text: str, emitted: str) -> None:
    assert emit(parse(text)) == emitted


GRAMMAR = st.text(alphabet="ab=:[],;'\\ @\n/0.sws_flags", max_size=40)


@given(GRAMMAR | st.text(max_size=30))
@settings(max_examples=1000, deadline=None)
def test_what_is_emitted_reads_the_same(text: str) -> None:
    try:
        graph = parse(text)
    except GraphError:
        return
    assert parse(emit(graph)) == graph


VALUES = st.text(min_size=0, max_size=8)
LABELS = st.lists(st.text(min_size=1, max_size=4), max_size=2).map(tuple)
ARGUMENTS = st.tuples(
    st.lists(st.builds(Argument, VALUES), max_size=2), st.lists(st.builds(Argument, VALUES, st.just("k")), max_size=2)
).map(lambda both: (*both[0], *both[1]))
FILTERS = st.builds(
    Filter,
    name=st.text(min_size=1, max_size=5).filter(lambda name: "@" not in name and not name.startswith("sws_flags")),
    instance=st.none() | st.text(max_size=3),
    inputs=LABELS,
    outputs=LABELS,
    arguments=ARGUMENTS,
)


@given(st.lists(st.lists(FILTERS, min_size=1, max_size=3).map(tuple).map(Chain), min_size=1, max_size=3).map(tuple))
@settings(max_examples=200, deadline=None)
def test_any_graph_survives_being_written(chains: tuple[Chain, ...]) -> None:
    graph = Graph(chains=chains)
    assert parse(emit(graph)) == graph
