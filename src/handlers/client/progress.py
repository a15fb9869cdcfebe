"""How far things are, on stderr: live on a terminal, as plain lines elsewhere, not at all when JSON is asked for."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from handlers.client.words import duration, size

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 5.0  # between two plain lines about the same
WIDTH_FOR_BARS = 80  # of a terminal, in characters; in a narrower one the words need the room

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How far an order is."""

    stage: str
    percent: float | None = None
    detail: str = ""

    def line(self, label: str) -> str:
        percent = "" if self.percent is None else f"  {self.percent:.1f} %"
        return f"{label}: {self.stage}{percent}{'  ' if self.detail else ''}{self.detail}"


class Row:
    """The progress of one order, told to a board."""

    def __init__(self, show: Callable[[Seen], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._show = show
        self._clock = clock
        self._moving: tuple[str, int, float] | None = None

    def moved(self, what: str, done: int, total: int) -> None:
        if self._moving is None or self._moving[0] != what or done < self._moving[1]:
            self._moving = (what, done, self._clock())
        _, began_at, began = self._moving
        self._show(of_transfer(what, done, total, began_at=began_at, seconds=self._clock() - began))

    def followed(self, task: Json) -> None:
        self._show(of_task(task))


def of_transfer(what: str, done: int, total: int, *, began_at: int, seconds: float) -> Seen:
    rate = (done - began_at) / seconds if seconds > 0.2 else 0
    left = f"  {duration((total - done) / rate)} left" if rate and done < total else ""
    speed = f"  {size(rate)}/s" if rate else ""
    return Seen(stage=what, percent=100 * done / total if total else 100.0, detail=f"{size(total)}{speed}{left}")


def of_task(task: Json) -> Seen:
    progress = task["progress"]
    stage = task["stage"] or task["status"]
    if task["status"] != "running":
        return Seen(stage=stage, detail=task.get("queue_reason") or "")
    facts = (
        (progress["fps"], "{:.0f} fps"),
        (progress["speed"], "{:.1f}x"),
        (progress["out_time_seconds"] if progress["percent"] is None else None, "{:.0f} s made"),
    )
    said = [words.format(value) for value, words in facts if value]
    if progress["eta_seconds"]:
        said.append(f"{duration(progress['eta_seconds'])} left")
    return Seen(stage=stage, percent=progress["percent"], detail="  ".join(said))


def shortened(label: str, most: int) -> str:
    """So that a long name leaves room for what changes; its end tells more than its middle."""
    half = (most - 1) // 2
    return label if len(label) <= most else f"{label[:half]}…{label[-half:]}"


class Board(Protocol):
    """Where rows stand. As a context, for as long as they do."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def row(self, label: str) -> Row: ...

    def say(self, text: str) -> None:
        """What a person should know now."""

    def finish(self, row: Row, line: str) -> None:
        """This row is done; the line, if there is one, stays."""


def board(*, as_json: bool, quiet: bool) -> Board:
    if as_json or quiet:
        return Silent(quiet_only=not as_json)
    can_draw = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    return Live() if can_draw else Plain()


@dataclass
class Silent:
    quiet_only: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def row(self, label: str) -> Row:
        return Row(lambda seen: None)

    def say(self, text: str) -> None:
        pass

    def finish(self, row: Row, line: str) -> None:
        if line and self.quiet_only:
            click.echo(line)


@dataclass
class Plain:
    """A line when something changes, and now and then. Where nobody reads them any more, the work goes on."""

    clock: Callable[[], float] = time.monotonic
    said: dict[str, tuple[str, float]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def row(self, label: str) -> Row:
        return Row(lambda seen: self._show(label, seen))

    def say(self, text: str) -> None:
        with suppress(OSError):
            click.echo(text, err=True)

    def finish(self, row: Row, line: str) -> None:
        if line:
            click.echo(line)

    def _show(self, label: str, seen: Seen) -> None:
        stage, at = self.said.get(label, ("", 0.0))
        if seen.stage != stage or self.clock() - at >= LINE_SECONDS:
            self.said[label] = (seen.stage, self.clock())
            self.say(seen.line(label))


class Live:
    """A line for each row, drawn again and again; what stays is printed above."""

    def __init__(self) -> None:
        self._rows: dict[Row, Any] = {}
        self._progress = _drawn()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def row(self, label: str) -> Row:
        label = shortened(label, self._progress.console.width // 3)
        drawn = self._progress.add_task("", label=label, stage="", detail="", percent="", total=None)
        row = Row(lambda seen: self._show(drawn, seen))
        self._rows[row] = drawn
        return row

    def say(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be gone, as after SIGHUP
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def finish(self, row: Row, line: str) -> None:
        self._progress.remove_task(self._rows.pop(row))
        if line and sys.stdout.isatty():
            self.say(line)
        elif line:
            click.echo(line)

    def _show(self, drawn: Any, seen: Seen) -> None:
        known = seen.percent is not None
        self._progress.update(
            drawn,
            stage=seen.stage,
            detail=seen.detail,
            percent=f"{seen.percent:.0f} %" if known else "",
            completed=seen.percent or 0,
            total=100 if known else None,
        )


def _drawn() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    def text(name: str) -> TextColumn:
        return TextColumn(f"{{task.fields[{name}]}}", markup=False)

    console = Console(stderr=True)
    bar = [BarColumn(bar_width=24)] if console.width >= WIDTH_FOR_BARS else []
    columns = (text("label"), text("stage"), *bar, text("percent"), text("detail"))
    return Progress(*columns, console=console, transient=True)
