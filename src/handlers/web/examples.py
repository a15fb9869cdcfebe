"""The examples in the API's description: one task, in the states that a caller meets, and one body for each error."""

from typing import Any

TASK_ID = "6f9b1d1e-4c1b-4f0f-9d57-0a4b3c2d1e0f"
CORRELATION_ID = "order-4711"

REGISTRATION: dict[str, Any] = {
    "command": "-i input.mp4 -vf scale=-2:720 -c:v libx264 -crf 23 -c:a aac output.mp4",
    "input_files": {"input.mp4": "https://media.example.com/talks/opening.mp4"},
    "output_filename": "output.mp4",
    "metadata": {"order": "4711"},
}
TWO_OUTPUTS: dict[str, Any] = {
    "command": "-i input.mp4 -map 0:v -c:v libx264 video.mp4 -map 0:a -c:a aac audio.m4a",
    "input_files": {"input.mp4": "https://media.example.com/talks/opening.mp4"},
    "output_files": ["video.mp4", "audio.m4a"],
}
WITH_OPTIONS: dict[str, Any] = {
    "options": {
        "video": {"codec": "h264", "crf": 21, "fps": 25, "scale": "-2:720"},
        "audio": {"codec": "aac", "bitrate": "128k", "channels": 2},
        "trim": {"start": 5, "duration": "00:01:30"},
    },
    "input_files": {"input.mov": "https://media.example.com/talks/opening.mov"},
    "output_filename": "output.mp4",
}
WITH_PRESET: dict[str, Any] = {
    "preset": "web-mp4-720p",
    "parameters": {"quality": "high", "audio_bitrate": "160k"},
    "input_files": {"input.mov": "https://media.example.com/talks/opening.mov"},
    "output_filename": "output.mp4",
}

_NO_PROGRESS = dict.fromkeys(("percent", "frame", "fps", "speed", "out_time_seconds", "eta_seconds"))
_NO_TIMINGS = dict.fromkeys(("queued_seconds", "download_seconds", "transcode_seconds", "upload_seconds"))

_NOTICE = {"channel": "webhook", "status": "pending", "tries": 0, "due_at": None, "delivered_at": None, "error": None}

PENDING: dict[str, Any] = {
    "task_id": TASK_ID,
    "status": "pending",
    "stage": None,
    "progress": _NO_PROGRESS,
    "command": REGISTRATION["command"],
    "input_files": REGISTRATION["input_files"],
    "output_files": ["output.mp4"],
    "outputs": [],
    "output_count": 0,
    "output_url": None,
    "error": None,
    "timings": _NO_TIMINGS,
    "attempt": 0,
    "attempts": [],
    "compute": "cpu",
    "queue_reason": None,
    "created_at": "2026-01-15T09:30:00Z",
    "queued_at": None,
    "started_at": None,
    "finished_at": None,
    "expires_at": None,
    "purged_at": None,
    "timeout_seconds": None,
    "metadata": {"order": "4711"},
    "destination": None,
    "correlation_id": CORRELATION_ID,
    "batch_id": None,
    "key_name": None,
    "callback_url": "https://hooks.example.com/transcoded",
    "notices": [_NOTICE],
}


def _attempt(number: int, started_at: str, finished_at: str | None = None, **ending: str) -> dict[str, Any]:
    times = {"number": number, "started_at": f"2026-01-15T{started_at}Z"}
    finished = f"2026-01-15T{finished_at}Z" if finished_at else None
    return {**times, "finished_at": finished, **dict.fromkeys(("ending", "code", "message", "note")), **ending}


QUEUED: dict[str, Any] = {**PENDING, "status": "queued", "queued_at": "2026-01-15T09:30:02Z"}
DELAYED: dict[str, Any] = {
    **QUEUED,
    "queue_reason": "The dispatcher gave no answer, or is too busy for one; nobody needs to do anything but wait.",
}
RUNNING: dict[str, Any] = {
    **QUEUED,
    "status": "running",
    "stage": "transcoding",
    "progress": {
        "percent": 41.7,
        "frame": 1501,
        "fps": 182.4,
        "speed": 6.1,
        "out_time_seconds": 50.0,
        "eta_seconds": 11.5,
    },
    "timings": {**_NO_TIMINGS, "queued_seconds": 1.2, "download_seconds": 3.4},
    "attempt": 1,
    "attempts": [_attempt(1, "09:30:03.200000")],
    "started_at": "2026-01-15T09:30:03.200000Z",
}

