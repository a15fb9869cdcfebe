"""Register: check everything that can be checked without running, then store the task as `pending`.

The command and the names are judged by ffmpeg/, the URLs by urls; nothing is fetched and no name is looked up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from core import urls
from core.ffmpeg import validate
from core.ports import TaskStore
from core.task import Status, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a caller asks for; `input_files` maps the names in the command to URLs."""

    command: str
    input_files: Mapping[str, str]
    output_files: tuple[str, ...]


def register(
    store: TaskStore,
    wanted: Registration,
    *,
    policy: urls.Policy,
    task_id: str,
    correlation_id: str,
    now: datetime,
) -> Task:
    """The new task, stored. Raises CommandNotAllowed, UrlNotAllowed or InvalidArgument, and then stores nothing."""
    command = validate.check(wanted.command, input_names=wanted.input_files, output_names=wanted.output_files)
    for name, url in wanted.input_files.items():
        urls.check(url, field=f"input_files.{name}", policy=policy)
    task = Task(
        task_id=task_id,
        status=Status.PENDING,
        command=command.text,
        input_files=dict(wanted.input_files),
        output_files=wanted.output_files,
        correlation_id=correlation_id,
        created_at=now,
    )
    return store.create(task)
