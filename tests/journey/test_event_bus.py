"""A task's end on AWS as moto plays it: an event that a rule takes to a queue, and a webhook, by one sweep."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from core import aftermath, wiring
from core.settings import Settings
from core.task import Notice, NoticeStatus, Status, Task
from handlers.web import models
from support import moto_server
from support.builders import NOW, task_in
from support.moto_server import Moto
from support.receiver import Receiver, receiving, statuses

BUS = "ends"
SECRET = "whsec_" + "c2VjcmV0" * 5
MASK = {"url": "link", "output_url": "link"}


@pytest.fixture
def queue(aws: Moto) -> str:
    """The URL of a queue that a rule on the bus fills."""
    sqs, events = boto3.client("sqs"), boto3.client("events")
    url: str = sqs.create_queue(QueueName="ended")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name=BUS)
    pattern = {"source": ["url-to-s3-transcoding"], "detail-type": ["Task Ended"], "detail": {"status": ["completed"]}}
    events.put_rule(Name="completed", EventBusName=BUS, EventPattern=json.dumps(pattern))
    events.put_targets(Rule="completed", EventBusName=BUS, Targets=[{"Id": "1", "Arn": arn}])
    return url


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiving(statuses(200)) as there:
        yield there


def wired(**more: str) -> tuple[Any, Any]:
    """Services that notices can be sent by, and what a task looks like to its caller."""
    settings = Settings.from_env({**moto_server.SETTINGS, "EVENT_BUS": BUS, "WEBHOOK_SECRET": SECRET, **more})
    services = wiring.services(settings, {})

    def shown(task: Task) -> str:
        return models.status_answer(task, services, link_ttl_seconds=settings.link_ttl_seconds)

    return replace(services, channels=wiring.channels(settings, shown)), shown


def ended(services: Any, url: str) -> Task:
    notices = (Notice(channel="webhook"), Notice(channel="event"))
    task: Task = services.store.create(task_in(Status.COMPLETED, callback_url=url, notices=notices))
    return task


def messages(queue: str) -> list[Any]:
    found = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in found]


def test_both_are_told_once_and_the_task_says_so(queue: str, there: Receiver) -> None:
    services, shown = wired()
    task = ended(services, there.url)

    while aftermath.sweep(services, now=NOW):
        pass

    (event,) = messages(queue)
    (call,) = there.calls
    stored = services.store.get(task.task_id)
    assert [(notice.channel, notice.status, notice.tries) for notice in stored.notices] == [
        ("webhook", NoticeStatus.DELIVERED, 1),
        ("event", NoticeStatus.DELIVERED, 1),
    ]
    assert (event["source"], event["detail-type"]) == ("url-to-s3-transcoding", "Task Ended")
    told, wanted = json.loads(call.body), json.loads(shown(task))
    for same in ("task_id", "status", "outputs", "correlation_id", "finished_at", "callback_url"):
        assert json.dumps(told[same]).split("X-Amz")[0] == json.dumps(wanted[same]).split("X-Amz")[0]
    # The links are for the one who asked, not for everybody on the bus.
    assert "X-Amz-Signature" in told["output_url"]
    assert event["detail"]["outputs"][0]["s3_uri"] == wanted["outputs"][0]["s3_uri"]
    text = json.dumps(event)
    assert "X-Amz" not in text
    assert "s3cr3t" not in text
    assert '"url"' not in text


def test_a_bus_that_is_not_there_yet_is_told_later(queue: str, there: Receiver) -> None:
    missing, _ = wired(EVENT_BUS="no-such-bus")
    task = ended(missing, there.url)
    aftermath.sweep(missing, now=NOW)
    notice = missing.store.get(task.task_id).notices[1]
    assert (notice.status, notice.error) == (
        NoticeStatus.PENDING,
        "EventBridge did not take the event (ResourceNotFoundException).",
    )

    present, _ = wired()
    aftermath.sweep(present, now=notice.due_at or NOW)
    assert present.store.get(task.task_id).notices[1].status is NoticeStatus.DELIVERED
    assert [event["detail"]["task_id"] for event in messages(queue)] == [task.task_id]
    assert len(there.calls) == 1
