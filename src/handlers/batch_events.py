"""Events of AWS Batch, by EventBridge: a hint that a job of ours has changed, never the fact.

They come twice, late, out of order or not at all. So nothing is taken from an event but which task to look at; then
AWS Batch itself is asked, and the sweep's moves decide. Whatever cannot be handled is raised: after Lambda's own
retries it lies in the dead-letter queue, and its task is the sweep's.
"""

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.logging import correlation_paths

from core import aftermath, sweep, wiring
from core.aws import batch_event
from core.errors import Conflict, DispatchDelayed, TaskNotFound
from core.ports import Services
from core.settings import Settings
from handlers import logs
from handlers.notifying import with_channels

log = logging.getLogger(__name__)

SERVICE = "transcoding-events"

settings = Settings.from_env(os.environ)
logger = logs.for_lambda(SERVICE, settings.log_level)
queues = [queue for queue in (settings.job_queue, settings.cpu_job_queue) if queue]
services = with_channels(wiring.services(settings, os.environ), settings)


@logger.inject_lambda_context(correlation_id_path=correlation_paths.EVENT_BRIDGE, clear_state=True)
def handler(event: dict[str, Any], context: Any) -> None:
    task_id = batch_event.task_of(event, queues=queues)
    if task_id is None:
        log.info("not of ours", extra={"action": "event_ignored"})
        return
    logger.append_keys(task_id=task_id)
    look(services, task_id, now=datetime.now(UTC))


def look(services: Services, task_id: str, *, now: datetime) -> None:
    """Do for the task what can be done now. Raises when the store cannot be used, or AWS Batch must be mended."""
    try:
        task = sweep.ask_after(services, task_id, now=now)
    except TaskNotFound:
        log.warning("an event of a task that is not there", extra={"action": "event_ignored"})
        return
    except DispatchDelayed as error:  # the sweep will ask again, before Lambda would
        log.warning("left to the sweep", extra={"action": "event_left"}, exc_info=error)
        return
    if task.status.ended:
        with suppress(Conflict, TaskNotFound):  # somebody else is at it
            aftermath.attend(services, task, now=now)
