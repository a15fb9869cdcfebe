"""The service of one machine in the format of Prometheus, at /metrics; on AWS the sweep sends the same to CloudWatch.

Requests are counted here as they are answered. All else is asked when somebody looks, and so is never older than that.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from core.load import Load, Machine, load
from core.ports import Services
from handlers.web.admin import admins_only

# A status is answered in milliseconds; a register that waits for a disk in some more.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What is counted in this process; `machine` says what it is busy with, the pool included."""

    def __init__(self, services: Services, *, machine: Callable[[], Machine], clock: Callable[[], datetime]) -> None:
        self._services = services
        self._machine = machine
        self._clock = clock
        self._registry = CollectorRegistry()
        labels = ("operation", "status")
        self._requests = Counter(
            "transcoding_http_requests", "Requests that were answered.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "transcoding_http_request_duration_seconds",
            "How long the answers took.",
            labels[:1],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Asked(self._families))

    def observe(self, operation: str, status: int, seconds: float) -> None:
        self._requests.labels(operation, str(status)).inc()
        self._seconds.labels(operation).observe(seconds)

    def router(self) -> APIRouter:
        made = APIRouter()
        made.add_api_route(
            "/metrics", self.metrics, methods=["GET"], dependencies=[Depends(admins_only)], include_in_schema=False
        )
        return made

    def metrics(self) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def _families(self) -> Iterator[Metric]:
        now = self._clock()
        yield from _of_tasks(load(self._services, now=now))
        yield from _of_machine(self._machine())


class _Asked:
    """What prometheus_client asks for metrics, each time that somebody looks."""

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    def describe(self) -> Iterator[Metric]:
        """Nothing: or it would ask for the metrics themselves when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        return self._families()


def _of_tasks(found: Load) -> Iterator[Metric]:
    tasks = GaugeMetricFamily("transcoding_tasks", "Tasks by status, as they are now.", labels=["status"])
    for status, number in found.counts.items():
        tasks.add_metric([status.value], number)
    yield tasks
    ended = GaugeMetricFamily("transcoding_tasks_ended_last_hour", "Tasks that have ended.", labels=["status"])
    for name in ("completed", "failed", "canceled"):
        ended.add_metric([name], getattr(found.last_hour, name))
    yield ended
    yield _gauge("oldest_queued_seconds", "For how long a task has waited, at most.", found.oldest_queued_seconds or 0)
    yield _gauge("workers", "Workers that were heard of in the last minute.", len(found.workers))


def _of_machine(machine: Machine) -> Iterator[Metric]:
    yield _gauge("pool_size", "Workers that there may be.", machine.pool.size)
    yield _gauge("pool_running", "Workers that there are.", machine.pool.running)
    yield _gauge("pool_waiting", "Tasks that wait for a worker.", machine.pool.waiting)
    yield _gauge("machine_load_average", "Of the last minute.", machine.load_average)
    yield _gauge("machine_memory_available_bytes", "Memory that is free to use.", machine.memory_available_bytes)
    disks = GaugeMetricFamily("transcoding_disk_free_bytes", "Room on the disk, by what is kept there.", labels=["of"])
    for name, disk in machine.disks.items():
        disks.add_metric([name], disk.free_bytes)
    yield disks


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"transcoding_{name}", text, value=value)
