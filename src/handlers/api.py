"""The API on AWS Lambda, behind an HTTP API of API Gateway (payload format 2.0).

The environment is read at import, which is when Lambda starts us. Log records are JSON lines, metrics are lines in the
embedded metric format; both go to standard output, from where Lambda takes them.
"""

import gc
import os
import warnings
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

# A start makes much and drops little: there is nothing to collect until all of it stands.
gc.disable()
# FastAPI has dozens of models for descriptions that are hardly ever asked for. They are built when they are first used.
BaseModel.model_config["defer_build"] = True
import fastapi  # noqa: F401

del BaseModel.model_config["defer_build"]

from aws_lambda_powertools.metrics import Metrics, MetricUnit
from mangum import Mangum

from core import wiring
from core.ffmpeg.option_table import VERSION as FFMPEG_VERSION
from core.settings import Settings
from handlers import logs
from handlers.web.app import create_app
from handlers.web.log_keys import LogKeys

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

SERVICE = "transcoding-api"
NAMESPACE = "Transcoding"

settings = Settings.from_env(wiring.with_keys(os.environ))
logger = logs.for_lambda(SERVICE, settings.log_level)
logger.logger_handler.addFilter(LogKeys())
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)


def _count(name: str) -> None:
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=1)


def _traced(plain: Handler) -> Handler:
    """X-Ray for those who ask for it, by POWERTOOLS_TRACE_DISABLED=false: its SDK alone takes 0.3 s to import."""
    if os.environ.get("POWERTOOLS_TRACE_DISABLED", "true").lower() not in ("false", "0"):
        return plain
    from aws_lambda_powertools.tracing import Tracer

    # An answer holds links that work for whoever reads them; a trace is no place for it.
    traced: Handler = Tracer(service=SERVICE).capture_lambda_handler(plain, capture_response=False)
    return traced


# Most requests have nothing to count, which is nothing to warn about.
warnings.filterwarnings("ignore", message="No application metrics to publish")

if settings.presets_folder:  # a file that cannot be used says so now, not to the first caller who needs it
    from core import presets

    presets.shelf(settings.presets_folder)

app = create_app(wiring.services(settings, os.environ), settings, ffmpeg_version=FFMPEG_VERSION, count=_count)
_adapter = Mangum(app, lifespan="off")
gc.freeze()
gc.enable()


@_traced
@metrics.log_metrics(capture_cold_start_metric=True)
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return _adapter(event, context)