_LINK = (
    "https://example-outputs.s3.eu-central-1.amazonaws.com/outputs/"
    f"{TASK_ID}/1/output.mp4?X-Amz-Expires=3600&X-Amz-Signature=..."
)
_VIDEO = {
    "type": "video",
    "codec": "h264",
    "width": 1280,
    "height": 720,
    "frame_rate": 30.0,
    "pixel_format": "yuv420p",
    "sample_aspect_ratio": "1:1",
    "channels": None,
    "channel_layout": None,
    "sample_rate": None,
    "bit_rate": 1850000,
}
COMPLETED: dict[str, Any] = {
    **RUNNING,
    "status": "completed",
    "stage": None,
    "progress": {**RUNNING["progress"], "percent": 100.0, "frame": 3600, "out_time_seconds": 120.0, "eta_seconds": 0.0},
    "outputs": [
        {
            "filename": "output.mp4",
            "url": _LINK,
            "s3_uri": f"s3://example-outputs/outputs/{TASK_ID}/1/output.mp4",
            "size_bytes": 27750000,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "media": {"container": "mp4", "duration_seconds": 120.0, "bit_rate": 1850000, "streams": [_VIDEO]},
        }
    ],
    "output_count": 1,
    "output_url": _LINK,
    "timings": {"queued_seconds": 1.2, "download_seconds": 3.4, "transcode_seconds": 19.7, "upload_seconds": 1.1},
    "attempts": [_attempt(1, "09:30:03.200000", "09:30:27.500000", ending="completed")],
    "finished_at": "2026-01-15T09:30:27.500000Z",
    "expires_at": "2026-01-16T09:30:27.500000Z",
    "notices": [{**_NOTICE, "status": "delivered", "tries": 1, "delivered_at": "2026-01-15T09:30:28.100000Z"}],
}
PURGED: dict[str, Any] = {**COMPLETED, "outputs": [], "output_url": None, "purged_at": "2026-01-16T09:31:00Z"}

_UNREACHED = "The source of input.mp4 answered 503; try again when it is back."
_FAILED_ATTEMPT = {"ending": "failed", "code": "DOWNLOAD_FAILED", "message": _UNREACHED}
RETRYING: dict[str, Any] = {
    **QUEUED,
    "attempt": 1,
    "attempts": [_attempt(1, "09:30:03.200000", "09:30:04.100000", **_FAILED_ATTEMPT)],
    "timings": {**_NO_TIMINGS, "queued_seconds": 1.2, "download_seconds": 0.9},
    "started_at": "2026-01-15T09:30:03.200000Z",
}
FAILED: dict[str, Any] = {
    **RETRYING,
    "status": "failed",
    "attempt": 3,
    "attempts": [
        *RETRYING["attempts"],
        _attempt(2, "09:30:21.900000", "09:30:22.800000", **_FAILED_ATTEMPT),
        _attempt(3, "09:31:14.500000", "09:31:15.400000", **_FAILED_ATTEMPT),
    ],
    "timings": {**_NO_TIMINGS, "queued_seconds": 51.7, "download_seconds": 0.9},
    "started_at": "2026-01-15T09:31:14.500000Z",
    "finished_at": "2026-01-15T09:31:15.400000Z",
    "error": {
        "code": "DOWNLOAD_FAILED",
        "message": _UNREACHED,
        "retryable": True,
        "details": {"input": "input.mp4", "http_status": 503},
    },
}
CANCELED: dict[str, Any] = {
    **RUNNING,
    "status": "canceled",
    "stage": None,
    "attempts": [_attempt(1, "09:30:03.200000", "09:30:12.600000", ending="canceled")],
    "finished_at": "2026-01-15T09:30:12.600000Z",
}

_LISTED = (
    *("task_id", "status", "stage", "progress", "command", "output_files", "output_count", "attempt", "compute"),
    *("queue_reason", "created_at", "queued_at", "started_at", "finished_at", "expires_at", "purged_at", "metadata"),
    *("correlation_id", "batch_id"),
)


