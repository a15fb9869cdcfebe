"""How a step of the worker says that the task has failed: by raising this, with what the caller will read."""

from collections.abc import Iterable, Mapping
from typing import Any

from core.task import Failure, FailureCode


class TaskFailed(Exception):
    """The task cannot go on; `failure` is what it will carry."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)

    @classmethod
    def of(
        cls, code: FailureCode, message: str, *, retryable: bool | None = None, details: Mapping[str, Any] | None = None
    ) -> "TaskFailed":
        return cls(Failure.of(code, message, retryable=retryable, details=details))


class Stopped(Exception):
    """The worker was told to stop, or lost the task; nothing more is to be done for it."""


def download_failed(
    name: str, what: str, *, retryable: bool | None = None, http_status: int | None = None
) -> TaskFailed:
    """The input `name` could not be fetched; `what` ends a sentence that begins with its source."""
    details = {"input": name} | ({"http_status": http_status} if http_status else {})
    return TaskFailed.of(
        FailureCode.DOWNLOAD_FAILED, f"The source of {name} {what}", retryable=retryable, details=details
    )


def raise_worst(errors: Iterable[BaseException | None]) -> None:
    """Of several errors the one that caused the others: those only stopped."""
    raised = sorted((error for error in errors if error), key=lambda error: isinstance(error, Stopped))
    if raised:
        raise raised[0]
