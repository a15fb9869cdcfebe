"""Records in the DynamoDB table that also has the tasks, and in its indexes `due` and `listed`, apart from them.

A record's key is its kind and its id, which no task has. A kind has a shard of its own: of each there are few.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core.aws.table import Item, Table, translated
from core.aws.task_store import INDEX, LIST_INDEX
from core.errors import RecordChanged
from core.ports import Newest, Position, Record

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_TOP = "9"  # above all years


class DynamoRecordStore:
    """The RecordStore of AWS, in `table`."""

    def __init__(self, table: str, *, client: "DynamoDBClient | None" = None) -> None:
        self._table = Table(table, client=client)

    def create(self, record: Record) -> Record:
        return self._put(replace(record, version=1), previous=None)

    def find(self, kind: str, record_id: str) -> Record | None:
        item = self._table.read(_key(kind, record_id))
        return _record(item) if item else None

    def replace(self, new: Record, previous: Record) -> Record:
        return self._put(replace(new, version=previous.version + 1), previous=previous.version)

    def delete(self, record: Record) -> None:
        if self._table.delete(_key(record.kind, record.record_id), version=record.version):
            raise RecordChanged

    def due(self, kind: str, before: datetime, *, limit: int) -> Sequence[Record]:
        condition = "due_shard = :shard AND due_at <= :before"
        values = {":shard": {"S": _shard(kind)}, ":before": {"N": f"{before.timestamp():.6f}"}}
        found = self._found(INDEX, condition, values, limit=limit)
        return [record for record in found if record.due_at and record.due_at <= before]

    def newest(self, kind: str, *, limit: int, below: Position | None = None, since: datetime | None = None) -> Newest:
        # An index key takes one range, whose ends are both in it; nothing stands at the upper one but `below` itself.
        condition = "listed_shard = :shard AND listed_at BETWEEN :since AND :below"
        below_at = _listed_at(below.created_at, below.task_id) if below else _TOP
        since_at = _listed_at(since, "") if since else "0"
        if since_at > below_at:  # DynamoDB refuses an empty range
            return Newest([], None)
        values = {":shard": {"S": _shard(kind)}, ":below": {"S": below_at}, ":since": {"S": since_at}}
        found = self._found(LIST_INDEX, condition, values, limit=limit + 1, ScanIndexForward=False)
        below_it = [record for record in found if _listed_at(record.created_at, record.record_id) < below_at]
        return Newest.of(below_it[:limit], limit=limit)

    def _put(self, record: Record, *, previous: int | None) -> Record:
        if self._table.put(_item(record), previous=previous) is not None:
            raise RecordChanged
        return record

    def _found(
        self, index: str, condition: str, values: dict[str, Any], *, limit: int, **more: Any
    ) -> Sequence[Record]:
        """Those of the entries that are still there, each read anew: an index has no more than their keys."""
        with translated():
            pages = self._table.client.get_paginator("query").paginate(
                TableName=self._table.name,
                IndexName=index,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=values,
                PaginationConfig={"MaxItems": limit},
                **more,
            )
            keys = [item["task_id"]["S"] for page in pages for item in page["Items"]]
        return [_record(item) for key in keys if (item := self._table.read(key))]


def _item(record: Record) -> dict[str, Any]:
    item = {
        "task_id": {"S": _key(record.kind, record.record_id)},
        "version": {"N": str(record.version)},
        "listed_shard": {"S": _shard(record.kind)},
        "listed_at": {"S": _listed_at(record.created_at, record.record_id)},
        "body": {"S": record.body},
    }
    if record.due_at:
        item |= {"due_shard": {"S": _shard(record.kind)}, "due_at": {"N": f"{record.due_at.timestamp():.6f}"}}
    return item


def _record(item: Item) -> Record:
    kind, _, record_id = item["task_id"]["S"].partition("#")
    due = item.get("due_at")
    return Record(
        kind=kind,
        record_id=record_id,
        version=int(item["version"]["N"]),
        created_at=datetime.fromisoformat(item["listed_at"]["S"].partition("#")[0]),
        due_at=datetime.fromtimestamp(float(due["N"]), UTC) if due else None,
        body=item["body"]["S"],
    )


def _key(kind: str, record_id: str) -> str:
    return f"{kind}#{record_id}"


def _shard(kind: str) -> str:
    return f"record-{kind}"


def _listed_at(created_at: datetime, record_id: str) -> str:
    """Text that sorts as the times do, and then as the ids."""
    return f"{created_at.astimezone(UTC).isoformat(timespec='microseconds')}#{record_id}"
