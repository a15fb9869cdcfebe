"""What the verbs run on in unit tests: a real SQLite store and folder, and a dispatcher that does nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from core.ports import Services
from support.recording import RecordingChannel, RecordingDispatcher


@pytest.fixture
def dispatcher() -> RecordingDispatcher:
    return RecordingDispatcher()


@pytest.fixture
def webhook() -> RecordingChannel:
    return RecordingChannel()


@pytest.fixture
def services(tmp_path: Path, dispatcher: RecordingDispatcher, webhook: RecordingChannel) -> Iterator[Services]:
    store = SqliteTaskStore(tmp_path / "tasks.db")
    objects = FolderObjectStore(tmp_path / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
    records = SqliteRecordStore(tmp_path / "tasks.db")
    channels = {"webhook": webhook}
    yield Services(store=store, records=records, objects=objects, dispatcher=dispatcher, channels=channels)
    store.close()
    records.close()
