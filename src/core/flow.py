"""A flow of bytes from somebody who may be slow: whether it has become a trickle, which is not worth waiting for. Pure.

Judged by the average over one window of time after the other, so that a pause is no fault, and a byte now and then is
no excuse. Times are in seconds, of a clock that only goes forward.
"""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Flow:
    least_bytes_per_second: float
    window_seconds: float
    began: float  # the window
    arrived: int = 0  # bytes within it

    def count(self, size_bytes: int) -> None:
        self.arrived += size_bytes

    def is_trickle(self, now: float) -> bool:
        """Whether a window is over, and was too poor; where it was not, the next one begins."""
        elapsed = now - self.began
        if elapsed < self.window_seconds:
            return False
        if self.arrived < self.least_bytes_per_second * elapsed:
            return True
        self.began, self.arrived = now, 0
        return False
