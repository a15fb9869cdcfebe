"""What a person is shown, live and in plain lines."""

import os
import pty
import sys
from contextlib import suppress
from typing import Any

import pytest

from handlers.client import words
from handlers.client.progress import Board, Live, Plain, Seen, _drawn, board, of_task, of_transfer, shortened

PROGRESS = {"percent": 32.25, "frame": 54, "fps": 29.4, "speed": 3.11, "out_time_seconds": 1.7, "eta_seconds": 75.2}
NOTHING = dict.fromkeys(PROGRESS)


def task(status: str, stage: str | None = None, **changes: Any) -> dict[str, Any]:
    return {"status": status, "stage": stage, "progress": NOTHING, "queue_reason": None, **changes}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (task("queued"), Seen(stage="queued")),
        (task("queued", queue_reason="No machine."), Seen(stage="queued", detail="No machine.")),
        (task("running", "downloading"), Seen(stage="downloading")),
        (
            task("running", "transcoding", progress=PROGRESS),
            Seen(stage="transcoding", percent=32.25, detail="29 fps  3.1x  1:15 left"),
        ),
        (
            task("running", "transcoding", progress={**PROGRESS, "percent": None, "eta_seconds": None}),
            Seen(stage="transcoding", detail="29 fps  3.1x  2 s made"),
        ),
    ],
)
def test_task_is_shown_as_it_is(shown: dict[str, Any], expected: Seen) -> None:
    assert of_task(shown) == expected


def test_transfer_has_a_rate_once_there_is_one() -> None:
    assert of_transfer("sending", 0, 2_000_000, began_at=0, seconds=0).detail == "2.0 MB"
    assert of_transfer("sending", 500_000, 2_000_000, began_at=0, seconds=2) == Seen(
        stage="sending", percent=25.0, detail="2.0 MB  250.0 kB/s  6 s left"
    )


def test_plain_lines_come_with_changes_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    with Plain(clock=lambda: now) as board:
        row = board.row("a.mov")
        for at, shown in enumerate([task("queued")] * 3 + [task("running", "transcoding", progress=PROGRESS)] * 9):
            now = 100.0 + at
            row.followed(shown)
        board.finish(row, "done")

    line = "a.mov: transcoding  32.2 %  29 fps  3.1x  1:15 left"
    assert capsys.readouterr() == ("done\n", f"a.mov: queued\n{line}\n{line}\n")


@pytest.mark.parametrize(("term", "kind"), [("xterm", Live), ("dumb", Plain), ("", Plain)])
def test_terminal_that_cannot_be_drawn_on_gets_lines(
    monkeypatch: pytest.MonkeyPatch, term: str, kind: type[Board]
) -> None:
    screen, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            monkeypatch.setenv("TERM", term)

            assert type(board(as_json=False, quiet=False)) is kind
    finally:
        os.close(screen)


@pytest.mark.parametrize(("columns", "expected"), [("100", 5), ("40", 4)])
def test_narrow_terminal_has_no_room_for_a_bar(monkeypatch: pytest.MonkeyPatch, columns: str, expected: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    assert len(_drawn().columns) == expected


def test_lines_that_nobody_reads_do_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    stderr = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stderr", stderr)
    try:
        Plain().row("a.mov").followed(task("queued"))  # raises nothing
    finally:
        with suppress(BrokenPipeError):
            stderr.close()


@pytest.mark.parametrize(
    ("label", "expected"), [("a.mov", "a.mov"), ("0123456789a", "0123…789a"), ("0123456789", "0123456789")]
)
def test_long_label_keeps_its_ends(label: str, expected: str) -> None:
    assert shortened(label, 10) == expected


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (999_949_000, "999.9 MB"), (2e9, "2.00 GB")],
)
def test_size_is_readable(count: float, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (125, "2:05"), (3609, "1:00:09")])
def test_duration_is_readable(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_fault_shows_the_end_of_the_log() -> None:
    shown = words.fault("It failed.", {"log": [f"line {n}" for n in range(30)], "task_id": "t-1"})

    assert shown.splitlines()[0] == "It failed."
    assert shown.splitlines()[2:-1] == [f"  line {n}" for n in range(18, 30)]
    assert shown.splitlines()[-1] == "Task t-1"
