"""Where a page of the list goes on, as text that callers hand back and need not understand."""

import base64
import re
from datetime import datetime, timedelta

from core.errors import InvalidArgument
from core.ports import Position

_READABLE = re.compile(r"(\S{1,40}) ([A-Za-z0-9-]{1,64})")


def written(position: Position) -> str:
    text = f"{position.created_at.isoformat()} {position.task_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read(cursor: str) -> Position:
    """Raises InvalidArgument for what `written` never made."""
    try:
        text = base64.b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}", altchars=b"-_", validate=True).decode("ascii")
        found = _READABLE.fullmatch(text)
        position = Position(datetime.fromisoformat(found[1]), found[2]) if found else None
    except ValueError:
        position = None
    if position is None or position.created_at.utcoffset() != timedelta(0) or position.created_at.year < 1970:
        message = "cursor must be a next_cursor, as a page of the list gave it."
        raise InvalidArgument(message, details={"field": "cursor"})
    return position
