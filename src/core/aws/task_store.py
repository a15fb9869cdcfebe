"""Tasks in one DynamoDB table.

An item has the task as JSON, as SQLite has it, and beside it what conditions and the index need. The sparse index
`due` (`due_shard`, `due_at`) holds the tasks that somebody is to look after, live ones apart from the others, and only
their keys: a heartbeat moves a task in it, and that is to cost one small write. Throttling and lost answers are boto3's
to repeat; what a repeated write finds is judged here.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from core import record
from core.aws import client as clients
from core.errors import InternalError, TaskChanged, TaskExists, TaskNotFound
from core.task import Task

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INDEX = "due"
# One index partition takes 1,000 writes a second: at a heartbeat every 5 s, this is good for 20,000 running tasks.
SHARDS = tuple(str(number) for number in range(4))


class DynamoTaskStore:
    """The TaskStore of AWS, in `table`."""

    def __init__(self, table: str, *, client: "DynamoDBClient | None" = None) -> None:
        self._table = table
        self._given = client

    def create(self, task: Task) -> Task:
        stored = replace(task, version=1)
        refused = self._put(stored, ConditionExpression="attribute_not_exists(task_id)")
        if refused is not None:
            raise TaskExists(details={"task_id": task.task_id})
        return stored

    def get(self, task_id: str) -> Task:
        task = self._find(task_id)
        if task is None:
            raise TaskNotFound(details={"task_id": task_id})
        return task

    def replace(self, new: Task, previous: Task) -> Task:
        stored = replace(new, version=previous.version + 1)
        refused = self._put(
            stored,
            ConditionExpression="version = :seen",
            ExpressionAttributeValues={":seen": {"N": str(previous.version)}},
        )
        if refused is None:
            return stored
        details = {"task_id": previous.task_id}
        raise TaskChanged(details=details) if refused else TaskNotFound(details=details)

    def due(self, before: datetime, *, limit: int, live: bool = True) -> Sequence[Task]:
        shards = (_shard(shard, live=live) for shard in SHARDS)
        keys = sorted(key for shard in shards for key in self._due_keys(shard, before, limit=limit))
        tasks = (self._find(task_id) for _, task_id in keys[:limit])
        return [task for task in tasks if task and task.status.live is live and task.due_at and task.due_at <= before]

    def forget(self, task: Task) -> None:
        with _translated():
            try:
                self._client.delete_item(
                    TableName=self._table,
                    Key={"task_id": {"S": task.task_id}},
                    ConditionExpression="version = :seen",
                    ExpressionAttributeValues={":seen": {"N": str(task.version)}},
                )
                return
            except self._client.exceptions.ConditionalCheckFailedException:
                pass
        self.get(task.task_id)
        raise TaskChanged(details={"task_id": task.task_id})

    def check(self) -> str:
        self._find("check")
        return "DynamoDB"

    @cached_property
    def _client(self) -> "DynamoDBClient":
        return self._given or clients.dynamodb()

    def _find(self, task_id: str) -> Task | None:
        with _translated():
            answer = self._client.get_item(TableName=self._table, Key={"task_id": {"S": task_id}}, ConsistentRead=True)
        return record.loads(answer["Item"]["body"]["S"]) if "Item" in answer else None

    def _put(self, task: Task, **condition: Any) -> Mapping[str, Any] | None:
        """None when the task was written; else the item that stood against it, empty when there is none."""
        item = _item(task)
        with _translated():
            try:
                self._client.put_item(
                    TableName=self._table, Item=item, ReturnValuesOnConditionCheckFailure="ALL_OLD", **condition
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                found = _stood_against(error)
                return None if found.get("body") == item["body"] and _was_repeated(error) else found
        return None

    def _due_keys(self, shard: str, before: datetime, *, limit: int) -> list[tuple[float, str]]:
        with _translated():
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                IndexName=INDEX,
                KeyConditionExpression="due_shard = :shard AND due_at <= :before",
                ExpressionAttributeValues={":shard": {"S": shard}, ":before": {"N": _seconds(before)}},
                PaginationConfig={"MaxItems": limit},
            )
            return [(float(item["due_at"]["N"]), item["task_id"]["S"]) for page in pages for item in page["Items"]]


def _item(task: Task) -> dict[str, Any]:
    item = {
        "task_id": {"S": task.task_id},
        "version": {"N": str(task.version)},
        "status": {"S": task.status.value},
        "created_at": {"N": _seconds(task.created_at)},
        "body": {"S": record.dumps(task)},
    }
    if task.due_at:
        number = SHARDS[zlib.crc32(task.task_id.encode()) % len(SHARDS)]
        item |= {"due_shard": {"S": _shard(number, live=task.status.live)}, "due_at": {"N": _seconds(task.due_at)}}
    return item


def _shard(number: str, *, live: bool) -> str:
    return number if live else f"idle-{number}"


def _seconds(time: datetime) -> str:
    return f"{time.timestamp():.6f}"


def _stood_against(error: ClientError) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = error.response
    return answer.get("Item") or {}


def _was_repeated(error: ClientError) -> bool:
    """Whether boto3 sent the write more than once: then the first may have succeeded, and its answer been lost."""
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise InternalError("The task store cannot be used.") from error
