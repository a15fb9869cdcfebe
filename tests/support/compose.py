"""container/compose.yaml as Compose would read it with nothing set: its defaults in the place of its variables."""

import re
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[2] / "container" / "compose.yaml"
_VARIABLE = re.compile(r"\$\{\w+:-([^${}]*)\}")


def services() -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, Any]] = loaded()["services"]
    return read


def loaded() -> dict[str, Any]:
    text = FILE.read_text()
    while _VARIABLE.search(text):  # a default may have a variable of its own
        text = _VARIABLE.sub(r"\1", text)
    document: dict[str, Any] = yaml.safe_load(text)
    return document