def _listed(task: dict[str, Any]) -> dict[str, Any]:
    error = task["error"] and {name: task["error"][name] for name in ("code", "message", "retryable")}
    return {**{name: task[name] for name in _LISTED}, "error": error}


CURSOR = "MjAyNi0wMS0xNVQwOTozMDowMCswMDowMCA2ZjliMWQxZS00YzFiLTRmMGYtOWQ1Ny0wYTRiM2MyZDFlMGY"
TASK_PAGE: dict[str, Any] = {"items": [_listed(RUNNING), _listed(FAILED)], "next_cursor": CURSOR}
LAST_PAGE: dict[str, Any] = {"items": [_listed(COMPLETED)], "next_cursor": None}

LOG = f"""$ ffmpeg {REGISTRATION["command"]}
[aac @] [warning] Too many bits 8832.000000 > 6144 per frame requested, clamping to max
ffmpeg ended with exit code 0.
"""

VALID: dict[str, Any] = {
    "valid": True,
    "command": REGISTRATION["command"],
    "arguments": [
        *("-nostdin", "-hide_banner", "-y", "-loglevel", "level+warning", "-nostats", "-max_alloc", "536870912"),
        *("-progress", "pipe:3", "-stats_period", "0.5", "-protocol_whitelist", "file"),
        *("-format_whitelist", "mov,matroska,mp3", "-max_pixels", "67108864", "-i", "file:../in/i0.mp4"),
        *("-vf", "scale=w=-2:h=720", "-c:v", "libx264", "-crf", "23", "-c:a", "aac"),
        *("-fs", "53687091200", "file:./output.mp4"),
    ],
    "compute": "cpu",
    "cpu_command": None,
    "warnings": ["output.mp4 is played only when it is loaded whole: add -movflags +faststart."],
    "violations": [],
}
INVALID: dict[str, Any] = {
    "valid": False,
    "command": None,
    "arguments": None,
    "compute": "cpu",
    "cpu_command": None,
    "warnings": [],
    "violations": [
        {
            "position": 3,
            "token": "movie=logo.png[l];[in][l]overlay",
            "reason": "The filter movie is not allowed: it opens files that are not declared.",
        }
    ],
}

_BOUNDS: dict[str, Any] = {"least": None, "most": None, "allowed": []}
PRESETS: dict[str, Any] = {
    "presets": [
        {
            "name": "web-mp4-720p",
            "summary": "MP4 for the web, at most 720 lines: H.264 and AAC. Never scaled up.",
            "extensions": ["mp4", "m4v"],
            "gpu": True,
            "looks": None,
            "parameters": [
                {
                    **_BOUNDS,
                    "name": "quality",
                    "type": "word",
                    "description": "How much of the picture is kept, in the measure of the encoder.",
                    "default": "balanced",
                    "allowed": ["high", "balanced", "small"],
                },
                {
                    **_BOUNDS,
                    "name": "audio_bitrate",
                    "type": "bitrate",
                    "description": "Of the sound, which is stereo.",
                    "default": "128k",
                    "least": 32000,
                    "most": 512000,
                },
            ],
        }
    ]
}

_CHECKS = {
    "task_store": {"ready": True, "detail": "tasks are stored in a table of DynamoDB"},
    "object_store": {"ready": True, "detail": "outputs are stored in a bucket of S3"},
    "dispatcher": {"ready": True, "detail": "workers are started by AWS Batch"},
}
HEALTHY: dict[str, Any] = {"status": "healthy", "ffmpeg": {"version": "7.1"}, "checks": _CHECKS}
UNHEALTHY: dict[str, Any] = {
    "status": "unhealthy",
    "ffmpeg": {"version": "7.1"},
    "checks": {
        **_CHECKS,
        "dispatcher": {"ready": False, "detail": "The dispatcher cannot be used; the log says why."},
    },
}


def error(code: str, message: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details or {}}}


