"""Tasks in one DynamoDB table.

An item has the task as JSON, as SQLite has it, and beside it what conditions and the index need. The sparse index
`due` (`due_shard`, `due_at`) holds the tasks that somebody is to look after, live ones apart from the others, and only
their keys: a heartbeat moves a task in it, and that is to cost one small write. The sparse index `live` (`live_key`)
holds the live tasks of each API key, to be counted; a task enters and leaves it once. Throttling and lost answers are
boto3's to repeat; what a repeated write finds is judged here, and so is one of which nothing was heard: what stands in
the table decides whether it was written.
"""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from core import record
from core.aws import client as clients
from core.aws.trouble import AwsError, Trouble, trouble
from core.errors import (
    InternalError,
    ServiceError,
    ServiceUnavailable,
    TaskChanged,
    TaskExists,
    TaskNotFound,
    TooManyRequests,
)
from core.task import Task

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger(__name__)

INDEX = "due"
LIVE_INDEX = "live"
# One index partition takes 1,000 writes a second: at a heartbeat every 5 s, this is good for 20,000 running tasks.
SHARDS = tuple(str(number) for number in range(4))
# What a throttled table takes again by then: its allowance is counted by the second.
RETRY_AFTER_SECONDS = 5
# By this attribute the table itself drops a record that the sweep has not deleted so long after its time.
EXPIRES = "expires"
GRACE = timedelta(days=1)


