"""Two actors in real threads, and every order in which their calls can come: nothing is left to chance.

Each call to a store or a dispatcher waits until it is that actor's turn. `every_schedule` runs a race again and again,
each time with another order, until there is none left.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_SECONDS = 30.0
GATED = frozenset({"create", "get", "replace", "due", "forget", "submit", "look", "stop"})


class Gated:
    """Something whose calls wait for their turn."""

    def __init__(self, inner: Any, turns: "Turns") -> None:
        self._inner = inner
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in GATED:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._turns.wait()
            return found(*args, **kwargs)

        return call


@dataclass
class Turns:
    """Lets one actor run at a time, from one of its calls to the next, in `order` as far as that goes."""

    order: Sequence[int]
    taken: list[int] = field(default_factory=list)
    choices: list[list[int]] = field(default_factory=list)  # who could have gone, each time

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._running: set[int] = set()
        self._actor = threading.local()

    def run(self, actors: Sequence[Callable[[], Any]]) -> list[Any]:
        """What each of them returned, or the exception that it raised."""
        results: list[Any] = [None] * len(actors)
        self._running = set(range(len(actors)))

        def play(number: int) -> None:
            self._actor.number = number
            try:
                results[number] = actors[number]()
            except Exception as error:
                results[number] = error
            with self._changed:
                self._running.discard(number)
                self._changed.notify_all()

        threads = [threading.Thread(target=play, args=(number,)) for number in range(len(actors))]
        for thread in threads:
            thread.start()
        self._conduct()
        for thread in threads:
            thread.join(_SECONDS)
        return results

    def wait(self) -> None:
        number = getattr(self._actor, "number", None)
        if number is None:  # not one of the actors: a look at the store from outside
            return
        with self._changed:
            self._running.discard(number)
            self._waiting.add(number)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: number in self._running, _SECONDS), "its turn never came"

    def _conduct(self) -> None:
        with self._changed:
            while True:
                assert self._changed.wait_for(lambda: not self._running, _SECONDS), "an actor never came to a call"
                if not self._waiting:
                    return
                able = sorted(self._waiting)
                step = len(self.taken)
                chosen = self.order[step] if step < len(self.order) else able[0]
                self.choices.append(able)
                self.taken.append(chosen)
                self._waiting.discard(chosen)
                self._running.add(chosen)
                self._changed.notify_all()


def every_schedule(race: Callable[[Turns], object]) -> int:
    """Run the race in each order there is; returns how many there were. `race` asserts what must hold."""
    return sum(1 for _ in _schedules(race))


def _schedules(race: Callable[[Turns], object]) -> Iterator[None]:
    orders: list[list[int]] = [[]]
    while orders:
        turns = Turns(orders.pop())
        race(turns)
        yield
        for step in range(len(turns.order), len(turns.taken)):
            others = [actor for actor in turns.choices[step] if actor != turns.taken[step]]
            orders += [[*turns.taken[:step], other] for other in others]
