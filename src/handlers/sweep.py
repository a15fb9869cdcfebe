"""The sweep on AWS Lambda, by a schedule: once a minute everything that is due is attended to.

Two at once do no harm, and one that is cut off leaves the rest to the next: all that they do is conditional writes.
What lives comes first, and leaves the notices and the clearing up some time of their own.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import Metrics, MetricUnit

from core import aftermath, load, sweep, uploads, wiring, workers
from core.aws import backlog
from core.errors import ServiceError
from core.ports import Services
from core.settings import Settings
from core.sweep_batches import sweep_batches
from core.task import Status
from handlers import logs
from handlers.notifying import with_channels

SERVICE = "transcoding-sweep"
NAMESPACE = "Transcoding"

# A page takes some seconds; so many are left for what comes after, and for a last page that is slow.
LEFT_FOR_LIVE = 45.0
LEFT_FOR_ENDED = 30.0
LEFT_AT_THE_END = 12.0
PAGE = 100

settings = Settings.from_env(os.environ)
logger = logs.for_lambda(SERVICE, settings.log_level)
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)
services = with_channels(wiring.services(settings, os.environ), settings)


@metrics.log_metrics
@logger.inject_lambda_context(correlation_id_path=correlation_paths.EVENT_BRIDGE, clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    def seconds_left() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000

    swept = run(services, now=lambda: datetime.now(UTC), seconds_left=seconds_left)
    swept |= backlog.waiting(settings.job_queues, now=datetime.now(UTC))
    swept |= under_way(services, now=datetime.now(UTC))
    for name, value in swept.items():
        unit = MetricUnit.Seconds if name.endswith("Seconds") else MetricUnit.Count
        metrics.add_metric(name=name, unit=unit, value=value)
    logger.info("swept", extra={"action": "swept", **swept})
    return swept


def run(services: Services, *, now: Callable[[], datetime], seconds_left: Callable[[], float]) -> dict[str, int]:
    """Sweep until nothing moves or time is short; the result is what the metrics are told."""

    def pages(attend: Callable[..., int], *, leaving: float) -> int:
        total = 0
        while seconds_left() > leaving:
            moved = attend(services, now=now(), limit=PAGE)
            total += moved
            if moved == 0:
                break
        return total

    def time_is_up() -> bool:
        return seconds_left() < LEFT_AT_THE_END

    def batches_have_had_theirs() -> bool:
        return seconds_left() < LEFT_FOR_LIVE

    # First: what of them gets a row is handed over below.
    batches = pages(partial(sweep_batches, stopped=batches_have_had_theirs), leaving=LEFT_FOR_LIVE)
    live = pages(sweep.sweep, leaving=LEFT_FOR_ENDED)
    ended = pages(partial(aftermath.sweep, stopped=time_is_up), leaving=LEFT_AT_THE_END)
    pages(partial(uploads.sweep, stopped=time_is_up), leaving=LEFT_AT_THE_END)
    return {
        "BatchesMoved": batches,
        "LiveTasksMoved": live,
        "EndedTasksMoved": ended,
        "OldestDueSeconds": _behind(services, now()),
    }


def under_way(services: Services, *, now: datetime) -> dict[str, int]:
    """The load, for the metrics; what cannot be had for the moment is left out."""
    try:
        workers.sweep(services.records, now=now)
        found = load.load(services, now=now)
    except ServiceError as error:
        logger.warning("the load could not be asked for", extra={"action": "load", "reason": error.code})
        return {}
    return {
        "PendingTasks": found.counts[Status.PENDING],
        "QueuedTasks": found.counts[Status.QUEUED],
        "RunningTasks": found.counts[Status.RUNNING],
        "OldestQueuedSeconds": int(found.oldest_queued_seconds or 0),
        "LiveWorkers": len(found.workers),
    }


def _behind(services: Services, now: datetime) -> int:
    """For how long the live task that waits longest has been due; 0 when none is."""
    oldest = services.store.due(now, limit=1)
    return int((now - oldest[0].due_at).total_seconds()) if oldest and oldest[0].due_at else 0
