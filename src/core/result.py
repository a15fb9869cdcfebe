"""Result: which stored file a request for a task's result is about, or why there is none.

A failed or canceled task has never had a result, whatever was deleted since; a completed one has it until it is deleted
or its time is over. Making the link is left to the web layer.
"""

from datetime import datetime

from core.errors import NotFound, ResultGone, TaskEnded, TaskNotReady, TranscodeFailed
from core.ports import ObjectStore
from core.task import Status, Task

# What no file system, and no key of S3, goes beyond.
_MAX_PART = 255
_MAX_NAME = 900
MAX_NAMED = 20  # of the files that there are, in the answer to who asks for another


def result_key(objects: ObjectStore, task: Task, filename: str | None, *, now: datetime, ask_again_seconds: int) -> str:
    """The key of the file of that name, else of the first output.

    Raises TaskNotReady (and says to ask again in so many seconds), TaskEnded, TranscodeFailed, ResultGone or NotFound.
    """
    _refuse_without_result(task, now=now, ask_again_seconds=ask_again_seconds)
    first = task.outputs[0]
    if filename is None:
        return first.key
    for output in task.outputs:
        if output.filename == filename:
            return output.key
    unlisted = f"{first.key.removesuffix(first.filename)}{filename}"
    if task.output_count > len(task.outputs) and _is_plain(filename) and objects.head(unlisted):
        return unlisted
    raise _no_such_file(task)


def _refuse_without_result(task: Task, *, now: datetime, ask_again_seconds: int) -> None:
    details = {"task_id": task.task_id, "status": task.status.value}
    if not task.status.ended:
        remedy = "execute it first" if task.status is Status.PENDING else "ask again later"
        message = f"The task is {task.status}, so there is no result yet; {remedy}."
        raise TaskNotReady(message, details={**details, "retry_after_seconds": ask_again_seconds})
    if task.status is Status.CANCELED:
        raise TaskEnded("The task was canceled, so it has no result; register a new one.", details=details)
    if task.error:
        failure = {"code": task.error.code, "message": task.error.message, "retryable": task.error.retryable}
        error = {**failure, "details": dict(task.error.details)}
        raise TranscodeFailed(f"The task has failed: {task.error.message}", details={**details, "error": error})
    gone_at = task.purged_at or task.expires_at
    if gone_at and gone_at <= now:
        raise ResultGone(details={"task_id": task.task_id, "gone_at": gone_at.isoformat()})


def _is_plain(filename: str) -> bool:
    """Whether it can be a stored file's name at all, and so is worth a question to the store."""
    parts = filename.split("/")
    fitting = len(filename) <= _MAX_NAME and all(len(part.encode(errors="replace")) <= _MAX_PART for part in parts)
    return fitting and "\0" not in filename and not any(part in ("", ".", "..") for part in parts)


def _no_such_file(task: Task) -> NotFound:
    names = [output.filename for output in task.outputs[:MAX_NAMED]]
    more = f", and {task.output_count - len(names)} more" if task.output_count > len(names) else ""
    message = f"The task has no output of this name; it has {', '.join(names)}{more}."
    return NotFound(message, details={"task_id": task.task_id, "filenames": names, "output_count": task.output_count})
