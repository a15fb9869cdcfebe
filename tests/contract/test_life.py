"""Random lives of tasks on both pairs of twins; what is done is in support/life.py, what must hold in scene.py.

LIFE_EXAMPLES in the environment says how many lives there are on each, and LIFE_STEPS how long each is.
"""

import os
import tempfile
from pathlib import Path
from uuid import uuid4

import boto3
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from core.aws.object_store import S3ObjectStore
from core.aws.record_store import DynamoRecordStore
from core.aws.task_store import DynamoTaskStore
from core.local.object_store import FolderObjectStore
from core.local.record_store import SqliteRecordStore
from core.local.task_store import SqliteTaskStore
from support.life import Life
from support.moto_server import REGION, TABLE_SCHEMA, Moto
from support.scene import Home


def _lives(*, examples: int, steps: int) -> settings:
    return settings(
        max_examples=int(os.environ.get("LIFE_EXAMPLES", examples)),
        stateful_step_count=int(os.environ.get("LIFE_STEPS", steps)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class OnOneMachine(Life):
    def open(self) -> Home:
        folder = tempfile.TemporaryDirectory(prefix="life-")
        root = Path(folder.name)
        store, records = SqliteTaskStore(root / "tasks.db"), SqliteRecordStore(root / "tasks.db")
        objects = FolderObjectStore(root / "objects", base_url="http://127.0.0.1:1", secret=b"secret")
        files = root / "objects" / "files"

        def close() -> None:
            store.close()
            records.close()
            folder.cleanup()

        return Home(
            store=store,
            records=records,
            objects=objects,
            stored=lambda: {path.relative_to(files).as_posix() for path in files.rglob("*.mp4")},
            scratch=_made(root / "scratch"),
            close=close,
        )


class OnAws(Life):
    def open(self) -> Home:
        folder = tempfile.TemporaryDirectory(prefix="life-")
        name = f"life-{uuid4()}"
        s3, dynamodb = boto3.client("s3"), boto3.client("dynamodb")
        dynamodb.create_table(TableName=name, **TABLE_SCHEMA)
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

        def stored() -> set[str]:
            objects = s3.list_objects_v2(Bucket=name).get("Contents", [])
            begun = s3.list_multipart_uploads(Bucket=name).get("Uploads", [])
            return {entry["Key"] for entry in objects} | {entry["Key"] for entry in begun}

        def close() -> None:
            dynamodb.delete_table(TableName=name)
            folder.cleanup()

        return Home(
            store=DynamoTaskStore(name),
            records=DynamoRecordStore(name),
            objects=S3ObjectStore(name),
            stored=stored,
            scratch=_made(Path(folder.name) / "scratch"),
            close=close,
        )


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_lives_on_one_machine() -> None:
    run_state_machine_as_test(OnOneMachine, settings=_lives(examples=60, steps=50))


def test_lives_on_aws(aws: Moto) -> None:
    run_state_machine_as_test(OnAws, settings=_lives(examples=12, steps=40))
