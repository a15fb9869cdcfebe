"""Delete, on a real SQLite store and folder."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core import aftermath
from core.delete import delete
from core.destination import Destination
from core.errors import InternalError, TaskNotFound, TaskNotReady
from core.moves import TIDY_AFTER
from core.ports import Services
from core.task import Status, Task
from support.builders import NOW, task_in

ENDED = [status for status in Status if status.ended]
LATER = NOW + timedelta(hours=1)


def stored(services: Services, tmp_path: Path, *keys: str) -> None:
    for key in keys:
        path = tmp_path / "made"
        path.write_bytes(key.encode())
        sha256 = hashlib.sha256(key.encode()).hexdigest()
        services.objects.put_file(key, path, sha256=sha256, content_type="video/mp4")
        path.unlink()


def with_files(services: Services, tmp_path: Path, status: Status) -> tuple[Task, list[str]]:
    task = services.store.create(task_in(status))
    keys = [f"{services.folder(task)}/1/output.mp4", f"{services.logs(task)}/1/ffmpeg.log"]
    stored(services, tmp_path, *keys)
    return task, keys


def there(services: Services, keys: list[str]) -> list[str]:
    return [key for key in keys if services.objects.head(key)]


@pytest.mark.parametrize("status", ENDED)
def test_delete_takes_all_that_is_stored_and_keeps_the_record(
    services: Services, tmp_path: Path, status: Status
) -> None:
    task, keys = with_files(services, tmp_path, status)
    _, others = with_files(services, tmp_path, status)
    delete(services, task.task_id, now=NOW)
    assert services.store.get(task.task_id) == replace(task, version=2, purged_at=NOW, tidy_due_at=NOW + TIDY_AFTER)
    assert (there(services, keys), there(services, others)) == ([], others)


def test_delete_done_twice_says_when_it_was_done_first(services: Services, tmp_path: Path) -> None:
    task, keys = with_files(services, tmp_path, Status.COMPLETED)
    delete(services, task.task_id, now=NOW)
    stored(services, tmp_path, keys[0])
    delete(services, task.task_id, now=LATER)
    again = services.store.get(task.task_id)
    assert (again.purged_at, again.tidy_due_at) == (NOW, LATER + TIDY_AFTER)
    assert there(services, keys) == []


def test_delete_is_on_record_also_where_a_bucket_refuses_it(services: Services, tmp_path: Path) -> None:
    elsewhere = task_in(Status.COMPLETED, destination=Destination(bucket="media-out"))
    task = services.store.create(elsewhere)
    stored(services, tmp_path, services.log_key(task, 1))
    with pytest.raises(InternalError):
        delete(services, task.task_id, now=NOW)  # these services have no bucket but their own
    assert services.store.get(task.task_id) == replace(task, version=2, purged_at=NOW, tidy_due_at=NOW + TIDY_AFTER)
    assert services.objects.head(services.log_key(task, 1)) is None


@pytest.mark.parametrize("status", ENDED)
def test_what_comes_late_is_cleared_away_by_the_sweep(services: Services, tmp_path: Path, status: Status) -> None:
    """A worker that does not know of the end yet, or a deletion that was cut off after the record was written."""
    task, keys = with_files(services, tmp_path, status)
    delete(services, task.task_id, now=NOW)
    stored(services, tmp_path, *keys)
    assert aftermath.sweep(services, now=NOW + TIDY_AFTER) == 1
    assert there(services, keys) == []
    assert services.store.get(task.task_id).tidy_due_at is None


@pytest.mark.parametrize("status", [status for status in Status if not status.ended])
def test_delete_before_the_end_is_refused(services: Services, tmp_path: Path, status: Status) -> None:
    task, keys = with_files(services, tmp_path, status)
    with pytest.raises(TaskNotReady) as refused:
        delete(services, task.task_id, now=NOW)
    assert "cancel it" in refused.value.message
    assert (services.store.get(task.task_id), there(services, keys)) == (task, keys)


def test_delete_of_an_unknown_task_says_so(services: Services) -> None:
    with pytest.raises(TaskNotFound):
        delete(services, "unknown", now=NOW)
