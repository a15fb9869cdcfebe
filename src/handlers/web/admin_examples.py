"""The examples of the operations for admins."""

from typing import Any

from handlers.web.examples import TASK_ID

NEW_SETTINGS: dict[str, Any] = {
    "default_preset": "web-mp4-720p",
    "default_quality": None,
    "result_ttl_hours": 48,
    "max_concurrent_tasks": 3,
}


def _setting(value: str | int | None, source: str) -> dict[str, Any]:
    return {"value": value, "source": source}


SETTINGS: dict[str, Any] = {
    "default_preset": _setting("web-mp4-720p", "stored"),
    "default_quality": _setting(None, "environment"),
    "result_ttl_hours": _setting(48, "stored"),
    "max_concurrent_tasks": _setting(3, "stored"),
    "version": 3,
    "changed_at": "2026-01-15T09:30:00Z",
    "changed_by": "root",
}
UNTOUCHED: dict[str, Any] = {
    "default_preset": _setting(None, "environment"),
    "default_quality": _setting(None, "environment"),
    "result_ttl_hours": _setting(24, "environment"),
    "max_concurrent_tasks": None,
    "version": 0,
    "changed_at": None,
    "changed_by": None,
}
_NONE = {"completed": 0, "failed": 0, "canceled": 0, "mean_seconds": None}
_WORKER = {
    "task_id": TASK_ID,
    "attempt": 1,
    "host": "ip-10-71-1-23",
    "started_at": "2026-01-15T09:30:03.200000Z",
    "seen_at": "2026-01-15T09:30:25.400000Z",
    "cpu_cores": 1.86,
    "memory_bytes": 512_000_000,
    "gpus": [{"use_percent": 37.0, "memory_used_bytes": 1_073_741_824, "memory_total_bytes": 16_106_127_360}],
}
BUSY: dict[str, Any] = {
    "tasks": {"pending": 4, "queued": 12, "running": 2},
    "counted_up_to": 10_000,
    "oldest_queued_seconds": 41.2,
    "last_minute": {"completed": 3, "failed": 0, "canceled": 0, "mean_seconds": 24.7},
    "last_hour": {"completed": 151, "failed": 2, "canceled": 1, "mean_seconds": 25.1},
    "workers": [_WORKER],
    "machine": {
        "cores": 4,
        "load_average": 3.1,
        "memory_total_bytes": 16_777_216_000,
        "memory_available_bytes": 12_884_901_888,
        "disks": {
            "data": {"total_bytes": 107_374_182_400, "free_bytes": 53_687_091_200},
            "scratch": {"total_bytes": 107_374_182_400, "free_bytes": 53_687_091_200},
        },
        "pool": {"size": 2, "running": 2, "waiting": 12},
    },
}
IDLE: dict[str, Any] = {
    **BUSY,
    "tasks": {"pending": 0, "queued": 0, "running": 0},
    "oldest_queued_seconds": None,
    "last_minute": _NONE,
    "last_hour": _NONE,
    "workers": [],
    "machine": None,
}
