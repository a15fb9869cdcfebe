"""Tasks in one DynamoDB table.

An item has the task as JSON, as SQLite has it, and beside it what conditions and the indexes need. The sparse index
`due` (`due_shard`, `due_at`) holds the tasks that somebody is to look after, live ones apart from the others, and only
their keys: a heartbeat moves a task in it, and that is to cost one small write. The sparse index `live` (`live_key`)
holds the live tasks of each API key, to be counted; a task enters and leaves it once. The index `listed`
(`listed_shard`, `listed_at`) holds all tasks by their age, with their status: it is written when that changes, and
else never. So is the index `states` (`state`, `state_since`), which holds them by what they are in and since when: what
waits, what runs and what has ended of late is counted there, whatever else is stored. How a write is conditional, and
what becomes of one that was not answered, is table.py's. The sparse index `batched` (`batch_id`) holds the tasks
of each batch with what its sight needs of one that has ended, and is written as seldom.
"""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from core import record
from core.aws.table import RETRY_AFTER_SECONDS, Item, Table, translated
from core.batch import Member, place_of
from core.errors import (
    ServiceUnavailable,
    TaskChanged,
    TaskExists,
    TaskNotFound,
    TooManyRequests,
)
from core.ports import End, Page, Position, Survey
from core.task import Status, Task

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger(__name__)

INDEX = "due"
LIVE_INDEX = "live"
LIST_INDEX = "listed"
STATE_INDEX = "states"
BATCH_INDEX = "batched"
# One index partition takes 1,000 writes a second: at a heartbeat every 5 s, this is good for 20,000 running tasks.
SHARDS = tuple(str(number) for number in range(4))
# How many entries of each shard one page looks at, for a status that few tasks have. An entry has some 150 bytes.
MOST_LOOKED_AT = 5_000
_LOOKED_AT_ONCE = 1_000
_BODIES_AT_ONCE = 100  # what BatchGetItem takes
_BODY_ROUNDS = 20  # it gives 16 MB at a time, and less when it is throttled
# By this attribute the table itself drops a record that the sweep has not deleted so long after its time.
EXPIRES = "expires"
GRACE = timedelta(days=1)
# Of an error, what the sight of a batch has: 10,000 of them are then a few answers of 1 MB.
_MOST_ERROR = 300
_EPOCH = datetime.fromtimestamp(0, UTC)
_TOP = "9" * 17


