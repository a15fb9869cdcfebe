"""A webhook from the registration to the receiver: the service as its own process, a real transcode, real sockets.

The receiver does what the README tells it to, by the README's own words.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from core import aftermath, wiring
from core.cancel import cancel
from core.notify import notify
from core.ports import Services
from core.register import Registration, register
from core.settings import Settings
from core.task import NoticeStatus, Task
from handlers.web import models
from support import service
from support.builders import NOW
from support.receiver import Answer, Call, Receiver, hang_up, receiving, statuses
from support.service import Service

README = (service.ROOT / "README.md").read_text()
NETWORKS = "127.0.0.0/8"
SECRET = "whsec_" + "c2VjcmV0" * 4
COMMAND = "-f lavfi -i testsrc2=d=0.2:s=64x64 -c:v libx264 -preset ultrafast out.mp4"
BODY = {"command": COMMAND, "input_files": {}, "output_filename": "out.mp4"}
MASKED = {"outputs", "output_url", "notices"}  # each answer has fresh links, and what is sent is not delivered yet


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service.running(tmp_path_factory.mktemp("service") / ".data") as running:
        yield running


def sending(settings: Settings, beforehand: Callable[[], object] = lambda: None) -> Iterator[Services]:
    """Services that notices can be sent by; `beforehand` happens when one is about to be."""
    services = wiring.services(settings, {})

    def shown(task: Task) -> str:
        beforehand()
        return models.status_answer(task, services, link_ttl_seconds=settings.link_ttl_seconds)

    yield replace(services, channels=wiring.channels(settings, shown))
    services.store.close()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def services(running: Service) -> Iterator[Services]:
    """The same data folder as the service's, with the same key to sign with."""
    port = running.http.base_url.port
    env = {"DATA_DIR": str(running.data_dir), "PORT": str(port), "ALLOW_PRIVATE_NETWORKS": NETWORKS}
    yield from sending(wiring.signing(Settings.from_env(env)))


def registered(running: Service, url: str, *, execute: bool = False) -> dict[str, Any]:
    answer = running.http.post("/ffmpeg/register", json={**BODY, "callback_url": url}, params={"execute": execute})
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


def canceled_alone(services: Services, url: str) -> Task:
    """The quickest end of a task, at NOW."""
    wanted = Registration(command=COMMAND, input_files={}, output_files=("out.mp4",), callback_url=url)
    settings = Settings.from_env({"ALLOW_PRIVATE_NETWORKS": NETWORKS, "WEBHOOK_SECRET": SECRET})
    task, _ = register(
        services.store, wanted, settings=settings, task_id=str(uuid4()), correlation_id="corr-1", now=NOW
    )
    return cancel(services, task.task_id, now=NOW)


def swept_until(services: Services, task_id: str, true: Callable[[Task], bool]) -> Task:
    end = time.monotonic() + 60
    while not true(task := services.store.get(task_id)):
        assert time.monotonic() < end, task.notices
        aftermath.sweep(services, now=datetime.now(UTC))
        time.sleep(0.02)
    return task


def told(task: Task) -> bool:
    return task.notices[0].status is not NoticeStatus.PENDING


def is_genuine(secret: str, call: Call) -> bool:
    """As the README has it."""
    (snippet,) = re.findall(r"```python\n(.*?)```", README.split("\n## Notices\n")[1].split("\n## ")[0], re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)
    verdict: bool = names["is_genuine"](secret, call.headers, call.body)
    return verdict


def secret_of(data_dir: Path) -> str:
    """By the command that the README gives, beside the folder `.data`."""
    (command,) = re.findall(r"^    (echo .*webhook-secret.*)$", README, re.MULTILINE)
    shell = subprocess.run(
        ["/bin/sh", "-c", command], cwd=data_dir.parent, stdout=subprocess.PIPE, text=True, check=True
    )
    return shell.stdout.strip()


def test_a_transcode_is_told_to_its_callback_url(running: Service, services: Services) -> None:
    with receiving(statuses(200)) as there:
        made = registered(running, there.url, execute=True)
        assert made["callback_url"] == there.url.replace("?token=s3cr3t", "?...")
        assert [(notice["channel"], notice["status"]) for notice in made["notices"]] == [("webhook", "pending")]
        task_id = made["task_id"]
        assert running.ended(task_id)["status"] == "completed"

        swept_until(services, task_id, told)

        (call,) = there.calls
    status, sent = running.status(task_id), json.loads(call.body)
    assert {name: sent[name] for name in sent.keys() - MASKED} == {
        name: status[name] for name in status.keys() - MASKED
    }
    assert sent.keys() == status.keys()
    assert running.http.get(sent["output_url"]).status_code == 200
    assert (sent["notices"][0]["status"], sent["notices"][0]["tries"]) == ("pending", 1)
    (notice,) = status["notices"]
    assert (notice["status"], notice["tries"], notice["error"], notice["due_at"]) == ("delivered", 1, None, None)
    assert call.headers["webhook-id"] == f"msg_{task_id}"
    assert call.headers["x-correlation-id"] == status["correlation_id"]
    assert "s3cr3t" not in json.dumps(status)


