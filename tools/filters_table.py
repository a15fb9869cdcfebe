"""Writes src/core/ffmpeg/filter_table.py: the filters of the installed ffmpeg, and their options in order.

The options and their types are read from `ffmpeg -h filter=NAME`. Which of them a value without a name means cannot
be read there, because an alias has no place of its own; so each filter is given a row of values, and the program says
in its debug log which option each one sets.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg

TABLE = Path(__file__).parents[1] / "src/core/ffmpeg/filter_table.py"

LISTED = re.compile(r"^ [T.][S.] (\S+) +(?:\S*->\S*) ", re.MULTILINE)
OPTION = re.compile(r"^ {1,3}-?(\S+) +\[?<(\w+) *>", re.MULTILINE)
SETTING = re.compile(r"Setting '([^']*)' to value '0'")
MOST_OPTIONS = 120  # more than any filter has

# What carries text, a size or a rate is told; all the rest are numbers, flags, colours and the like.
SHORT = {"string": "s", "binary": "s", "dictionary": "s", "image_size": "z", "video_rate": "r"}


def read(ffmpeg: str) -> dict[str, str]:
    """By filter: its options as `[+]name[:type]`; those with a plus are meant, in order, by values without a name."""
    names = sorted(set(LISTED.findall(_say(ffmpeg, "-filters"))))
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(lambda name: " ".join(_options(ffmpeg, name)), names), strict=True))


def text(filters: dict[str, str]) -> str:
    """The table as the module that is checked in, already as `ruff format` would have it."""
    lines = (f'    "{name}": "{options}",\n' for name, options in filters.items())
    return (
        '"""The filters of the ffmpeg build that the service ships. Made by `make options`; do not edit."""\n\n'
        "# Options as +name:type. +: it has a place. Type: s(tring), z (a size), r(ate); none: a number or so.\n"
        f"FILTERS: dict[str, str] = {{\n{''.join(lines)}}}\n"
    )


def _options(ffmpeg: str, name: str) -> Iterator[str]:
    types = dict(OPTION.findall(_say(ffmpeg, "-h", f"filter={name}")))
    row = ":".join("0" * MOST_OPTIONS)
    placed = SETTING.findall(_say(ffmpeg, "-v", "debug", "-filter_complex", f"{name}={row}", "-f", "null", "-"))
    for option in (*placed, *(other for other in types if other not in placed)):
        kind = SHORT.get(types.get(option, "string"))  # one is missing in the help (flags of tinterlace)
        yield ("+" if option in placed else "") + option + (f":{kind}" if kind else "")


def _say(ffmpeg: str, *args: str) -> str:
    with tempfile.TemporaryDirectory() as folder:  # some filters write a file where they are run
        done = subprocess.run(
            [ffmpeg, "-nostdin", "-hide_banner", *args],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    return done.stdout + done.stderr


if __name__ == "__main__":
    table = read(imageio_ffmpeg.get_ffmpeg_exe())
    TABLE.write_text(text(table))
    print(f"{TABLE.name}: {len(table)} filters, {sum(len(options.split()) for options in table.values())} options")
