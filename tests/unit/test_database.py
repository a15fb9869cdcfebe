"""The SQLite file when it cannot be written to: what passes, and what somebody has to mend."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import InternalError, ServiceUnavailable
from core.local.database import Database

SCHEMA = "CREATE TABLE IF NOT EXISTS texts (text TEXT NOT NULL);"
LONG = "INSERT INTO texts VALUES (hex(zeroblob(20000)))"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "data.db", SCHEMA)) as made:
        yield made


def tell(database: Database, pragma: str) -> None:
    """The connection that the next call uses."""
    with database.connection() as connection:
        connection.execute(f"PRAGMA {pragma}")


def test_full_disk_passes(database: Database) -> None:
    tell(database, "max_page_count = 1")  # where SQLite says what it says of a full disk
    with pytest.raises(ServiceUnavailable) as refused, database.connection() as connection:
        connection.execute(LONG)
    assert str(refused.value.__cause__) == "database or disk is full"

    with database.connection() as connection:  # another one, with room
        connection.execute(LONG)


def test_write_of_others_that_takes_too_long_passes(database: Database, tmp_path: Path) -> None:
    tell(database, "busy_timeout = 0")
    with closing(sqlite3.connect(tmp_path / "data.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ServiceUnavailable), database.connection() as connection:
            connection.execute(LONG)


@pytest.mark.parametrize("statement", ["INSERT INTO texts VALUES (NULL)", "SELECT nothing", "SELECT 1; SELECT 2"])
def test_all_else_is_for_us_to_mend(database: Database, statement: str) -> None:
    with pytest.raises(InternalError), database.connection() as connection:
        connection.execute(statement)
