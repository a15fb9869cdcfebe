"""What the guides say in their tables and figures is what there is."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import presets, register
from core.ffmpeg.filter_rules import ALLOWED
from core.ffmpeg.filter_table import FILTERS
from core.ports import Services
from core.register import command_text
from core.settings import Settings
from core.task import RETRIES, FailureCode
from handlers.web.app import create_app
from handlers.web.errors import STATUS
from handlers.web.registration import Registration
from support.template import Stack

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
OPERATORS = (ROOT / "infra" / "README.md").read_text()
GUIDES = ["README.md", "infra/README.md", "container/README.md"]


def section(text: str, title: str) -> str:
    """The text below a heading, to the next one of its level."""
    level = re.findall(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)[0]
    return text.split(f"\n{level} {title}\n")[1].split(f"\n{level} ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of its tables, without the lines between head and body."""
    lines = (line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in cells] for cells in lines if set(cells[0].strip()) - {"-"}]


@pytest.fixture(scope="module")
def spec() -> Any:
    unused: Any = None
    services = Services(store=unused, records=unused, objects=unused, dispatcher=unused)
    return create_app(services, Settings(), ffmpeg_version="9").openapi()


def test_every_operation_is_in_the_table_with_its_usual_answer(spec: Any) -> None:
    told = {}
    for cells in rows(section(README, "The API")):
        for operation in re.findall(r"`([A-Z]+ /ffmpeg/[^`?]*)`", cells[0]):
            told[operation] = re.findall(r"^\d{3}", cells[1])

    there = {
        f"{method.upper()} {path}": [status for status in operation["responses"] if status[0] in "23"]
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
    }
    assert told.keys() == there.keys()
    assert [operation for operation, (first,) in told.items() if first not in there[operation]] == []


def test_every_code_has_its_status() -> None:
    told = {
        code: int(cells[1])
        for cells in rows(section(README, "The API"))
        for code in re.findall(r"`([A-Z_]+)`", cells[0])
        if cells[1].isdigit()
    }
    assert told == {error.code: status for error, status in STATUS.items() if error.code in told}
    assert len(told) == len({error.code for error in STATUS})


def test_what_is_tried_again_is_told() -> None:
    (listed,) = re.findall(r"a failure that may pass \((.*?)\) is tried again", " ".join(README.split()))
    twice, once = listed.split(", and once ")

    codes = dict.fromkeys(re.findall(r"`(\w+)`", twice), 2) | dict.fromkeys(re.findall(r"`(\w+)`", once), 1)
    assert codes == {code: number for code, number in RETRIES.items() if number and code is not FailureCode.WORKER_LOST}


def test_every_preset_is_in_the_table() -> None:
    told: list[str] = []
    for cells in rows(section(README, "Options and presets")):
        for name in re.findall(r"`(-?[a-z0-9-]+)`", cells[0]):
            told.append(told[-1].rpartition("-")[0] + name if name.startswith("-") else name)

    assert set(presets.shelf(None)) <= set(told)
    assert {name for name in told if name.startswith(("web-", "hls-", "audio-"))} <= set(presets.shelf(None))


def test_the_filters_are_counted() -> None:
    assert f"{len(ALLOWED)} of the {len(FILTERS)} in this build" in README


def test_the_parameters_of_the_template_have_the_defaults_that_are_told() -> None:
    parameters = Stack({"WorkerImage": "worker:1"}).template["Parameters"]
    table = section(README, "Deployment on AWS").partition("| parameter |")[2].partition("\n\n")[0]
    for cells in rows(table):
        names = re.findall(r"`([A-Z]\w+)`", cells[0])
        assert set(names) <= parameters.keys()
        for name, told in zip(names, cells[1].split(", "), strict=False):
            default = str(parameters[name].get("Default", ""))
            assert told.strip("`").split(" and ")[0].strip("`") in default or (
                told[:4] in ("none", "a ne") and not default
            )


def test_what_it_costs_at_rest_adds_up() -> None:
    costs = section(OPERATORS, "What it costs")
    at_rest = rows(costs.split("**At rest**")[1].split("**An hour")[0])[1:]
    parts, (_, else_, all_) = at_rest[:-1], at_rest[-1]
    cents = {part: round(100 * float(usd)) for part, _, usd in parts}
    alarms = [one for one in Stack({}).template["Resources"].values() if one["Type"] == "AWS::CloudWatch::Alarm"]

    assert cents[f"{len(alarms)} alarms"] == 10 * len(alarms)
    (metrics,) = re.findall(r"\| (\d+) metrics that the sweep sends", costs)
    assert cents[f"{metrics} metrics that the sweep sends each minute"] == 30 * int(metrics)
    assert sum(cents.values()) == round(100 * float(all_.strip("*")))
    free = sum(cost for part, cost in cents.items() if not re.search("alarms|metrics|dashboard", part))
    free += 30 * (int(metrics) - 10)  # of which ten are free
    assert else_.endswith(f"else {free / 100:.2f}")
    assert f"between {free / 100:.2f} and {all_.strip('*')} $" in README


def test_every_alarm_leads_to_what_to_do() -> None:
    table = section(OPERATORS, "When something is wrong").partition("| alarm |")[2].partition("\n\n")[0]
    told = [name for cells in rows(table) for name in re.findall(r"`(\w+)`", cells[0])]
    resources = Stack({}).template["Resources"].items()

    assert sorted(told) == sorted(name for name, one in resources if one["Type"] == "AWS::CloudWatch::Alarm")


def test_every_variable_of_compose_is_told() -> None:
    guide, compose = ((ROOT / "container" / name).read_text() for name in ("README.md", "compose.yaml"))

    assert set(re.findall(r"\$\{([A-Z_]+)", compose)) <= set(re.findall(r"`([A-Z_]+)`", guide))


def slugs(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[str, str]]:
    for guide in GUIDES:
        text = (ROOT / guide).read_text()
        for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
            yield guide, target


@pytest.mark.parametrize(("guide", "target"), [*links()])
def test_every_link_leads_somewhere(guide: str, target: str) -> None:
    file, _, anchor = target.partition("#")
    path = (ROOT / guide).parent / file if file else ROOT / guide

    assert path.exists()
    assert not anchor or anchor in slugs(path.read_text())


def test_make_lists_every_target_and_the_readme_those_of_development() -> None:
    makefile = (ROOT / "Makefile").read_text()
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout

    listed = {target for line in shown.splitlines() for target in re.split(r"\s{2,}", line)[0].split()}
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert listed == set(phony.split())
    told = re.findall(r"\bmake ([a-z]+)", README) + re.findall(r"[a-z]+", section(README, "Development"))
    assert listed - {"help"} <= set(told)


def test_options_become_the_command_that_is_shown() -> None:
    text = section(README, "Options and presets")
    (asked,) = re.findall(r"^(    \{\n.*?^    \})$", text, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"becomes\n\n    (.+)\n", text)
    (for_a_card,) = re.findall(r'and with `"compute": "gpu"` the same with `(.+)`\.', text)

    assert command_text(wanted(asked), None) == command
    with_card = command_text(wanted(asked, compute="gpu"), None)
    assert with_card == command.replace("-c:v libx264 -crf 21", for_a_card) != command


def wanted(asked: str, **more: str) -> register.Registration:
    return Registration.model_validate(json.loads(asked) | more).to_domain()
