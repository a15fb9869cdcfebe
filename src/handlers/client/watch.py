"""A task from now on: again and again, until it has ended, no more often than the service asks for."""

import time
from collections.abc import Iterator

from handlers.client.api import ENDED, Api, Json

USUAL_SECONDS = 1.0
MOST_SECONDS = 10.0
PATIENCE = 20  # of a long quiet, a wait is one part in so many


def follow(api: Api, task_id: str) -> Iterator[Json]:
    before, since = None, time.monotonic()
    while True:
        task, ask_after = api.status(task_id)
        yield task
        if task["status"] in ENDED:
            return
        shown = (task["status"], task.get("stage"), task.get("progress"))
        if shown != before:
            before, since = shown, time.monotonic()
        api.stop.wait(pause(ask_after, quiet_seconds=time.monotonic() - since))


def pause(ask_after: float | None, *, quiet_seconds: float) -> float:
    """In how many seconds to ask again: as the service says, and more rarely when nothing has happened for long."""
    return max(USUAL_SECONDS if ask_after is None else ask_after, min(MOST_SECONDS, quiet_seconds / PATIENCE))
