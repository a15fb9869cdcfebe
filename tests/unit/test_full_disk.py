"""A disk that is as good as full makes the service of one machine unhealthy, and the log says why."""

import pytest

from core.errors import InternalError
from core.local.object_store import room


@pytest.mark.parametrize(
    ("free_bytes", "says"),
    [(64 * 1024**2, "a folder with 0.1 GB free"), (56_812_345_678, "a folder with 56.8 GB free")],
)
def test_room_for_outputs_is_told(free_bytes: int, says: str) -> None:
    assert room(free_bytes) == says


@pytest.mark.parametrize("free_bytes", [0, 64 * 1024**2 - 1])
def test_next_to_no_room_is_unhealthy(free_bytes: int) -> None:
    with pytest.raises(InternalError, match=r"The disk is full: \d+\.\d MB are free"):
        room(free_bytes)
