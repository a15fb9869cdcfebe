"""Tasks in one DynamoDB table.

An item has the task as JSON, as SQLite has it, and beside it what conditions and the indexes need. The sparse index
`due` (`due_shard`, `due_at`) holds the tasks that somebody is to look after, live ones apart from the others, and only
their keys: a heartbeat moves a task in it, and that is to cost one small write. The sparse index `live` (`live_key`)
holds the live tasks of each API key, to be counted; a task enters and leaves it once. The index `listed`
(`listed_shard`, `listed_at`) holds all tasks by their age, with their status: it is written when that changes, and
else never. Throttling and lost answers are boto3's to repeat; what a repeated write finds is judged here, and so is
one of which nothing was heard: what stands in the table decides whether it was written.
"""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

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
from core.ports import Page, Position
from core.task import Status, Task

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger(__name__)

INDEX = "due"
LIVE_INDEX = "live"
LIST_INDEX = "listed"
# One index partition takes 1,000 writes a second: at a heartbeat every 5 s, this is good for 20,000 running tasks.
SHARDS = tuple(str(number) for number in range(4))
# How many entries of each shard one page looks at, for a status that few tasks have. An entry has some 150 bytes.
MOST_LOOKED_AT = 5_000
_LOOKED_AT_ONCE = 1_000
_BODIES_AT_ONCE = 100  # what BatchGetItem takes
_BODY_ROUNDS = 20  # it gives 16 MB at a time, and less when it is throttled
# What a throttled table takes again by then: its allowance is counted by the second.
RETRY_AFTER_SECONDS = 5
# By this attribute the table itself drops a record that the sweep has not deleted so long after its time.
EXPIRES = "expires"
GRACE = timedelta(days=1)
_EPOCH = datetime.fromtimestamp(0, UTC)
_TOP = "9" * 17


class DynamoTaskStore:
    """The TaskStore of AWS, in `table`. A page looks at `most_looked_at` entries of each shard."""

    def __init__(
        self, table: str, *, client: "DynamoDBClient | None" = None, most_looked_at: int = MOST_LOOKED_AT
    ) -> None:
        self._table = table
        self._given = client
        self._most_looked_at = most_looked_at

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

    def page(self, *, limit: int, below: Position | None = None, status: Status | None = None) -> Page:
        """Each shard is looked at from `below` on down, and what all of them have been looked at for is the page."""
        looks = [self._look(shard, limit=limit, below=below, status=status) for shard in SHARDS]
        horizon = max((look.down_to for look in looks if look.down_to), default="")
        found = sorted((key for look in looks for key in look.keys if key >= horizon), reverse=True)
        last = found[limit - 1] if len(found) > limit else horizon
        bodies = self._bodies([_position(key).task_id for key in found[:limit]])
        # One that has left the status since the index was written is no longer one of them.
        tasks = [task for task in bodies if status in (None, task.status)]
        return Page(sorted(tasks, key=Position.of, reverse=True), _position(last) if last else None)

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

    def _look(self, shard: str, *, limit: int, below: Position | None, status: Status | None) -> "_Look":
        """Down the shard until there are `limit` keys, or enough was looked at."""
        values = {":shard": {"S": shard}, ":below": {"S": _listed_at(below) if below else _TOP}}
        filtered = {"FilterExpression": "#status = :status", "ExpressionAttributeNames": {"#status": "status"}}
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": LIST_INDEX,
            "KeyConditionExpression": "listed_shard = :shard AND listed_at < :below",
            "ExpressionAttributeValues": values | ({":status": {"S": status.value}} if status else {}),
            "ScanIndexForward": False,
            "Limit": min(_LOOKED_AT_ONCE, self._most_looked_at) if status else limit,
            **(filtered if status else {}),
        }
        keys: list[str] = []
        looked_at = 0
        while True:
            with _translated():
                answer = self._client.query(**query)
                keys += [item["listed_at"]["S"] for item in answer["Items"]]
                looked_at += answer["ScannedCount"]
            rest = answer.get("LastEvaluatedKey")
            if not rest:
                return _Look(keys, None)
            if len(keys) >= limit or looked_at >= self._most_looked_at:
                return _Look(keys, rest["listed_at"]["S"])
            query["ExclusiveStartKey"] = rest

    def _bodies(self, task_ids: Sequence[str]) -> list[Task]:
        """Those of the tasks that are there and can be read, in no order."""
        tasks: list[Task] = []
        for start in range(0, len(task_ids), _BODIES_AT_ONCE):
            tasks += self._batch(task_ids[start : start + _BODIES_AT_ONCE])
        return tasks

    def _batch(self, task_ids: Sequence[str]) -> Iterator[Task]:
        asked: Any = {self._table: {"Keys": [{"task_id": {"S": task_id}} for task_id in task_ids]}}
        for _ in range(_BODY_ROUNDS):
            with _translated():
                answer = self._client.batch_get_item(RequestItems=asked)
                items = answer["Responses"].get(self._table, [])
            for item in items:
                try:
                    yield record.loads(item["body"]["S"])
                except (KeyError, TypeError, ValueError):  # one bad row is not to keep all others from being shown
                    log.exception("unreadable", extra={"action": "page", "task_id": item["task_id"]["S"]})
            asked = answer.get("UnprocessedKeys")
            if not asked:
                return
        raise TooManyRequests(details={"retry_after_seconds": RETRY_AFTER_SECONDS})


class _Look(NamedTuple):
    """What was found in a shard, and how far down it was looked at: None is to its end."""

    keys: Sequence[str]
    down_to: str | None


def _item(task: Task) -> dict[str, Any]:
    number = SHARDS[zlib.crc32(task.task_id.encode()) % len(SHARDS)]
    item = {
        "task_id": {"S": task.task_id},
        "version": {"N": str(task.version)},
        "status": {"S": task.status.value},
        "created_at": {"N": _seconds(task.created_at)},
        "listed_shard": {"S": number},
        "listed_at": {"S": _listed_at(Position.of(task))},
        "body": {"S": record.dumps(task)},
    }
    if task.due_at:
        item |= {"due_shard": {"S": _shard(number, live=task.status.live)}, "due_at": {"N": _seconds(task.due_at)}}
    if task.forget_due_at:
        item[EXPIRES] = {"N": str(int((task.forget_due_at + GRACE).timestamp()))}
    if task.key_name and task.status.live:
        item["live_key"] = {"S": task.key_name}
    return item


def _listed_at(position: Position) -> str:
    """Text that sorts as positions do."""
    return f"{(position.created_at - _EPOCH) // timedelta(microseconds=1):017d}#{position.task_id}"


def _position(listed_at: str) -> Position:
    microseconds, _, task_id = listed_at.partition("#")
    return Position(_EPOCH + timedelta(microseconds=int(microseconds)), task_id)


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