class DynamoTaskStore:
    """The TaskStore of AWS, in `table`. A page looks at `most_looked_at` entries of each shard."""

    def __init__(
        self, table: str, *, client: "DynamoDBClient | None" = None, most_looked_at: int = MOST_LOOKED_AT
    ) -> None:
        self._table = Table(table, client=client)
        self._most_looked_at = most_looked_at

    def create(self, task: Task) -> Task:
        stored = replace(task, version=1)
        if self._table.put(item(stored), previous=None) is not None:
            raise TaskExists(details={"task_id": task.task_id})
        return stored

    def get(self, task_id: str) -> Task:
        task = self._find(task_id)
        if task is None:
            raise TaskNotFound(details={"task_id": task_id})
        return task

    def replace(self, new: Task, previous: Task) -> Task:
        stored = replace(new, version=previous.version + 1)
        refused = self._table.put(item(stored), previous=previous.version)
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
        with translated():
            pages = self._table.client.get_paginator("query").paginate(
                TableName=self._table.name,
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

    def survey(self, *, ended_since: datetime, most: int) -> Survey:
        each = -(-most // len(SHARDS))
        counts = {
            status: sum(self._count(_state(status, shard), most=each) for shard in SHARDS)
            for status in (Status.PENDING, Status.QUEUED, Status.RUNNING)
        }
        looked_in = SHARDS if counts[Status.QUEUED] else ()
        since = [start for shard in looked_in if (start := self._first(_state(Status.QUEUED, shard)))]
        ends = [end for shard in SHARDS for end in self._ends(shard, ended_since, most=each)]
        return Survey(counts, ends, min(since, default=None))

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

    def members(self, batch_id: str) -> Sequence[Member]:
        """Without the percentage of those that run, which would be a write of the index at each heartbeat."""
        with translated():
            pages = self._table.client.get_paginator("query").paginate(
                TableName=self._table.name,
                IndexName=BATCH_INDEX,
                KeyConditionExpression="batch_id = :batch_id",
                ExpressionAttributeValues={":batch_id": {"S": batch_id}},
            )
            items = [item for page in pages for item in page["Items"]]
        return [member for item in items if (member := _member(item))]

    def forget(self, task: Task) -> None:
        refused = self._table.delete(task.task_id, version=task.version)
        if refused is None:
            return
        details = {"task_id": task.task_id}
        raise TaskChanged(details=details) if refused else TaskNotFound(details=details)

    def check(self) -> str:
        self._find("check")
        return "DynamoDB"

    def _find(self, task_id: str) -> Task | None:
        item = self._table.read(task_id)
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

    def _count(self, state: str, *, most: int) -> int:
        with translated():
            pages = self._table.client.get_paginator("query").paginate(
                **self._in_state(state), Select="COUNT", PaginationConfig={"PageSize": most}
            )
            number = 0
            for page in pages:
                number += page["Count"]
                if number >= most:
                    break
        return min(number, most)

    def _first(self, state: str) -> datetime | None:
        with translated():
            items = self._table.client.query(**self._in_state(state), Limit=1)["Items"]
        return _time(items[0]) if items else None

    def _ends(self, shard: str, since: datetime, *, most: int) -> list[End]:
        query = self._in_state(_state(Status.COMPLETED, shard), since=since)
        with translated():
            pages = self._table.client.get_paginator("query").paginate(
                **query, ScanIndexForward=False, PaginationConfig={"MaxItems": most}
            )
            items = [item for page in pages for item in page["Items"]]
        return [_end(item) for item in items]

    def _in_state(self, state: str, *, since: datetime = _EPOCH) -> Any:
        return {
            "TableName": self._table.name,
            "IndexName": STATE_INDEX,
            "KeyConditionExpression": "#state = :state AND state_since >= :since",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {":state": {"S": state}, ":since": {"N": _seconds(since)}},
        }

    def _due_keys(self, shard: str, before: datetime, *, limit: int) -> list[tuple[float, str]]:
        with translated():
            pages = self._table.client.get_paginator("query").paginate(
                TableName=self._table.name,
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
            "TableName": self._table.name,
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
            with translated():
                answer = self._table.client.query(**query)
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
        asked: Any = {self._table.name: {"Keys": [{"task_id": {"S": task_id}} for task_id in task_ids]}}
        for _ in range(_BODY_ROUNDS):
            with translated():
                answer = self._table.client.batch_get_item(RequestItems=asked)
                items = answer["Responses"].get(self._table.name, [])
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


def item(task: Task) -> dict[str, Any]:
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
    item |= {"state": {"S": _state(task.status, number)}, "state_since": {"N": _seconds(_in_it_since(task))}}
    if task.finished_at and task.queued_at:
        item["seconds"] = {"N": f"{(task.finished_at - task.queued_at).total_seconds():.6f}"}
    if task.due_at:
        item |= {"due_shard": {"S": _shard(number, live=task.status.live)}, "due_at": {"N": _seconds(task.due_at)}}
    if task.forget_due_at:
        item[EXPIRES] = {"N": str(int((task.forget_due_at + GRACE).timestamp()))}
    if task.key_name and task.status.live:
        item["live_key"] = {"S": task.key_name}
    if task.batch_id:
        item["batch_id"] = {"S": task.batch_id}
        item |= _ending(task)
    return item


def _state(status: Status, shard: str) -> str:
    """In which partition of the index of states tasks of the status are; all that have ended are together."""
    return f"{'ended' if status.ended else status.value}-{shard}"


def _in_it_since(task: Task) -> datetime:
    since = {Status.QUEUED: task.waiting_since, Status.RUNNING: task.started_at}
    return (task.finished_at if task.status.ended else since.get(task.status)) or task.created_at


def _end(item: Mapping[str, Any]) -> End:
    seconds = item.get("seconds")
    return End(Status(item["status"]["S"]), _time(item), float(seconds["N"]) if seconds else None)


def _time(item: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(float(item["state_since"]["N"]), UTC)


def _ending(task: Task) -> dict[str, Any]:
    """What the index `batched` has beside the status, and only for a task that has ended."""
    if not task.status.ended or not task.finished_at:
        return {}
    error = {"ended_by": {"S": task.error.message[:_MOST_ERROR]}} if task.error else {}
    return {"ended_at": {"N": _seconds(task.finished_at)}, **error}


def _member(item: Item) -> Member | None:
    """None for a bad row, which is not to hide all others."""
    task_id = item["task_id"]["S"]
    place = place_of(task_id)
    try:
        status, ended_at = Status(item["status"]["S"]), item.get("ended_at")
        finished_at = datetime.fromtimestamp(float(ended_at["N"]), UTC) if ended_at else None
    except (KeyError, ValueError):
        place = None
    if place is None:
        log.error("unreadable", extra={"action": "members", "task_id": task_id})
        return None
    return Member(place[1], status, finished_at, error=item["ended_by"]["S"] if "ended_by" in item else None)


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
