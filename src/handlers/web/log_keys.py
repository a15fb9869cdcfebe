"""What every log record of a request carries: its correlation id, and its task's id once that is known.

The keys live in a context variable, which the threads that run the routes inherit. Whoever sets up logging adds the
filter `LogKeys` to its handler; how records look is up to its formatter.
"""

import logging
from contextvars import ContextVar

_keys: ContextVar[dict[str, str] | None] = ContextVar("log_keys", default=None)


def begin(correlation_id: str) -> None:
    """A new request: forget the keys of the one before."""
    _keys.set({"correlation_id": correlation_id})


def note(**keys: str) -> None:
    """Add keys to all further records of this request, also to those written outside the thread that notes them."""
    current().update(keys)


def current() -> dict[str, str]:
    """The keys of this request; empty outside of one."""
    keys = _keys.get()
    return {} if keys is None else keys


def correlation_id() -> str:
    return current()["correlation_id"]


class LogKeys(logging.Filter):
    """Lets every record pass, with the keys that it does not have already."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in current().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
