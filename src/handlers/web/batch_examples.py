"""The examples in the API's description of batches: one batch, in the states that a caller meets."""

from typing import Any

BATCH_ID = "0f6e2d4c-7a1b-4c55-9e3f-5b8a1c2d0000"
CORRELATION_ID = "order-4711"

REGISTRATION: dict[str, Any] = {
    "inputs": [
        "https://media.example.com/talks/opening.mov",
        "https://media.example.com/talks/panel.mov",
        "https://media.example.com/talks/closing.mov",
    ],
    "command": "-i {name} -vf scale=-2:720 -c:v libx264 -crf 23 -c:a aac {stem}.mp4",
    "output_filename": "{stem}.mp4",
    "metadata": {"order": "4711"},
}
OF_A_PREFIX: dict[str, Any] = {
    "input_prefix": "s3://example-media/talks/2026/",
    "preset": "web-mp4-720p",
    "output_filename": "{stem}.mp4",
    "concurrency": 20,
    "delete_inputs": True,
}
OF_A_FOLDER: dict[str, Any] = {
    "input_folder": "/srv/media/talks",
    "command": "-i {name} -i logo.png -filter_complex overlay=10:10 -c:v libx264 -crf 23 -c:a copy {stem}.mp4",
    "input_files": {"logo.png": "https://media.example.com/logo.png"},
    "output_filename": "{stem}.mp4",
}

_NO_COUNTS = dict.fromkeys(("queued", "running", "completed", "failed", "canceled"), 0)
_OPENING, _PANEL, _CLOSING = (f"{BATCH_ID[:-4]}{number:04x}" for number in (1, 2, 3))


def _line(at: str, text: str) -> dict[str, str]:
    return {"at": f"2026-01-15T{at}Z", "text": text}


QUEUED: dict[str, Any] = {
    "batch_id": BATCH_ID,
    "status": "queued",
    "count": 3,
    "counts": {**_NO_COUNTS, "queued": 3},
    "percent": 0.0,
    "converted": [],
    "failures": [],
    "log": [_line("09:30:00", "3 tasks registered")],
    "command": "-i '{name}' -vf scale=-2:720 -c:v libx264 -crf 23 -c:a aac '{stem}.mp4'",
    "input_files": {},
    "output_files": ["{stem}.mp4"],
    "compute": "cpu",
    "concurrency": None,
    "delete_inputs": False,
    "created_at": "2026-01-15T09:30:00Z",
    "canceled_at": None,
    "finished_at": None,
    "timeout_seconds": None,
    "metadata": {"order": "4711"},
    "correlation_id": CORRELATION_ID,
    "key_name": None,
    "callback_url": None,
}
REGISTERED: dict[str, Any] = {**QUEUED, "files": ["opening.mov", "panel.mov", "closing.mov"]}
RUNNING: dict[str, Any] = {
    **QUEUED,
    "status": "running",
    "counts": {**_NO_COUNTS, "queued": 1, "running": 1, "completed": 1},
    "percent": 47.2,
    "converted": [
        {"index": 0, "file": "opening.mov", "task_id": _OPENING, "finished_at": "2026-01-15T09:30:27.500000Z"}
    ],
    "log": [_line("09:30:00", "3 tasks registered"), _line("09:30:27.500000", "opening.mov: completed")],
}
_UNREACHED = "The source of panel.mov answered 404; check that the URL is right."
FAILED: dict[str, Any] = {
    **RUNNING,
    "status": "failed",
    "counts": {**_NO_COUNTS, "completed": 2, "failed": 1},
    "percent": 100.0,
    "converted": [
        *RUNNING["converted"],
        {"index": 2, "file": "closing.mov", "task_id": _CLOSING, "finished_at": "2026-01-15T09:31:02Z"},
    ],
    "failures": [
        {
            "index": 1,
            "file": "panel.mov",
            "task_id": _PANEL,
            "finished_at": "2026-01-15T09:30:28.100000Z",
            "reason": _UNREACHED,
        }
    ],
    "log": [
        *RUNNING["log"],
        _line("09:30:28.100000", f"panel.mov: failed: {_UNREACHED}"),
        _line("09:31:02", "closing.mov: completed"),
        _line("09:31:05", "ended"),
    ],
    "finished_at": "2026-01-15T09:31:05Z",
}
CANCELED: dict[str, Any] = {
    **RUNNING,
    "status": "canceled",
    "counts": {**_NO_COUNTS, "completed": 1, "canceled": 2},
    "percent": 100.0,
    "log": [
        *RUNNING["log"],
        _line("09:30:40", "canceled"),
        _line("09:30:40", "panel.mov: canceled"),
    ],
    "canceled_at": "2026-01-15T09:30:40Z",
}

BAD_LINES: dict[str, Any] = {
    "error": {
        "code": "URL_NOT_ALLOWED",
        "message": "2 of 3 files cannot be taken. The first, opening.mov: The URL of opening.mov has an address that "
        "is not on the public internet.",
        "details": {
            "field": "inputs",
            "count": 2,
            "files": [
                {
                    "index": 0,
                    "file": "opening.mov",
                    "reason": "The URL of opening.mov has an address that is not on the public internet.",
                },
                {
                    "index": 2,
                    "file": "closing.mov",
                    "reason": "The URL of closing.mov has no host.",
                },
            ],
        },
    }
}
NO_SOURCE: dict[str, Any] = {
    "error": {
        "code": "INVALID_ARGUMENT",
        "message": "Give exactly one of inputs, input_folder and input_prefix.",
        "details": {"field": "inputs"},
    }
}
ENDED: dict[str, Any] = {
    "error": {
        "code": "TASK_ENDED",
        "message": "The batch has ended; register a new one.",
        "details": {"batch_id": BATCH_ID},
    }
}
