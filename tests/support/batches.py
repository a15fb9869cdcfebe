"""Batches to begin with: `registered(services)` is one of so many files, as the API registers it."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from core.batch import Batch
from core.ports import Services
from core.register import Registration
from core.register_batch import BatchWanted, register_batch
from core.settings import Settings
from core.sources import source
from support.builders import NOW

SETTINGS = Settings()
COMMAND = "-i {name} -c:v libx264 -crf 23 {stem}.mkv"


def wanted(*urls: str, command: str = COMMAND, output: str = "{stem}.mkv", **wishes: Any) -> BatchWanted:
    registration = Registration(command=command, input_files={}, output_files=(output,))
    sources = tuple(source(url) for url in urls) if urls else None
    return BatchWanted(registration=registration, sources=sources, **wishes)


def urls(count: int) -> list[str]:
    return [f"https://media.example/day/clip-{number}.mp4?signature=secret" for number in range(count)]


def registered(services: Services, count: int = 3, *, now: datetime = NOW, **known: Any) -> Batch:
    batch, again, _ = register_batch(
        services,
        wanted(*urls(count)),
        settings=SETTINGS,
        batch_id=str(uuid4()),
        correlation_id="corr-1",
        now=now,
        **known,
    )
    assert not again
    return batch
