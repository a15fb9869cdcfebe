"""The examples of uploads in the API's description: one that comes in three parts, as it goes."""

from typing import Any

UPLOAD_ID = "0d6c2f3a-7b1e-4c58-9a44-5e8f1d2c3b4a"
NEW: dict[str, Any] = {"filename": "opening.mov", "size_bytes": 157286400}


def _part(number: int, size_bytes: int, *, received: bool) -> dict[str, Any]:
    place = f"https://example-outputs.s3.eu-central-1.amazonaws.com/uploads/{UPLOAD_ID}/file"
    url = None if received else f"{place}?partNumber={number}&uploadId=...&X-Amz-Signature=..."
    return {"number": number, "size_bytes": size_bytes, "received": received, "url": url, "headers": {}}


def _parts(*received: int) -> list[dict[str, Any]]:
    sizes = {1: 67108864, 2: 67108864, 3: 23068672}
    return [_part(number, size, received=number in received) for number, size in sizes.items()]


BEGUN: dict[str, Any] = {
    "upload_id": UPLOAD_ID,
    "input": f"upload:{UPLOAD_ID}",
    "status": "open",
    **NEW,
    "part_size_bytes": 67108864,
    "parts": _parts(),
    "expires_at": "2026-01-16T09:30:00Z",
}
OPEN: dict[str, Any] = {**BEGUN, "parts": _parts(1, 3)}
COMPLETE: dict[str, Any] = {
    **BEGUN,
    "status": "complete",
    "parts": _parts(1, 2, 3),
    "expires_at": "2026-01-16T09:34:12.250000Z",
}
