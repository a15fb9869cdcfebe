"""What the README says of settings, codes, operations and files is what there is."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from core.settings import Settings
from core.task import FailureCode
from handlers.web.errors import CODES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading of the second level."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_configuration_lists_every_setting_and_no_other() -> None:
    cells = [line.split("|")[1] for line in section("Configuration").splitlines() if line.startswith("| `")]
    listed = {name for cell in cells for name in re.findall(r"`([A-Z_]+)`", cell)}

    assert listed == {field.name.upper() for field in fields(Settings)}


@pytest.mark.parametrize(
    ("name", "default"),
    [(field.name.upper(), str(field.default)) for field in fields(Settings) if type(field.default) in (int, str)],
)
def test_configuration_shows_the_default(name: str, default: str) -> None:
    row = next(
        line for line in section("Configuration").splitlines() if f"| `{name}`" in line or f"`, `{name}`" in line
    )

    shown = row.split("|")[2]
    assert default in shown or f"{int(default) // 2**30} GiB" in shown


def test_every_code_is_explained() -> None:
    codes = {code for line in section("The API").splitlines() if line.startswith("| `") for code in words(line)}

    assert codes == {*CODES, *FailureCode}


def words(line: str) -> list[str]:
    return re.findall(r"`([A-Z_]+)`", line.split("|")[1])


def test_every_file_and_target_it_names_is_there() -> None:
    paths = re.findall(r"`((?:src|infra|events|container|docs|tests)/[\w./-]+)`|\]\(((?!http)[^)#]+)\)", README)
    targets = set(re.findall(r"(?:`|    )make ([a-z]+)\b", README))

    assert [path for pair in paths for path in pair if path and not (ROOT / path).exists()] == []
    makefile = (ROOT / "Makefile").read_text()
    assert targets <= set(re.findall(r"^([a-z]+)(?: [a-z ]+)?:.*##", makefile, re.MULTILINE))
    assert set(re.findall(r"-e (events/\w+\.json)", README)) <= {
        f"events/{p.name}" for p in (ROOT / "events").iterdir()
    }


def test_every_event_stands_beside_its_function() -> None:
    told = {
        function: {name.removeprefix("events/").removesuffix(".json") for name in re.findall(r"`([^`]+)`", events)}
        for function, events in re.findall(r"^\| `(\w+Function)` \| (`events/.+) \|$", README, re.MULTILINE)
    }
    there = {path.stem: json.loads(path.read_text()) for path in (ROOT / "events").iterdir()}

    assert told == {
        "ApiFunction": {name for name, event in there.items() if "requestContext" in event},
        "EventsFunction": {name for name, event in there.items() if event.get("source") == "aws.batch"},
        "SweepFunction": {"sweep"},
    }
    assert set.union(*told.values()) == set(there)
