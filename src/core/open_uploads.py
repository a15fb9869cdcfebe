"""How many uploads a caller may have open: a list of them for each caller, as a record.

Who completes or deletes one, or lets it expire, need not strike it out: a list that is full is compared with the
uploads themselves before one more is refused.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from threading import Lock

from core.errors import RecordChanged, TooManyRequests
from core.ports import Record, RecordStore

KIND = "openuploads"
MOST_TOLD = 20
RETRY_AFTER_SECONDS = 10  # when somebody completes or deletes one, nobody knows
_NOBODY = "(none)"  # where there is no sign-in; no key has such a name
_ROUNDS = 10
_one_at_a_time = Lock()  # spares those of one process the rounds


def enlist(
    records: RecordStore,
    key_name: str | None,
    upload_id: str,
    *,
    most: int,
    is_open: Callable[[str, datetime], bool],
    now: datetime,
) -> None:
    """Count one more for the key, of at most `most`; `is_open` is asked of an upload and the time it was listed at.

    Raises TooManyRequests.
    """
    name = key_name or _NOBODY
    with _one_at_a_time:
        for _ in range(_ROUNDS):
            found = records.find(KIND, name)
            listed = _with_room(json.loads(found.body) if found else {}, most, is_open)
            body = json.dumps({**listed, upload_id: now.isoformat()})
            new = Record(kind=KIND, record_id=name, body=body, created_at=found.created_at if found else now)
            with suppress(RecordChanged):
                records.replace(new, found) if found else records.create(new)
                return
    raise TooManyRequests("Too many uploads are begun at the same moment: begin this one again.")


def _with_room(listed: dict[str, str], most: int, is_open: Callable[[str, datetime], bool]) -> dict[str, str]:
    """The list, if need be of those only that are still open. Raises TooManyRequests."""
    if len(listed) < most:
        return listed
    still = {name: at for name, at in listed.items() if is_open(name, datetime.fromisoformat(at))}
    if len(still) >= most:
        raise _too_many(list(still), most)
    return still


def _too_many(listed: list[str], most: int) -> TooManyRequests:
    message = (
        f"{most} uploads are open, which is all that one caller may have: complete or delete some, such as those in "
        "details.upload_ids, then begin this one again."
    )
    details = {"upload_ids": listed[:MOST_TOLD], "most_open_uploads": most, "retry_after_seconds": RETRY_AFTER_SECONDS}
    return TooManyRequests(message, details=details)
