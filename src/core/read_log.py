"""Read a task's log: that of its newest attempt that has one.

Workers store it, bounded and scrubbed, when an attempt in which ffmpeg was run is completed or has failed.
"""

from core.errors import NotFound, ResultGone
from core.ports import Services
from core.task import Status, Task

MAX_BYTES = 64 * 1024


def read_log(services: Services, task: Task) -> bytes:
    """UTF-8 text. Raises NotFound when there is none, and ResultGone when it was deleted."""
    if task.purged_at:
        raise ResultGone(details={"task_id": task.task_id, "gone_at": task.purged_at.isoformat()})
    for fence in range(task.fence, 0, -1):
        found = services.objects.read(services.log_key(task, fence), most_bytes=MAX_BYTES)
        if found is not None:
            return found
    details = {"task_id": task.task_id, "status": task.status.value}
    raise NotFound(f"The task has no log: {_why_none(task)}.", details=details)


def _why_none(task: Task) -> str:
    if task.error and "exit_code" in task.error.details:
        return "ffmpeg ended, but what it said could not be stored. The end of it is in the task's error.details.log"
    if task.status is Status.COMPLETED:
        return "ffmpeg ended, but what it said could not be stored"
    never = "none of its attempts has come to the end of a run of ffmpeg"
    return never if task.timings.transcode_seconds is None else f"{never}, or what it said could not be stored"