def test_the_readme_verifies_what_is_genuine_and_nothing_else(running: Service, services: Services) -> None:
    with receiving(statuses(200)) as there:
        task_id = registered(running, there.url)["task_id"]
        cancel(services, task_id, now=datetime.now(UTC))
        swept_until(services, task_id, told)
        (call,) = there.calls
    secret = secret_of(running.data_dir)
    assert is_genuine(secret, call)
    assert not is_genuine(SECRET, call)
    assert not is_genuine(secret, replace(call, body=call.body.replace(b"canceled", b"completed")))
    old = {**call.headers, "webhook-timestamp": str(int(time.time()) - 400)}
    assert not is_genuine(secret, replace(call, headers=old))
    other = {**call.headers, "webhook-signature": "v1,bm8= v1a,bm8="}
    assert not is_genuine(secret, replace(call, headers=other))
    rotated = {**call.headers, "webhook-signature": f"v1,bm8= {call.headers['webhook-signature']}"}
    assert is_genuine(secret, replace(call, headers=rotated))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Services]:
    """A data folder that no service runs on, so that time is ours."""
    env = {"DATA_DIR": str(tmp_path / ".data"), "ALLOW_PRIVATE_NETWORKS": NETWORKS}
    yield from sending(wiring.signing(Settings.from_env(env)))


def then(first: Answer, rest: Answer) -> Answer:
    return lambda there, call, connection: (first if call.number == 1 else rest)(there, call, connection)


def after(seconds: float, answer: Answer) -> Answer:
    def late(there: Receiver, call: Call, connection: socket.socket) -> None:
        there.closing.wait(seconds)
        answer(there, call, connection)

    return late


TROUBLE: dict[str, tuple[Answer, NoticeStatus, int]] = {
    "500, then well": (statuses(500, 200), NoticeStatus.DELIVERED, 2),
    "hangs up once": (then(hang_up, statuses(200)), NoticeStatus.DELIVERED, 2),
    "slow, but in time": (after(1.0, statuses(200)), NoticeStatus.DELIVERED, 1),
    "moved, then well": (statuses(307, 200), NoticeStatus.DELIVERED, 2),
    "gone": (statuses(410), NoticeStatus.ABANDONED, 1),
    "never well": (statuses(503), NoticeStatus.ABANDONED, 9),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_of_a_receiver_ends_as_it_should(name: str, alone: Services, tmp_path: Path) -> None:
    """By a clock that goes a day further after each try, whereupon what has not arrived is due again."""
    answer, status, tries = TROUBLE[name]
    with receiving(answer) as there:
        task = canceled_alone(alone, there.url)
        for days in range(12):
            aftermath.sweep(alone, now=NOW + timedelta(days))
        (notice,) = alone.store.get(task.task_id).notices
        assert (notice.status, notice.tries, len(there.calls)) == (status, tries, tries)
        assert {call.headers["webhook-id"] for call in there.calls} == {f"msg_{task.task_id}"}
        secret = secret_of(tmp_path / ".data")
        assert all(is_genuine(secret, call) for call in there.calls)


def test_two_sweeps_at_once_are_one_call(alone: Services) -> None:
    with receiving(after(0.3, statuses(200))) as there:
        tasks = [canceled_alone(alone, there.url) for _ in range(5)]
        sweeps = [threading.Thread(target=aftermath.sweep, args=(alone,), kwargs={"now": NOW}) for _ in range(2)]
        for sweep in sweeps:
            sweep.start()
        for sweep in sweeps:
            sweep.join()
        expected = {f"msg_{task.task_id}": 1 for task in tasks}
        assert Counter(call.headers["webhook-id"] for call in there.calls) == expected


def test_notify_sends_it_again_as_the_same(alone: Services) -> None:
    with receiving(statuses(200)) as there:
        task = canceled_alone(alone, there.url)
        aftermath.sweep(alone, now=NOW)
        notify(alone, task.task_id, now=NOW)
        aftermath.sweep(alone, now=NOW)
        first, second = there.calls
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert alone.store.get(task.task_id).notices[0].status is NoticeStatus.DELIVERED


SENDER = """
import os, signal, sys
from datetime import datetime
from core import aftermath
from core.settings import Settings
from test_notices import sending

settings = Settings.from_env(os.environ)
for services in sending(settings, lambda: os.kill(os.getpid(), signal.SIGKILL)):
    aftermath.sweep(services, now=datetime.fromisoformat(sys.argv[1]))
"""


def test_a_sender_killed_before_it_sends_is_followed_by_another(alone: Services, tmp_path: Path) -> None:
    """A real process, ended by SIGKILL when it has marked the notice and is about to write the body."""
    with receiving(statuses(200)) as there:
        task = canceled_alone(alone, there.url)
        env = {"DATA_DIR": str(tmp_path / ".data"), "ALLOW_PRIVATE_NETWORKS": NETWORKS, "WEBHOOK_SECRET": SECRET}
        path = ":".join([str(Path(__file__).parent), *sys.path])
        killed = subprocess.run(
            [sys.executable, "-c", SENDER, NOW.isoformat()], env={**env, "PYTHONPATH": path}, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert there.calls == []
        (marked,) = alone.store.get(task.task_id).notices
        assert (marked.status, marked.tries) == (NoticeStatus.PENDING, 1)

        aftermath.sweep(alone, now=NOW + timedelta(seconds=29))
        assert there.calls == []
        aftermath.sweep(alone, now=NOW + timedelta(minutes=1))
        assert [call.headers["webhook-id"] for call in there.calls] == [f"msg_{task.task_id}"]
    (delivered,) = alone.store.get(task.task_id).notices
    assert (delivered.status, delivered.tries) == (NoticeStatus.DELIVERED, 2)


def test_where_private_networks_are_closed_loopback_is_no_receiver(tmp_path: Path, services: Services) -> None:
    with (
        receiving(statuses(200)) as there,
        service.running(tmp_path / ".data", ALLOW_PRIVATE_NETWORKS="") as closed,
    ):
        answer = closed.http.post("/ffmpeg/register", json={**BODY, "callback_url": there.url})
        assert (answer.status_code, answer.json()["error"]) == (
            400,
            {
                "code": "URL_NOT_ALLOWED",
                "message": "The URL of callback_url has an address that is not on the public internet.",
                "details": {"field": "callback_url"},
            },
        )
        assert there.calls == []
