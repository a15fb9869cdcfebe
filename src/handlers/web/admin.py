"""The operations for admins: the settings at run time, and the load. Without any keys everybody is one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header
from starlette.responses import Response

from core import load
from core.errors import InvalidArgument, PermissionDenied
from core.live_settings import LiveSettings, Stored
from core.load import Machine
from core.ports import Services
from core.settings import Settings
from handlers.web import admin_models, sign_in

_ETAG = re.compile(r'"(\d{1,18})"')

IfMatch = Annotated[
    str | None,
    Header(
        description="The `ETag` of the settings that the change is made to: where they have changed meanwhile, nothing "
        "is set. Without it, they are replaced whatever they are.",
        examples=['"3"'],
    ),
]


@dataclass(frozen=True, kw_only=True)
class Admin:
    services: Services
    settings: Settings  # the environment's
    live: LiveSettings
    clock: Callable[[], datetime]
    machine: Callable[[], Machine] | None  # what this machine is busy with, where there is one

    def settings_shown(self) -> Response:
        return self._settings(self.live.stored(now=self.clock()))

    def settings_put(self, body: admin_models.NewSettings, if_match: IfMatch = None) -> Response:
        stored = self.live.put(
            body.model_dump(),
            now=self.clock(),
            changed_by=sign_in.caller().name,
            expected=_version(if_match),
        )
        return self._settings(stored)

    def system(self) -> Response:
        found = load.load(self.services, now=self.clock())
        shown = admin_models.shown_load(found, self.machine() if self.machine else None)
        return Response(shown.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})

    def _settings(self, stored: Stored) -> Response:
        shown = admin_models.shown_settings(self.settings, stored)
        return Response(shown.model_dump_json(), media_type="application/json", headers={"ETag": f'"{stored.version}"'})


def admins_only() -> None:
    """Raise PermissionDenied unless the caller is one."""
    if not sign_in.caller().admin:
        raise PermissionDenied


def install(app: FastAPI, admin: Admin, *, json_body: Any, words: Callable[[str], dict[str, Any]]) -> None:
    add: Callable[..., Any] = app.add_api_route
    for_admins: Any = Depends(admins_only)
    add("/ffmpeg/settings", admin.settings_shown, methods=["GET"], dependencies=[for_admins], **words("settings"))
    put = {"methods": ["PUT"], "dependencies": [for_admins, Depends(json_body)]}
    add("/ffmpeg/settings", admin.settings_put, **put, **words("put_settings"))
    add("/ffmpeg/system", admin.system, methods=["GET"], dependencies=[for_admins], **words("system"))


def _version(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        message = 'If-Match must be the ETag of the settings, such as "3", with its quotation marks.'
        raise InvalidArgument(message, details={"field": "If-Match"})
    return int(found[1])
