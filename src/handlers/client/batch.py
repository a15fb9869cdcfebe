"""Many orders, some at a time; one that fails does not keep the others from going on.

Only when the service itself is lost, or refuses us altogether, nothing more is begun.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from handlers.client.api import Api
from handlers.client.crew import Crew
from handlers.client.faults import HOPELESS, Fault, Interrupted
from handlers.client.progress import Board
from handlers.client.request import Order
from handlers.client.run import Done, carry_out

LEAVE_SECONDS = 15.0  # for those under way to be canceled


@dataclass(kw_only=True)
class Item:
    """One of the orders, and what became of it."""

    order: Order
    done: Done | None = None
    fault: Fault | None = None

    @property
    def status(self) -> str:
        return "completed" if self.done else "failed" if self.fault else "not begun"

    def shown(self) -> dict[str, Any]:
        source = [str(one.where).partition("?")[0] for one in self.order.sources]
        end: dict[str, Any] = {"task": None, "files": []}
        if self.done:
            end = self.done.shown()
        return {
            "inputs": source,
            "status": self.status,
            **end,
            "error": self.fault.shown()["error"] if self.fault else None,
        }


@dataclass
class _Batch:
    api: Api
    board: Board
    force: bool
    told: Callable[[Item], str]
    waiting: "deque[Item]"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        while self.waiting:
            try:
                item = self.waiting.popleft()
            except IndexError:
                return
            try:
                self._carry_out(item)
            except Interrupted:
                return

    def _carry_out(self, item: Item) -> None:
        row = self.board.row(item.order.label)
        line = ""
        try:
            item.done = carry_out(self.api, item.order, row=row, force=self.force)
            line = self.told(item)
        except Fault as fault:
            item.fault = fault
            line = self.told(item)
            if fault.code in HOPELESS:
                self.waiting.clear()
        finally:
            with self.lock:
                self.board.finish(row, line)


def carry_out_all(
    api: Api, orders: Sequence[Order], *, at_once: int, board: Board, force: bool, told: Callable[[Item], str]
) -> list[Item]:
    """`told` gives the line about one that has ended. Raises Interrupted, when those under way are canceled."""
    items = [Item(order=order) for order in orders]
    batch = _Batch(api, board, force, told, deque(items))
    crew = Crew(min(at_once, len(items)), batch.work)
    try:
        while not crew.wait(1.0):
            pass
    except Interrupted:
        api.stop.set()
        crew.wait(LEAVE_SECONDS)
        raise
    return items
