"""A disk that is full is said to be full, to the caller and to whoever asks for the service's health."""

from pathlib import Path

import pytest

from core.errors import InternalError, ServiceUnavailable
from core.local.database import Database
from core.local.object_store import room

# SQLite takes a file that may not grow as it takes a disk that is full.
SMALL = "PRAGMA max_page_count = 8; CREATE TABLE IF NOT EXISTS texts (body TEXT)"


def write(database: Database, text: str) -> None:
    with database.connection() as connection:
        connection.execute("INSERT INTO texts VALUES (?)", [text])


def test_a_write_for_which_there_is_no_room_is_to_be_sent_again(tmp_path: Path) -> None:
    database = Database(tmp_path / "small.db", SMALL)
    write(database, "fits")

    with pytest.raises(ServiceUnavailable, match="The disk of this service is full"):
        write(database, "x" * 100_000)

    write(database, "fits still")
    database.close()


def test_another_fault_of_the_file_is_none_of_the_callers(tmp_path: Path) -> None:
    database = Database(tmp_path / "broken.db", "CREATE TABLE IF NOT EXISTS others (body TEXT)")
    with pytest.raises(InternalError, match="The task store cannot be used"):
        write(database, "nowhere")
    database.close()


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
