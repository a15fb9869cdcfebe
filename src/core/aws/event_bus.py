"""EventBridge as a channel: a task's end, as an event that anybody in the account may have a rule for.

That is why it has no links to the outputs, which work for whoever holds them. When to send it again is for the
aftermath to say.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.ports import NotDelivered
from core.task import Task

SOURCE = "url-to-s3-transcoding"
DETAIL_TYPE = "Task Ended"
# What targets of rules take, queues and functions among them, with room for what EventBridge adds.
MOST_BYTES = 240 * 1024
# Of an event that is too large even without its outputs: whoever needs more asks for the task.
_ESSENTIAL = ("task_id", "status", "output_count", "correlation_id", "created_at", "finished_at")
# The same event never will be taken. Others may be, once somebody has mended the bus or the role.
_FINAL = frozenset({"InvalidArgument", "MalformedDetail", "RedactionFailure", "ValidationException"})


class EventBusChannel:
    """The Channel `event`, on the bus of that name or ARN; `shown` gives a task as JSON. May be shared by threads."""

    def __init__(self, bus: str, *, shown: Callable[[Task], str], client: Any = None) -> None:
        self._bus = bus
        self._shown = shown
        self._given = client

    def deliver(self, task: Task) -> None:
        entry = {
            "EventBusName": self._bus,
            "Source": SOURCE,
            "DetailType": DETAIL_TYPE,
            "Detail": detail(self._shown(task)),
        }
        try:
            answer = self._client.put_events(Entries=[entry])
        except ClientError as error:
            raise _refused(error.response.get("Error", {}).get("Code")) from error
        except BotoCoreError as error:
            raise NotDelivered("EventBridge gave no answer.") from error
        # Of an answer that it cannot read botocore makes an empty one, which is no good news.
        taken = (answer.get("Entries") or [{}])[0]
        if "EventId" not in taken:
            raise _refused(taken.get("ErrorCode"))

    @cached_property
    def _client(self) -> Any:
        return self._given or clients.events()


def detail(answer: str) -> str:
    """The status answer without links, cut down until it fits; `output_count` says how many outputs there are."""
    task = json.loads(answer)
    task = {name: value for name, value in task.items() if name != "output_url"}
    task["outputs"] = [_without_link(output) for output in task["outputs"]]
    while len(text := _written(task)) > MOST_BYTES and task["outputs"]:
        task["outputs"] = task["outputs"][: len(task["outputs"]) // 2]
    if len(text) > MOST_BYTES:
        text = _written({name: task[name] for name in _ESSENTIAL})
    return text


def _without_link(output: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in output.items() if name != "url"}


def _written(value: Mapping[str, Any]) -> str:
    """In ASCII, so that each character is a byte."""
    return json.dumps(value, separators=(",", ":"))


def _refused(code: object) -> NotDelivered:
    if not code:
        return NotDelivered("EventBridge did not say that it took the event.")
    return NotDelivered(f"EventBridge did not take the event ({code}).", final=code in _FINAL)
