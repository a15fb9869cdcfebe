"""The checked-in table of options is the installed ffmpeg's, and the questions asked of it are answered."""

import os
import runpy
from pathlib import Path

import imageio_ffmpeg
import pytest

from core.ffmpeg import options
from core.ffmpeg.options import Kind

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif("FFMPEG_PATH" in os.environ, reason="the table is that of the build that is shipped")
def test_table_is_that_of_the_installed_ffmpeg() -> None:
    tool = runpy.run_path(str(ROOT / "tools/options_table.py"))
    made = tool["text"](tool["read"](imageio_ffmpeg.get_ffmpeg_exe()))
    assert made == (ROOT / "src/core/ffmpeg/option_table.py").read_text(), "run `make options`"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("c", Kind(takes_value=True, on_input=True, on_output=True, takes_specifier=True)),
        ("b", Kind(takes_value=True, on_output=True, takes_specifier=True)),
        ("s", Kind(takes_value=True, on_input=True, on_output=True, takes_specifier=True)),  # not in ffmpeg's help
        ("vf", Kind(takes_value=True, on_output=True)),
        ("vn", Kind(takes_value=False, negatable=True, on_input=True, on_output=True)),
        ("xerror", Kind(takes_value=False, negatable=True, everywhere=True)),  # the help shows it with a value
        ("filter_threads", Kind(takes_value=True, everywhere=True)),  # and this one without
        ("report", Kind(takes_value=False, everywhere=True)),
        ("formats", Kind(takes_value=False, informs=True)),
        (
            "crf",
            Kind(takes_value=True, on_output=True, takes_specifier=True, types=frozenset({"int", "float"})),
        ),
        (
            "analyzeduration",
            Kind(takes_value=True, on_input=True, on_output=True, takes_specifier=True, types=frozenset({"int64"})),
        ),
        ("vsync", None),  # gone since ffmpeg 8
    ],
)
def test_find_tells_what_an_option_takes(name: str, kind: Kind | None) -> None:
    assert options.find(name) == kind


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vb", "b:v"),
        ("acutoff", "cutoff:a"),
        ("presett", "preset"),
        ("filter_complexx", "filter_complex"),
        ("zzzz", None),
    ],
)
def test_nearest_is_what_was_meant(name: str, meant: str | None) -> None:
    assert options.nearest(name) == meant
