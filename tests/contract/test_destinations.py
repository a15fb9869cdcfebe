"""What becomes of outputs in a bucket of others, on both twins, as they are wired: the verbs follow the task's own."""

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import boto3
import httpx
import pytest

from core import aftermath, moves, wiring
from core.delete import delete
from core.destination import Destination
from core.errors import TaskNotFound
from core.local.task_store import SqliteTaskStore
from core.moves import TIDY_AFTER
from core.ports import Services
from core.settings import Settings
from core.task import KEEP_RECORD, Failure, FailureCode, Status, Task, Timings
from core.worker.upload import Finished, upload
from handlers.web import models
from support import file_server, moto_server
from support.builders import NOW, task_in

OUT, PARTNER = "media-out", "partner-bucket"
DESTINATIONS = f"{OUT},{PARTNER}/incoming"
SHOW = Destination(bucket=OUT, prefix="shows/42")
PLACES = [SHOW, Destination(bucket=OUT), Destination(bucket=PARTNER, prefix="incoming/a b/ünï")]


@pytest.fixture(params=["local", "aws"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    """As wiring makes them, with links that can be fetched."""
    if request.param == "aws":
        request.getfixturevalue("aws")
        for name in (OUT, PARTNER):
            place: Any = {"LocationConstraint": moto_server.REGION}
            boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)
        yield wiring.services(Settings.from_env({**moto_server.SETTINGS, "DESTINATIONS": DESTINATIONS}), {})
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        env = {"DATA_DIR": str(tmp_path / "data"), "PORT": port, "DESTINATIONS": DESTINATIONS}
        local = wiring.local(Settings.from_env(env), {})
        with file_server.serving(local.open_link, listener):
            yield local.services
        assert isinstance(local.services.store, SqliteTaskStore)
        local.services.store.close()


def running(services: Services, place: Destination | None = SHOW, *, fence: int = 1) -> Task:
    """A task that its `fence`th worker has."""
    task = services.store.create(task_in(Status.RUNNING, destination=place, result_ttl_seconds=None if place else 60))
    for number in range(2, fence + 1):
        lost = services.store.replace(moves.lose(task, now=NOW, fence=number - 1, gone=True), task)
        task = services.store.replace(moves.claim(lost, now=NOW, owner=f"worker-{number}"), lost)
    return task


def stored(services: Services, task: Task, folder: Path, *, fence: int | None = None, content: str = "") -> Any:
    """What a worker under that fence stores for the task: the output, as the task will show it, and a log."""
    fence = fence or task.fence
    path, log = folder / "output.mp4", folder / "log"
    path.write_text(content or f"{task.task_id} {fence}")
    log.write_text("it went well")
    files = [Finished(path=path, filename="output.mp4", declared=0, media=None)]
    prefix = f"{services.folder(task)}/{fence}"
    outputs = upload(services.objects_of(task), files, prefix=prefix, stop=Event())
    sha256 = hashlib.sha256(log.read_bytes()).hexdigest()
    services.objects.put_file(services.log_key(task, fence), log, sha256=sha256, content_type="text/plain")
    for made in (path, log):
        made.unlink(missing_ok=True)
    return outputs


def completed(services: Services, task: Task, outputs: Any) -> Task:
    done = moves.complete(task, now=NOW, fence=task.fence, outputs=outputs, output_count=1, timings=Timings())
    return services.store.replace(done, task)


def there(services: Services, task: Task) -> list[int]:
    """The fences under which there is an output of the task where it belongs."""
    keys = {fence: f"{services.folder(task)}/{fence}/output.mp4" for fence in (1, 2, 3)}
    return [fence for fence, key in keys.items() if services.objects_of(task).head(key)]


def logs(services: Services, task: Task) -> list[int]:
    return [fence for fence in (1, 2, 3) if services.objects.head(services.log_key(task, fence))]


def shown(services: Services, task: Task) -> models.Task:
    return models.Task.model_validate_json(models.status_answer(task, services, link_ttl_seconds=60), strict=False)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_outputs_are_in_the_tasks_own_bucket_and_the_link_leads_there(
    services: Services, tmp_path: Path, place: Destination
) -> None:
    task = running(services, place)

    done = completed(services, task, stored(services, task, tmp_path))

    (output,) = done.outputs
    assert output.key == f"{place.prefix}/{task.task_id}/1/output.mp4".lstrip("/")
    assert services.objects.head(output.key) is None
    assert services.buckets(place.bucket).head(output.key) is not None
    answer = shown(services, services.store.get(task.task_id))
    assert answer.output_url
    assert httpx.get(answer.output_url, trust_env=False, timeout=60).text == f"{task.task_id} 1"
    expected = services.objects.uri("x") and f"s3://{place.bucket}/{output.key}"
    assert (answer.outputs[0].s3_uri, answer.expires_at) == (expected, None)
    assert answer.destination
    assert answer.destination.to_domain() == place


def test_the_same_key_in_two_buckets_is_two_objects(services: Services, tmp_path: Path) -> None:
    own, theirs = running(services, None), running(services, Destination(bucket=OUT, prefix="outputs"))
    alias = replace(theirs, task_id=own.task_id)
    (mine,) = stored(services, own, tmp_path, content="own")
    (other,) = stored(services, alias, tmp_path, content="theirs")

    assert mine.key == other.key
    links = [services.objects_of(task).link(mine.key, expires_in_seconds=60) for task in (own, alias)]
    assert [httpx.get(link, trust_env=False, timeout=60).text for link in links] == ["own", "theirs"]


def test_a_worker_that_was_replaced_overwrites_nothing_and_leaves_nothing(services: Services, tmp_path: Path) -> None:
    # given a task that its second worker completes, and the first one, which comes back to life
    task = running(services, fence=2)
    done = completed(services, task, stored(services, task, tmp_path))
    neighbour = running(services)
    stored(services, neighbour, tmp_path)
    stored(services, task, tmp_path, fence=1, content="from the dead")

    # then the published output is as it was
    answer = shown(services, done)
    assert answer.output_url
    assert httpx.get(answer.output_url, trust_env=False, timeout=60).text == f"{task.task_id} 2"

    # and what was not published goes, and nothing else
    aftermath.sweep(services, now=NOW + TIDY_AFTER)
    assert (there(services, task), there(services, neighbour)) == ([2], [1])
    assert services.store.get(task.task_id).tidy_due_at is None


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_what_a_failed_or_canceled_attempt_has_stored_is_tidied(services: Services, tmp_path: Path, end: str) -> None:
    task = running(services)
    stored(services, task, tmp_path)
    error = Failure.of(FailureCode.MEDIA_INVALID, "No.")
    ended = (
        moves.cancel(task, now=NOW)
        if end == "canceled"
        else moves.fail(task, now=NOW, fence=1, error=error, timings=Timings(), retry_after=timedelta(0))
    )
    services.store.replace(ended, task)

    assert aftermath.sweep(services, now=NOW + TIDY_AFTER) == 1

    assert (there(services, task), logs(services, task)) == ([], [1])


def test_what_was_delivered_stays_when_the_record_and_the_log_go(services: Services, tmp_path: Path) -> None:
    # given a task with a destination and one without, and somebody frozen who wakes up late
    delivered, own = (running(services, place, fence=2) for place in (SHOW, None))
    for task in (delivered, own):
        completed(services, task, stored(services, task, tmp_path))
    aftermath.sweep(services, now=NOW + TIDY_AFTER)
    assert (there(services, delivered), there(services, own)) == ([2], [])
    stored(services, delivered, tmp_path, fence=1, content="late")

    # when the time of the record is over
    aftermath.sweep(services, now=NOW + KEEP_RECORD - timedelta(seconds=1))
    assert services.store.get(delivered.task_id).purged_at is None
    aftermath.sweep(services, now=NOW + KEEP_RECORD)

    # then that is all that is left
    with pytest.raises(TaskNotFound):
        services.store.get(delivered.task_id)
    assert (there(services, delivered), logs(services, delivered)) == ([2], [])


def test_delete_takes_what_was_delivered_and_the_logs(services: Services, tmp_path: Path) -> None:
    task, neighbour = running(services), running(services)
    for each in (task, neighbour):
        completed(services, each, stored(services, each, tmp_path))

    delete(services, task.task_id, now=NOW)

    assert (there(services, task), logs(services, task)) == ([], [])
    assert (there(services, neighbour), logs(services, neighbour)) == ([1], [1])
    stored(services, task, tmp_path)  # by a worker that does not know of it
    aftermath.sweep(services, now=NOW + TIDY_AFTER)
    assert (there(services, task), logs(services, task)) == ([], [])
    aftermath.sweep(services, now=NOW + KEEP_RECORD)
    assert there(services, neighbour) == [1]
