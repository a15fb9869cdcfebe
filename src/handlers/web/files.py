"""Outputs by signed link, where the service keeps them itself: GET and HEAD, with Range.

A link that is forged and one that has expired get the same answer as one to nothing: there is nothing here to probe.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter
from starlette.responses import FileResponse

from core.errors import NotFound


class LinkedFile(Protocol):
    @property
    def path(self) -> Path: ...

    @property
    def content_type(self) -> str: ...


OpenLink = Callable[[str, str], LinkedFile | None]
"""A link's token and key to what it stands for, or None."""


def router(open_link: OpenLink) -> APIRouter:
    routes = APIRouter()

    def file(token: str, key: str) -> FileResponse:
        found = open_link(token, key)
        if found is None:
            raise NotFound("This link does not work, or no longer: read the task's status for a fresh one.")
        # An output is somebody's upload: a browser must take it for what we say it is, and for nothing else.
        return FileResponse(found.path, media_type=found.content_type, headers={"X-Content-Type-Options": "nosniff"})

    routes.add_api_route("/files/{token}/{key:path}", file, methods=["GET", "HEAD"], include_in_schema=False)
    return routes
