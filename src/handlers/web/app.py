"""The HTTP API as an ASGI application, the same on Lambda and on one machine.

It knows nothing of either: what it runs on comes in as arguments, and nothing is opened before the first request.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fastapi import FastAPI

from core.live_settings import LiveSettings
from core.load import Machine
from core.ports import Services
from core.settings import Settings
from handlers.web import errors, files, routes, sign_in, uploads
from handlers.web.middleware import BodyLimit, Correlated

if TYPE_CHECKING:
    from handlers.web.metrics import Metrics

TITLE = "URL-to-S3 transcoding"
VERSION = "0.1.0"


def _now() -> datetime:
    return datetime.now(UTC)


def _uuid() -> str:
    return str(uuid4())


def _ignore(_: str) -> None:
    return None


class _Api(FastAPI):
    """Describes itself when somebody asks it to: that takes as long as the rest of its making, at each cold start."""

    def __init__(self, operations: routes.Operations, **options: Any) -> None:
        super().__init__(**options)
        self._operations = operations

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            from handlers.web import docs

            described = FastAPI(
                title=self.title, version=self.version, description=docs.DESCRIPTION, openapi_tags=docs.TAGS
            )
            routes.install(described, self._operations, words=docs.words)
            self.openapi_schema = docs.with_examples(described.openapi())
            if self._operations.settings.api_keys:
                sign_in.describe(self.openapi_schema)
        return self.openapi_schema


def create_app(
    services: Services,
    settings: Settings,
    *,
    ffmpeg_version: str,
    sandbox: str | None = None,
    clock: Callable[[], datetime] = _now,
    new_id: Callable[[], str] = _uuid,
    count: Callable[[str], None] = _ignore,
    open_link: files.OpenLink | None = None,
    live: LiveSettings | None = None,
    machine: Callable[[], Machine] | None = None,
    metrics: "Metrics | None" = None,
    take_part: uploads.TakePart | None = None,
    pace: uploads.Pace = uploads.PACE,
) -> FastAPI:
    """The API on `services`.

    `sandbox` says how ffmpeg is contained, where it runs on this machine. `count` is told the name of each thing that
    is worth a metric. `open_link` is given where the service itself serves its outputs; without it there is no
    `/files`. `take_part` likewise where it takes the parts of uploads, which come at that `pace` at least. `live` is
    given where others in this process follow the settings too, `machine` where there is one to look at, and
    `metrics` where they can be read at `/metrics`.
    """
    operations = routes.Operations(
        all_services=services,
        settings=settings,
        ffmpeg_version=ffmpeg_version,
        sandbox=sandbox,
        clock=clock,
        new_id=new_id,
        count=count,
        machine=machine,
        live=live or LiveSettings(services.records, settings, services.presets),
    )
    app = _Api(
        operations,
        title=TITLE,
        version=VERSION,
        redoc_url=None,
        # A redirect would be made from the Host header, which is the caller's to choose.
        redirect_slashes=False,
    )
    errors.install(app)
    routes.install(app, operations)
    # As the application's own: of an included router, errors.py does not learn which methods a path takes.
    if open_link:
        app.router.routes += files.router(open_link).routes
    if metrics:
        app.router.routes += metrics.router().routes
    if take_part:
        app.router.routes += uploads.router(take_part, settings.upload_origins, pace).routes
    # The last one added is the outermost.
    app.add_middleware(BodyLimit)
    app.add_middleware(sign_in.SignIn, settings=settings, clock=clock)
    app.add_middleware(Correlated, new_id=new_id, observe=metrics.observe if metrics else None)
    return app
