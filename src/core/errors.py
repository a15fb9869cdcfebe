"""The one tree of errors, with stable codes.

    ServiceError
    |- InvalidArgument            INVALID_ARGUMENT
    |  |- CommandNotAllowed       COMMAND_NOT_ALLOWED
    |  `- UrlNotAllowed           URL_NOT_ALLOWED
    |- Unauthenticated            UNAUTHENTICATED
    |- PermissionDenied           PERMISSION_DENIED
    |- NotFound                   NOT_FOUND
    |  |- TaskNotFound            TASK_NOT_FOUND
    |  |- UploadNotFound          UPLOAD_NOT_FOUND
    |  `- BatchNotFound           BATCH_NOT_FOUND
    |- MethodNotAllowed           METHOD_NOT_ALLOWED
    |- TaskNotReady               TASK_NOT_READY
    |- TaskEnded                  TASK_ENDED
    |- IdempotencyConflict        IDEMPOTENCY_CONFLICT
    |- ResultGone                 RESULT_GONE
    |- SettingsChanged            SETTINGS_CHANGED
    |- TranscodeFailed            TRANSCODE_FAILED
    |- UploadIncomplete           UPLOAD_INCOMPLETE
    |- RequestTimeout             REQUEST_TIMEOUT
    |- FileTooLarge               FILE_TOO_LARGE
    |- RequestTooLarge            REQUEST_TOO_LARGE
    |- UnsupportedMediaType       UNSUPPORTED_MEDIA_TYPE
    |- TooManyRequests            TOO_MANY_REQUESTS
    |- ServiceUnavailable         SERVICE_UNAVAILABLE
    |- DispatchUnavailable        DISPATCH_UNAVAILABLE
    |- InternalError              INTERNAL_ERROR
    |  `- ListGone                (never leaves core)
    `- DispatchDelayed, Conflict (these never leave core): TaskExists, TaskChanged, FenceLost, RecordChanged

A class's docstring is its message when none is given. HTTP status codes are a table in handlers/web/errors.py;
what can go wrong inside a task is `FailureCode` in task.py, because it is stored, not raised at the caller.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ServiceError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str | None = None, *, details: Mapping[str, Any] | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.details: dict[str, Any] = dict(details or {})
        super().__init__(self.message)


class InvalidArgument(ServiceError):
    """The request is not valid."""

    code = "INVALID_ARGUMENT"


class CommandNotAllowed(InvalidArgument):
    """The command is not allowed."""

    code = "COMMAND_NOT_ALLOWED"


class UrlNotAllowed(InvalidArgument):
    """The URL is not allowed."""

    code = "URL_NOT_ALLOWED"


class Unauthenticated(ServiceError):
    """A key is needed: send one that this service knows as X-API-Key."""

    code = "UNAUTHENTICATED"


class PermissionDenied(ServiceError):
    """This is for admins: send the key of one."""

    code = "PERMISSION_DENIED"


class NotFound(ServiceError):
    """There is nothing at this path. The operations are listed at /docs."""

    code = "NOT_FOUND"


class TaskNotFound(NotFound):
    """There is no task with this id."""

    code = "TASK_NOT_FOUND"


class UploadNotFound(NotFound):
    """There is no upload with this id: it has expired or was deleted, or there never was one."""

    code = "UPLOAD_NOT_FOUND"


class BatchNotFound(NotFound):
    """There is no batch with this id."""

    code = "BATCH_NOT_FOUND"


class MethodNotAllowed(ServiceError):
    """This path does not take this method. The operations are listed at /docs."""

    code = "METHOD_NOT_ALLOWED"


class TaskNotReady(ServiceError):
    """The task is not in a state that allows this."""

    code = "TASK_NOT_READY"


class TaskEnded(ServiceError):
    """The task has ended; register a new one."""

    code = "TASK_ENDED"


class IdempotencyConflict(ServiceError):
    """This Idempotency-Key came with another request before; send a new key with a new request."""

    code = "IDEMPOTENCY_CONFLICT"


class ResultGone(ServiceError):
    """What the task had stored is deleted; register a new task to have it again."""

    code = "RESULT_GONE"


class SettingsChanged(ServiceError):
    """The settings are no longer in the version that If-Match names; read them again, and decide anew."""

    code = "SETTINGS_CHANGED"


class TranscodeFailed(ServiceError):
    """The task has failed, so there is no result; the details say why."""

    code = "TRANSCODE_FAILED"


class UploadIncomplete(ServiceError):
    """Parts of the upload are missing: send them, then complete it again."""

    code = "UPLOAD_INCOMPLETE"


class RequestTimeout(ServiceError):
    """The body came too slowly; send it again."""

    code = "REQUEST_TIMEOUT"


class FileTooLarge(ServiceError):
    """The file is larger than what is taken."""

    code = "FILE_TOO_LARGE"


class RequestTooLarge(ServiceError):
    """The request body is too large."""

    code = "REQUEST_TOO_LARGE"


class UnsupportedMediaType(ServiceError):
    """The body must be JSON: send it with Content-Type: application/json."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class DispatchUnavailable(ServiceError):
    """The task is stored but no worker could be asked for; call execute again."""

    code = "DISPATCH_UNAVAILABLE"


class TooManyRequests(ServiceError):
    """The service has more to do than it can at the moment; send the request again later."""

    code = "TOO_MANY_REQUESTS"


class ServiceUnavailable(ServiceError):
    """The service cannot reach its own data at the moment; send the request again later."""

    code = "SERVICE_UNAVAILABLE"


class InternalError(ServiceError):
    """Something went wrong on our side; the log has it under this correlation id."""

    code = "INTERNAL_ERROR"


class ListGone(InternalError):
    """The list of the batch's files is gone or damaged."""


class DispatchDelayed(ServiceError):
    """The dispatcher gave no answer, or is too busy for one; nobody needs to do anything but wait."""


class Conflict(ServiceError):
    """Somebody else was faster; read the task again and decide anew."""


class TaskExists(Conflict):
    """A task with this id is already stored."""


class TaskChanged(Conflict):
    """The task is no longer in the version that was read."""


class RecordChanged(Conflict):
    """The record is there already, or no longer in the version that was read."""


class FenceLost(Conflict):
    """The task is not, or no longer, held under this fence."""
