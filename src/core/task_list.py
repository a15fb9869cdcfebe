"""The list of tasks: rows, and the tasks of batches that have none yet, from the moment that their batch is there.

How both are put together is batch_page's. What it costs where there are no such batches is one small query a page.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from core import batch_page, batch_record
from core.batch import Batch, Source
from core.batch_page import Rowless
from core.batches import read_files, without_row
from core.ports import Page, Position, Services
from core.task import Status, Task

# So many are looked through for one page. The list of one status may have few rows between its ends and many batches.
MOST_BATCHES = 100


def list_tasks(
    services: Services,
    *,
    limit: int,
    below: Position | None = None,
    status: Status | None = None,
    most_batches: int = MOST_BATCHES,
) -> Page:
    """A page of all tasks, under the promises of TaskStore.page."""
    rows = services.store.page(limit=limit, below=below, status=status)
    if status not in (None, Status.QUEUED, Status.CANCELED):  # which no task without a row is in
        return rows
    since = rows.next.created_at if rows.next else None
    found = services.records.newest(batch_record.KIND, limit=most_batches, below=below, since=since)
    if found.next:
        rows = batch_page.cut(rows, at=found.next, following=found.next)
    batches = map(batch_record.read, found.records)
    return _page(services, rows, batches, limit=limit, below=below, status=status)


def list_batch(
    services: Services, batch: Batch, *, limit: int, below: Position | None = None, status: Status | None = None
) -> Page:
    """A page of the batch's tasks: all tasks between its ends are its own."""
    top = batch_page.above(batch)
    below = min(below, top) if below else top
    rows = services.store.page(limit=limit, below=below, status=status)
    rows = batch_page.cut(rows, at=batch_page.first_of(batch), following=None)
    return _page(services, rows, [batch], limit=limit, below=below, status=status)


def _page(
    services: Services,
    rows: Page,
    batches: Iterable[Batch],
    *,
    limit: int,
    below: Position | None,
    status: Status | None,
) -> Page:
    lacking = (batch for batch in batches if batch_page.may_lack_rows(batch, status))
    others = (_rowless(services, batch, below=below, down_to=rows.next, status=status) for batch in lacking)
    found, following = batch_page.merged(rows, chain.from_iterable(others), limit=limit)
    return Page(list(_tasks(services, found)), following)


def _rowless(
    services: Services, batch: Batch, *, below: Position | None, down_to: Position | None, status: Status | None
) -> Iterator[Rowless]:
    """Of one status, the rows of the page do not tell which tasks have one."""
    stored = {member.number for member in services.store.members(batch.batch_id)} if status else frozenset[int]()
    return batch_page.rowless(batch, below=below, down_to=down_to, stored=stored)


def _tasks(services: Services, found: Iterable[Task | Rowless]) -> Iterator[Task]:
    """Those without a row are made from their batch and its manifest, each of which is read once."""
    manifests: dict[str, Sequence[Source]] = {}
    for one in found:
        if isinstance(one, Task):
            yield one
            continue
        batch_id = one.batch.batch_id
        if batch_id not in manifests:
            manifests[batch_id] = read_files(services, one.batch)
        yield without_row(one.batch, one.number, manifests[batch_id])
