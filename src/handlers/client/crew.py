"""Some threads that do the same work, and one that waits for them and may be interrupted.

Daemons, so that nothing waits for them after a second Ctrl-C, as it would for a pool of the library's. They are not
waited for by `join`: one that is interrupted there counts as ended from then on (in Python 3.11).
"""

import threading
from collections.abc import Callable


class Crew:
    def __init__(self, count: int, work: Callable[[], None]) -> None:
        self._work = work
        self._at_work = count
        self._lock = threading.Lock()
        self._done = threading.Event()
        for _ in range(count):
            threading.Thread(target=self._run, daemon=True).start()
        if not count:
            self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether all have done their work, by then at the latest."""
        return self._done.wait(seconds)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            with self._lock:
                self._at_work -= 1
                if not self._at_work:
                    self._done.set()
