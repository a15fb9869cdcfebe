"""Register, on a real SQLite store: above all that one idempotency key is one task."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core import moves
from core.errors import CommandNotAllowed, IdempotencyConflict, InvalidArgument, TaskNotFound, UrlNotAllowed
from core.ports import Services, TaskStore
from core.register import MAX_KEY_LENGTH, Registered, Registration, register
from core.settings import Settings
from core.task import Notice, Status, Task
from support.builders import NOW

WANTED = Registration(
    command="-i in.mp4 -c:v libx264 out.mp4",
    input_files={"in.mp4": "https://media.example/in.mp4"},
    output_files=("out.mp4",),
)
SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
CALLBACK = "https://callbacks.example/ended"


def registered(
    store: TaskStore, wanted: Registration = WANTED, *, key: str | None = None, settings: Settings | None = None,
    task_id: str = "given", **more: Any,
) -> Registered:  # fmt: skip
    arguments: dict[str, Any] = {"settings": settings or Settings(), "correlation_id": "corr", "now": NOW} | more
    return register(store, wanted, task_id=task_id, idempotency_key=key, **arguments)


def test_register_stores_a_pending_task(services: Services) -> None:
    result = registered(services.store)
    expected = Task(
        task_id="given",
        status=Status.PENDING,
        command=WANTED.command,
        input_files=WANTED.input_files,
        output_files=WANTED.output_files,
        correlation_id="corr",
        created_at=NOW,
        version=1,
        compute="cpu",
        result_ttl_seconds=24 * 3600,
    )
    assert result == Registered(expected, again=False)
    assert services.store.get("given") == expected


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (replace(WANTED, command="-i in.mp4 -f lavfi out.mp4 && rm"), CommandNotAllowed),
        (replace(WANTED, input_files={"in.mp4": "file:///etc/passwd"}), UrlNotAllowed),
        (replace(WANTED, callback_url=CALLBACK), InvalidArgument),  # nobody could tell that it is ours
    ],
)
@pytest.mark.parametrize("key", [None, "key"])
def test_register_stores_nothing_of_what_it_refuses(
    services: Services, wanted: Registration, error: type[Exception], key: str | None
) -> None:
    with pytest.raises(error):
        registered(services.store, wanted, key=key)
    assert services.store.due(NOW + timedelta(days=365), limit=10, live=False) == []
    assert not registered(services.store, key=key).again


def test_a_callback_is_refused_without_a_secret_to_sign_with(services: Services) -> None:
    with pytest.raises(InvalidArgument) as caught:
        registered(services.store, replace(WANTED, callback_url=CALLBACK))
    assert "WEBHOOK_SECRET" in caught.value.message
    assert caught.value.details == {"field": "callback_url"}


@pytest.mark.parametrize("url", ["http://10.0.0.1/hook", "s3://bucket/hook", "ftp://callbacks.example/"])
def test_a_callback_is_judged_as_a_url_that_we_call(services: Services, url: str) -> None:
    settings = Settings(webhook_secret=SECRET)
    with pytest.raises(UrlNotAllowed) as caught:
        registered(services.store, replace(WANTED, callback_url=url), settings=settings)
    assert caught.value.details["field"] == "callback_url"


def test_a_task_knows_from_the_beginning_whom_to_tell(services: Services) -> None:
    wanted = replace(WANTED, callback_url=CALLBACK)
    settings = Settings(webhook_secret=SECRET, event_bus="bus")
    task = registered(services.store, wanted, settings=settings).task
    assert task.callback_url == CALLBACK
    assert task.notices == (Notice(channel="webhook"), Notice(channel="event"))
    assert registered(services.store, task_id="other").task.notices == ()


def test_the_same_key_with_the_same_request_gives_the_same_task(services: Services) -> None:
    first = registered(services.store, key="key")
    again = registered(services.store, key="key", task_id="another", now=NOW + timedelta(days=1))
    assert (first.again, again) == (False, Registered(first.task, again=True))
    assert first.task.task_id != "given"
    assert [task.task_id for task in _all(services.store)] == [first.task.task_id]


def test_the_same_key_gives_the_task_as_it_is_by_now(services: Services) -> None:
    first = registered(services.store, key="key").task
    canceled = services.store.replace(moves.cancel(first, now=NOW), first)
    assert registered(services.store, key="key") == Registered(canceled, again=True)


@pytest.mark.parametrize(
    "other",
    [
        replace(WANTED, command="-i in.mp4 -c:v libx265 out.mp4"),
        replace(WANTED, input_files={"in.mp4": "https://media.example/in.mp4?v=2"}),
        replace(WANTED, output_files=("out.mp4", "more.mp4")),
        replace(WANTED, callback_url=CALLBACK),
    ],
)
def test_the_same_key_with_another_request_is_a_conflict(services: Services, other: Registration) -> None:
    first = registered(services.store, key="key").task
    with pytest.raises(IdempotencyConflict) as caught:
        registered(services.store, other, key="key")
    assert caught.value.details == {"task_id": first.task_id}
    assert services.store.get(first.task_id) == first


def test_the_same_key_is_answered_alike_when_the_request_would_be_refused_by_now(services: Services) -> None:
    """The caller asks what became of the request that was accepted then."""
    wanted = replace(WANTED, callback_url=CALLBACK)
    first = registered(services.store, wanted, key="key", settings=Settings(webhook_secret=SECRET))
    assert registered(services.store, wanted, key="key") == Registered(first.task, again=True)


def test_names_in_another_order_are_the_same_request(services: Services) -> None:
    inputs = {"in.mp4": "https://media.example/in.mp4", "b.mp4": "https://media.example/b.mp4"}
    command = "-i in.mp4 -i b.mp4 -map 0:v -map 1:a out.mp4"
    one = replace(WANTED, command=command, input_files=inputs)
    other = replace(one, input_files=dict(reversed(inputs.items())))
    first = registered(services.store, one, key="key")
    assert registered(services.store, other, key="key") == Registered(first.task, again=True)


def test_different_keys_are_different_tasks(services: Services) -> None:
    ids = {registered(services.store, key=key).task.task_id for key in ("a", "A", "a ", "b" * MAX_KEY_LENGTH)}
    assert len(ids) == 4


@pytest.mark.parametrize("key", ["", "b" * (MAX_KEY_LENGTH + 1), "schlüssel", "a\nb", "a\x00"])
def test_a_key_that_no_header_can_hold_is_refused(services: Services, key: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        registered(services.store, key=key)
    assert caught.value.details == {"field": "Idempotency-Key"}


def test_a_key_is_free_again_when_its_task_is_forgotten(services: Services) -> None:
    first = registered(services.store, key="key").task
    services.store.forget(first)
    with pytest.raises(TaskNotFound):
        services.store.get(first.task_id)
    assert not registered(services.store, replace(WANTED, output_files=("out.mp4",)), key="key").again


def test_twenty_calls_at_once_with_one_key_give_one_task(services: Services) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: registered(services.store, key="key", task_id=f"t{n}"), range(20)))
    assert len({result.task.task_id for result in results}) == 1
    assert sorted(result.again for result in results) == [False] + [True] * 19
    assert _all(services.store) == [results[0].task]


def _all(store: TaskStore) -> list[Task]:
    return list(store.due(NOW + timedelta(days=365), limit=100, live=False))


NVENC = replace(WANTED, command="-i in.mp4 -c:v h264_nvenc out.mp4")


@pytest.mark.parametrize(
    ("wanted", "compute"),
    [
        (WANTED, "cpu"),
        (replace(WANTED, compute="cpu"), "cpu"),
        (replace(WANTED, compute="gpu"), "gpu"),
        (NVENC, "gpu"),
        (replace(NVENC, compute="gpu"), "gpu"),
        (replace(NVENC, gpu_fallback=True), "gpu"),
        (replace(NVENC, gpu_fallback=True, compute="cpu"), "cpu"),
    ],
)
def test_a_task_goes_to_the_workers_that_it_needs_or_names(
    services: Services, wanted: Registration, compute: str
) -> None:
    assert registered(services.store, wanted).task.compute == compute
