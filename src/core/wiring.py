"""From settings to Services: the only file that knows both worlds.

The twins are imported when they are asked for, and AWS clients are made when they are first used, so that a Lambda
start pays for nothing that its request does not need.
"""

from core.ports import Services
from core.settings import Settings


def services(settings: Settings) -> Services:
    """What the API and the worker run on, for either backend."""
    return _aws(settings) if settings.backend == "aws" else _local(settings)


def _aws(settings: Settings) -> Services:
    from core.aws.dispatcher import BatchDispatcher
    from core.aws.object_store import S3ObjectStore
    from core.aws.task_store import DynamoTaskStore

    assert settings.task_table and settings.output_bucket and settings.job_queue and settings.job_definition
    return Services(
        store=DynamoTaskStore(settings.task_table),
        objects=S3ObjectStore(settings.output_bucket),
        dispatcher=BatchDispatcher(queue=settings.job_queue, definition=settings.job_definition),
    )


def _local(settings: Settings) -> Services:
    from core.local.dispatcher import LocalDispatcher
    from core.local.object_store import FolderObjectStore
    from core.local.task_store import SqliteTaskStore

    raise NotImplementedError
