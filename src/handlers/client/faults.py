"""What can go wrong for somebody at the command line, each with the exit code that scripts build on.

The service's own errors keep their codes; those of the client's making have codes that the service does not use.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

DONE = 0
TASK_FAILED = 1
USAGE = 2
UNREACHABLE = 3
REFUSED = 4
LOCAL_TROUBLE = 5
INTERRUPTED = 128  # and the number of the signal: 130 for Ctrl-C

# With these, nothing else that is asked of the service will be done either.
HOPELESS = frozenset({"UNREACHABLE", "NOT_THE_SERVICE", "UNAUTHENTICATED"})


class Fault(Exception):
    """The command did not do what it was asked; the message says why, and what to do."""

    exit_code: ClassVar[int] = LOCAL_TROUBLE
    usual_code: ClassVar[str] = "LOCAL_TROUBLE"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        passing: bool = False,
    ) -> None:
        self.message = message
        self.code = code or self.usual_code
        self.details = dict(details or {})
        self.passing = passing  # the same may well succeed a little later
        super().__init__(message)

    def shown(self) -> dict[str, Any]:
        """As JSON: the service's own shape, and the exit code."""
        error = {"code": self.code, "message": self.message, "details": self.details}
        return {"error": error, "exit_code": self.exit_code}


class TaskFailed(Fault):
    """The service did its part, but the task has no result."""

    exit_code = TASK_FAILED
    usual_code = "TASK_FAILED"


class Usage(Fault):
    """What was asked cannot be meant, or would overwrite something."""

    exit_code = USAGE
    usual_code = "USAGE"


class Unreachable(Fault):
    """There is no service, or not ours, or not for too long now."""

    exit_code = UNREACHABLE
    usual_code = "UNREACHABLE"


class Refused(Fault):
    """The service answered, and will not do it."""

    exit_code = REFUSED
    usual_code = "REFUSED"


class Interrupted(BaseException):
    """Ctrl-C, or another signal to end. No Exception, so that nothing that mends faults takes it for one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.details: dict[str, Any] = {}
        super().__init__(number)
