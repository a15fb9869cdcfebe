"""Each port's twins, as one parametrised fixture: a contract test runs once on AWS (moto) and once on one machine."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.aws.object_store import S3ObjectStore
from core.aws.task_store import DynamoTaskStore
from core.local.object_store import FolderObjectStore
from core.local.task_store import SqliteTaskStore
from core.ports import ObjectStore, TaskStore
from support import file_server, moto_server

TWINS = ["local", "aws"]


@pytest.fixture(params=TWINS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskStore]:
    if request.param == "aws":
        request.getfixturevalue("aws")
        yield DynamoTaskStore(moto_server.TABLE)
        return
    store = SqliteTaskStore(tmp_path / "data" / "tasks.db")
    yield store
    store.close()


@pytest.fixture(params=TWINS)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """An object store whose links can be fetched."""
    if request.param == "aws":
        request.getfixturevalue("aws")
        yield S3ObjectStore(moto_server.BUCKET)
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        folder = FolderObjectStore(tmp_path / "objects", base_url=base_url, secret=b"a secret")
        with file_server.serving(folder.open_link, listener):
            yield folder
