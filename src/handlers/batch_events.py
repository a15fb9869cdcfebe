"""Events of AWS Batch, by EventBridge: a hint that a job of ours has changed, never the fact.

They come twice, late, out of order or not at all. So nothing is taken from an event but which task to look at; then
AWS Batch itself is asked, and the sweep's moves decide. The child of an array is for many tasks, each of which is
looked at. Whatever cannot be handled is raised: after Lambda's own retries it lies in the dead-letter queue, and its
task is the sweep's.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from core import aftermath, sweep, sweep_slice, wiring
from core.aws import batch_event
from core.batch import has_own_job
from core.errors import Conflict, DispatchDelayed, TaskNotFound
from core.ports import Services
from core.settings import Settings
from core.task import Status, Task
from handlers import logs
from handlers.notifying import with_channels

log = logging.getLogger(__name__)

SERVICE = "transcoding-events"
NAMESPACE = "Transcoding"
PARALLEL = 8
LEFT_AT_THE_END = 15.0  # seconds; a notice takes up to 12

_ENDINGS = {
    Status.COMPLETED: "TasksCompleted",
    Status.FAILED: "TasksFailed",
    Status.CANCELED: "TasksCanceled",
}

settings = Settings.from_env(os.environ)
logger = logs.for_lambda(SERVICE, settings.log_level)
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)
services = with_channels(wiring.services(settings, os.environ), settings)


@logger.inject_lambda_context(correlation_id_path=correlation_paths.EVENT_BRIDGE, clear_state=True)
def handler(event: dict[str, Any], context: Any) -> None:
    def time_is_up() -> bool:
        return float(context.get_remaining_time_in_millis()) / 1000 < LEFT_AT_THE_END

    task_id = batch_event.task_of(event, queues=settings.job_queues)
    part = batch_event.slice_of(event, queues=settings.job_queues)
    now = datetime.now(UTC)
    if task_id:
        logger.append_keys(task_id=task_id)
        _measure([look(services, task_id, now=now)])
    elif part:
        logger.append_keys(batch_id=part.batch_id)
        _measure(look_at_slice(services, part, now=now, stopped=time_is_up))
    else:
        log.info("not of ours", extra={"action": "event_ignored"})


def _measure(tasks: Sequence[Task | None]) -> None:
    ended = [task for task in tasks if task and task.status.ended]
    for task in ended:
        for name, value in figures(task).items():
            unit = MetricUnit.Seconds if "Seconds" in name else MetricUnit.Count
            metrics.add_metric(name=name, unit=unit, value=value)
    if ended:
        metrics.flush_metrics()


def look_at_slice(
    services: Services, part: batch_event.Slice, *, now: datetime, stopped: Callable[[], bool] = lambda: False
) -> list[Task | None]:
    """Look at each task that the slice's worker may have held last; at no further one once `stopped` says so.

    Raises as `look` does.
    """
    task_ids = sweep_slice.sweep_slice(services, part.batch_id, part.number, now=now)

    def looked(task_id: str) -> Task | None:
        task = None if stopped() else look(services, task_id, now=now)
        return task if task and not has_own_job(task) else None  # else its own job's events tell of it

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="slice") as pool:
        return list(pool.map(looked, task_ids))


def look(services: Services, task_id: str, *, now: datetime) -> Task | None:
    """Do for the task what can be done now; gives it as it was found, None when it is not there or is left.

    Raises when the store cannot be used, or AWS Batch must be mended.
    """
    try:
        task = sweep.ask_after(services, task_id, now=now)
    except TaskNotFound:
        log.warning("an event of a task that is not there", extra={"action": "event_ignored"})
        return None
    except DispatchDelayed as error:  # the sweep will ask again, before Lambda would
        log.warning("left to the sweep", extra={"action": "event_left"}, exc_info=error)
        return None
    if task.status.ended:
        with suppress(Conflict, TaskNotFound):  # somebody else is at it
            aftermath.attend(services, task, now=now)
    return task


def figures(task: Task) -> Mapping[str, float]:
    """What the metrics are told of a task that has ended. A doubled event tells it twice, a lost one not at all."""
    worked = sum((last - tried.started_at).total_seconds() for tried in task.attempts if (last := tried.finished_at))
    found = {_ENDINGS[task.status]: 1.0, f"{task.compute.capitalize()}WorkerSeconds": worked}
    if task.status is Status.COMPLETED and task.queued_at and task.finished_at:
        found["SecondsToDone"] = (task.finished_at - task.queued_at).total_seconds()
    return found