NO_LOG = error(
    "NOT_FOUND",
    "The task has no log: none of its attempts has come to the end of a run of ffmpeg.",
    {"task_id": TASK_ID, "status": "queued"},
)
_MISSING = "input_files is required."
ERRORS: dict[str, dict[str, Any]] = {
    "UNAUTHENTICATED": error("UNAUTHENTICATED", "A key is needed: send one that this service knows as X-API-Key."),
    "PERMISSION_DENIED": error("PERMISSION_DENIED", "This is for admins: send the key of one."),
    "SETTINGS_CHANGED": error(
        "SETTINGS_CHANGED",
        "The settings are no longer in the version that If-Match names; read them again, and decide anew.",
        {"version": 4},
    ),
    "INVALID_ARGUMENT": error(
        "INVALID_ARGUMENT",
        _MISSING,
        {"field": "input_files", "errors": [{"field": "input_files", "message": _MISSING}]},
    ),
    "COMMAND_NOT_ALLOWED": error(
        "COMMAND_NOT_ALLOWED",
        "The command is not allowed.",
        {"violations": [{"position": 4, "token": "-dump_attachment", "reason": "This option is not allowed."}]},
    ),
    "URL_NOT_ALLOWED": error(
        "URL_NOT_ALLOWED",
        "The URL of input_files.input.mp4 has an address that is not on the public internet.",
        {"field": "input_files.input.mp4"},
    ),
    "TASK_NOT_FOUND": error("TASK_NOT_FOUND", "There is no task with this id."),
    "UPLOAD_NOT_FOUND": error(
        "UPLOAD_NOT_FOUND",
        "There is no upload with this id: it has expired or was deleted, or there never was one.",
    ),
    "UPLOAD_INCOMPLETE": error(
        "UPLOAD_INCOMPLETE",
        "1 of 3 parts are missing or not whole: send those in details.missing_parts, then complete it again.",
        {"missing_parts": [2]},
    ),
    "FILE_TOO_LARGE": error(
        "FILE_TOO_LARGE",
        "The file has 32212254720 bytes, and at most 21474836480 are taken.",
        {"size_bytes": 32212254720, "max_bytes": 21474836480},
    ),
    "BATCH_NOT_FOUND": error("BATCH_NOT_FOUND", "There is no batch with this id."),
    "TASK_ENDED": error(
        "TASK_ENDED",
        "The task has ended as completed; register a new one.",
        {"task_id": TASK_ID, "status": "completed"},
    ),
    "TASK_NOT_READY": error(
        "TASK_NOT_READY",
        "The task is running, which does not allow to notify it; cancel it or wait until it has ended.",
        {"task_id": TASK_ID, "status": "running"},
    ),
    "IDEMPOTENCY_CONFLICT": error(
        "IDEMPOTENCY_CONFLICT",
        "This Idempotency-Key came with another request before; send a new key with a new request.",
        {"task_id": TASK_ID},
    ),
    "RESULT_GONE": error(
        "RESULT_GONE",
        "What the task had stored is deleted; register a new task to have it again.",
        {"task_id": TASK_ID, "gone_at": "2026-01-16T09:31:00+00:00"},
    ),
    "TRANSCODE_FAILED": error(
        "TRANSCODE_FAILED",
        f"The task has failed: {_UNREACHED}",
        {"task_id": TASK_ID, "status": "failed", "error": FAILED["error"]},
    ),
    "NOT_FOUND": error(
        "NOT_FOUND",
        "The task has no output of this name; it has output.mp4.",
        {"task_id": TASK_ID, "filenames": ["output.mp4"], "output_count": 1},
    ),
    "REQUEST_TOO_LARGE": error("REQUEST_TOO_LARGE", "The request body is too large."),
    "UNSUPPORTED_MEDIA_TYPE": error(
        "UNSUPPORTED_MEDIA_TYPE", "The body must be JSON: send it with Content-Type: application/json."
    ),
    "INTERNAL_ERROR": error(
        "INTERNAL_ERROR", "Something went wrong on our side; the log has it under this correlation id."
    ),
    "DISPATCH_UNAVAILABLE": error(
        "DISPATCH_UNAVAILABLE",
        "The task is stored but no worker could be asked for; call execute again.",
        {"task_id": TASK_ID, "retry_after_seconds": 20},
    ),
    "TOO_MANY_REQUESTS": error(
        "TOO_MANY_REQUESTS",
        "The service has more to do than it can at the moment; send the request again later.",
    ),
    "SERVICE_UNAVAILABLE": error(
        "SERVICE_UNAVAILABLE",
        "The service cannot reach its own data at the moment; send the request again later.",
    ),
}
