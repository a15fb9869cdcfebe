"""What a page gives as its cursor leads back to where it ended, and nothing else is taken for one."""

import base64
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidArgument
from core.ports import Position
from handlers.web import cursors, examples
from support.builders import NOW


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("moment", [NOW, NOW.replace(microsecond=0), NOW + timedelta(microseconds=1)])
@pytest.mark.parametrize("task_id", ["6f9b1d1e-4c1b-4f0f-9d57-0a4b3c2d1e0f", "a", "7"])
def test_a_cursor_leads_back_to_where_the_page_ended(moment: object, task_id: str) -> None:
    position = Position(moment, task_id)  # type: ignore[arg-type]
    cursor = cursors.written(position)
    assert cursors.read(cursor) == position
    assert set(cursor).isdisjoint("=+/&?# ")


def test_the_example_is_a_cursor() -> None:
    assert cursors.read(examples.CURSOR).task_id == examples.TASK_ID


WRONG = [
    "", "x", "=", "==", "AAAA", "ü", "%", "a" * 10_000, "-1", "null", '{"a":1}', encoded(""), encoded("a b"),
    encoded("2026-01-15T09:30:00+00:00"), encoded("2026-01-15T09:30:00 x"), encoded("2026-01-15T09:30:00+02:00 x"),
    encoded("2026-01-15T09:30:00+00:00 x y"), encoded("2026-01-15T09:30:00+00:00 x#"), encoded("2026-99-15T09:30Z x"),
    encoded("0001-01-01T00:00:00+00:00 x"), f" {examples.CURSOR}", f"{examples.CURSOR}\n", f"!!!!{examples.CURSOR}",
]  # fmt: skip


@pytest.mark.parametrize("cursor", WRONG)
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        cursors.read(cursor)
    assert refused.value.details == {"field": "cursor"}


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_no_text_breaks_the_reader(cursor: str) -> None:
    try:
        position = cursors.read(cursor)
    except InvalidArgument:
        return
    assert cursors.read(cursors.written(position)) == position
