"""The services of whoever sends notices: with channels that show a task as the API shows it."""

from dataclasses import replace
from functools import partial

from core import wiring
from core.ports import Services
from core.settings import Settings
from handlers.web import models


def with_channels(services: Services, settings: Settings) -> Services:
    shown = partial(models.status_answer, services=services, link_ttl_seconds=settings.link_ttl_seconds)
    return replace(services, channels=wiring.channels(settings, shown))
