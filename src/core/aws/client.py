"""AWS clients, made when they are first needed, with bounds on how long a call can take.

boto3's own bounds (60 s for each of many tries) outlast an API request and a worker's lease. Region, credentials and
endpoint come from the environment that boto3 reads: AWS_REGION, AWS_ENDPOINT_URL and so on. boto3 itself is imported
with the first client: it takes as long as all else that a Lambda function loads, and not every request needs it.
"""

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

# boto3's session is shared, which saves each further client two thirds of its making, but is not safe to share while
# a client is being made.
_making = threading.Lock()


def dynamodb() -> "DynamoDBClient":
    import boto3

    with _making:
        # At worst about 13 s, and as much again to look what became of a write that nothing was heard of: inside an
        # API request (29 s) and the time between heartbeat and lease (70 s).
        return boto3.client("dynamodb", config=_bounds(connect=1, read=3, tries=4))


def batch() -> "BatchClient":
    import boto3

    with _making:
        # Submitting takes up to a second or two when it is well; the API request around it has 29 s.
        return boto3.client("batch", config=_bounds(connect=2, read=8, tries=2))


def events() -> Any:
    import boto3

    with _making:
        # The notice waits for nobody, and is sent again by the aftermath: at worst about 12 s, like a webhook.
        return boto3.client("events", config=_bounds(connect=2, read=3, tries=2))


def secretsmanager() -> Any:
    import boto3

    with _making:
        return boto3.client("secretsmanager", config=_bounds(connect=2, read=3, tries=2))


def ssm() -> Any:
    import boto3

    with _making:
        return boto3.client("ssm", config=_bounds(connect=2, read=3, tries=2))


def s3() -> "S3Client":
    import boto3
    from botocore.config import Config

    # Bucket in the path for other makes of S3, whose host names have no buckets; in the host name for AWS, where that
    # also makes a link name its region, without which it would be answered by a redirect that the signature fails.
    elsewhere = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    addressing = Config(signature_version="s3v4", s3={"addressing_style": "path" if elsewhere else "virtual"})
    with _making:
        # Each part of an upload is a call of its own; a store that is slow to take 16 MiB is not a dead one.
        return boto3.client("s3", config=_bounds(connect=5, read=60, tries=5).merge(addressing))


def _bounds(*, connect: float, read: float, tries: int) -> "Config":
    from botocore.config import Config

    return Config(
        connect_timeout=connect,
        read_timeout=read,
        retries={"mode": "standard", "total_max_attempts": tries},
    )