class DynamoTaskStore:
    """The TaskStore of AWS, in `table`."""

    def __init__(self, table: str, *, client: "DynamoDBClient | None" = None) -> None:
        self._table = table
        self._given = client

    def create(self, task: Task) -> Task:
        stored = replace(task, version=1)
        if self._put(stored, previous=None) is not None:
            raise TaskExists(details={"task_id": task.task_id})
        return stored

    def get(self, task_id: str) -> Task:
        task = self._find(task_id)
        if task is None:
            raise TaskNotFound(details={"task_id": task_id})
        return task

    def replace(self, new: Task, previous: Task) -> Task:
        stored = replace(new, version=previous.version + 1)
        refused = self._put(stored, previous=previous.version)
        if refused is None:
            return stored
        details = {"task_id": previous.task_id}
        raise TaskChanged(details=details) if refused else TaskNotFound(details=details)

    def due(self, before: datetime, *, limit: int, live: bool = True) -> Sequence[Task]:
        shards = (_shard(shard, live=live) for shard in SHARDS)
        keys = sorted(key for shard in shards for key in self._due_keys(shard, before, limit=limit))
        tasks = self._readable([task_id for _, task_id in keys[:limit]])
        return [task for task in tasks if task.status.live is live and task.due_at and task.due_at <= before]

    def count_live(self, key_name: str, *, most: int) -> int:
        with _translated():
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                IndexName=LIVE_INDEX,
                KeyConditionExpression="live_key = :name",
                ExpressionAttributeValues={":name": {"S": key_name}},
                Select="COUNT",
                PaginationConfig={"PageSize": most},
            )
            number = 0
            for page in pages:
                number += page["Count"]
                if number >= most:
                    return most
        return number

    def forget(self, task: Task) -> None:
        refused = self._delete(task.task_id, version=task.version)
        if refused is None:
            return
        details = {"task_id": task.task_id}
        raise TaskChanged(details=details) if refused else TaskNotFound(details=details)

    def check(self) -> str:
        self._find("check")
        return "DynamoDB"

    @cached_property
    def _client(self) -> "DynamoDBClient":
        return self._given or clients.dynamodb()

    def _find(self, task_id: str) -> Task | None:
        item = self._read(task_id)
        return record.loads(item["body"]["S"]) if item else None

    def _readable(self, task_ids: Sequence[str]) -> list[Task]:
        """Those of the tasks that are there, as far as the table gives them; the others will be due next time too."""
        tasks: list[Task] = []
        for task_id in task_ids:
            try:
                task = self._find(task_id)
            except (TooManyRequests, ServiceUnavailable) as error:
                if not tasks:
                    raise
                log.warning("not all that is due was read", extra={"action": "due", "read": len(tasks)}, exc_info=error)
                break
            except (KeyError, TypeError, ValueError):  # one bad row is not to keep the sweep from all others
                log.exception("unreadable", extra={"action": "due", "task_id": task_id})
                continue
            tasks += [task] if task else []
        return tasks

    def _read(self, task_id: str) -> Mapping[str, Any]:
        """The item, empty when there is none; an answer that was cut on its way is empty too, but tells no cost."""
        with _translated():
            answer = self._client.get_item(
                TableName=self._table,
                Key={"task_id": {"S": task_id}},
                ConsistentRead=True,
                ReturnConsumedCapacity="TOTAL",
            )
        if "ConsumedCapacity" not in answer:
            raise ServiceUnavailable
        return answer.get("Item", {})

    def _put(self, task: Task, *, previous: int | None) -> Mapping[str, Any] | None:
        """None when the task was written over the version `previous`; else what stood against it, empty for nothing."""
        item = _item(task)
        try:
            self._client.put_item(
                TableName=self._table, Item=item, ReturnValuesOnConditionCheckFailure="ALL_OLD", **_condition(previous)
            )
        except self._client.exceptions.ConditionalCheckFailedException as error:
            found = _stood_against(error)
            return None if found.get("body") == item["body"] and _was_repeated(error) else found
        except AwsError as error:
            found = self._after(error, task.task_id)
            if found.get("body") == item["body"]:
                return None
            if _version(found) == previous:  # it was not written, or not yet
                raise _as_ours(error) from error
            return found
        return None

    def _delete(self, task_id: str, *, version: int) -> Mapping[str, Any] | None:
        """None when the item was deleted; else what stood against it, empty for nothing."""
        try:
            self._client.delete_item(
                TableName=self._table,
                Key={"task_id": {"S": task_id}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **_condition(version),
            )
        except self._client.exceptions.ConditionalCheckFailedException as error:
            found = _stood_against(error)
            return None if not found and _was_repeated(error) else found
        except AwsError as error:
            found = self._after(error, task_id)
            if _version(found) == version:
                raise _as_ours(error) from error
            return found or None
        return None

    def _after(self, error: BotoCoreError | ClientError, task_id: str) -> Mapping[str, Any]:
        """What stands in the table after a write that ended with `error`, which may have been done all the same."""
        if trouble(error) is Trouble.REFUSED:
            raise _as_ours(error) from error
        try:
            return self._read(task_id)
        except ServiceError:
            raise ServiceUnavailable from error

    def _due_keys(self, shard: str, before: datetime, *, limit: int) -> list[tuple[float, str]]:
        with _translated():
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                IndexName=INDEX,
                KeyConditionExpression="due_shard = :shard AND due_at <= :before",
                ExpressionAttributeValues={":shard": {"S": shard}, ":before": {"N": _seconds(before)}},
                PaginationConfig={"MaxItems": limit},
            )
            items = [item for page in pages for item in page["Items"]]
        return [(float(item["due_at"]["N"]), item["task_id"]["S"]) for item in items]


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
    if task.forget_due_at:
        item[EXPIRES] = {"N": str(int((task.forget_due_at + GRACE).timestamp()))}
    if task.key_name and task.status.live:
        item["live_key"] = {"S": task.key_name}
    return item


def _shard(number: str, *, live: bool) -> str:
    return number if live else f"idle-{number}"


def _seconds(time: datetime) -> str:
    return f"{time.timestamp():.6f}"


def _condition(previous: int | None) -> dict[str, Any]:
    if previous is None:
        return {"ConditionExpression": "attribute_not_exists(task_id)"}
    seen = {":seen": {"N": str(previous)}}
    return {"ConditionExpression": "version = :seen", "ExpressionAttributeValues": seen}


def _version(item: Mapping[str, Any]) -> int | None:
    return int(item["version"]["N"]) if item else None


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
    except AwsError as error:
        raise _as_ours(error) from error
    except KeyError as error:  # an answer that was cut or garbled on its way has none of what it should
        raise ServiceUnavailable from error


def _as_ours(error: BotoCoreError | ClientError) -> ServiceError:
    kind = trouble(error)
    if kind is Trouble.BUSY:
        return TooManyRequests(details={"retry_after_seconds": RETRY_AFTER_SECONDS})
    return ServiceUnavailable() if kind is Trouble.SILENT else InternalError("The task store cannot be used.")
