"""DynamoDB's answers to a query of the index `batched`, 1 MB each as DynamoDB's are: moto takes minutes for them."""

from collections.abc import Iterator, Sequence
from typing import Any

from core.aws import task_store
from core.batch import task_id
from core.task import Task
from support import aws_faults
from support.aws_faults import Fault

PAGE_BYTES = 1024**2


def size(entry: dict[str, dict[str, str]]) -> int:
    """As DynamoDB counts: names and values, in UTF-8."""
    return sum(len(name.encode()) + len("".join(value.values()).encode()) for name, value in entry.items())


def answers(batch_id: str, count: int, *, like: Task) -> list[Fault]:
    """Those to one query after the other, where so many of the batch's tasks have a row, all of them like that one."""
    item = task_store.item(like)
    entry: dict[str, Any] = {name: item[name] for name in ("status", "ended_at", "ended_by") if name in item}
    keys = ({"batch_id": {"S": batch_id}, "task_id": {"S": task_id(batch_id, number)}} for number in range(count))
    pages = list(_pages([{**entry, **key} for key in keys]))
    return [_answer(page, last=page is pages[-1]) for page in pages]


def _pages(entries: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    taken = 0
    for entry in entries:
        if taken + size(entry) > PAGE_BYTES:
            yield page
            page, taken = [], 0
        page.append(entry)
        taken += size(entry)
    yield page


def _answer(page: list[dict[str, Any]], *, last: bool) -> Fault:
    more = {} if last else {"LastEvaluatedKey": {name: page[-1][name] for name in ("batch_id", "task_id")}}
    answer = {"Items": page, "Count": len(page), "ScannedCount": len(page), **more}
    return aws_faults.says(lambda request: answer)
