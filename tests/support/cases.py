"""The cases of tests/cases/commands.json: commands that users and attackers send, each with its verdict."""

import json
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parents[1] / "cases/commands.json"

# Cases that a product may decide either way and that this one allows, and why.
FLIPPED = {
    "R105": "image sequences are outputs that users ask for; they stay in the output folder",
    "R110": "two-pass encoding: the log of the first pass is kept in the task's own folder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    id: str
    command: str
    inputs: tuple[str, ...]
    output: str
    allowed: bool
    may_start: bool  # refused, but it may also be that only the limits at run time end it
    gpu: bool


def cases() -> list[Case]:
    return [
        Case(
            id=case["id"],
            command=case["command"],
            inputs=tuple(case["inputs"]),
            output=case["output_filename"],
            allowed=case["expected"] == "allow" or case["id"] in FLIPPED,
            may_start=case.get("enforced_at") == "runtime",
            gpu=case["class"] == "gpu",
        )
        for case in json.loads(CASES.read_text())["cases"]
    ]
