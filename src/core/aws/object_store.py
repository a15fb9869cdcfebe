"""Outputs in one S3 bucket.

An upload is streamed, in parts when it is large, and each part's checksum is verified by S3. The checksum of the whole
goes along as metadata, because S3 has none for an object of many parts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.errors import InternalError
from core.ports import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PART_BYTES = 16 * 1024**2
_MAX_PARTS_AT_ONCE = 4  # with their read-ahead, some 100 MiB of memory


class S3ObjectStore:
    """The ObjectStore of AWS, in `bucket`. Without leave to list the bucket, S3 says 403 for what is not there."""

    def __init__(self, bucket: str, *, client: "S3Client | None" = None) -> None:
        self._bucket = bucket
        self._given = client

    def put_file(
        self, key: str, path: Path, *, sha256: str, content_type: str, on_piece: Callable[[], None] = lambda: None
    ) -> None:
        from boto3.exceptions import Boto3Error
        from boto3.s3.transfer import TransferConfig

        with _translated("The output could not be stored.", Boto3Error, OSError):
            self._client.upload_file(
                str(path),
                self._bucket,
                key,
                ExtraArgs={
                    "ContentType": content_type,
                    "Metadata": {"sha256": sha256},
                    "ChecksumAlgorithm": "SHA256",
                },
                Config=TransferConfig(
                    multipart_threshold=_PART_BYTES,
                    multipart_chunksize=_PART_BYTES,
                    max_concurrency=_MAX_PARTS_AT_ONCE,
                ),
            )

    def head(self, key: str) -> StoredObject | None:
        with _translated("The object store cannot be used."):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        return StoredObject(size_bytes=answer["ContentLength"], sha256=answer["Metadata"].get("sha256", ""))

    def link(self, key: str, *, expires_in_seconds: int) -> str:
        """Signed with the credentials at hand: those of a role end, and the link with them, after some hours."""
        with _translated("The link could not be made."):
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=expires_in_seconds
            )

    def uri(self, key: str) -> str | None:
        return f"s3://{self._bucket}/{key}"

    def delete(self, folder: str, *, keep: str | None = None) -> int:
        with _translated("The outputs could not be deleted."):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{folder}/")
            found = (entry["Key"] for page in pages for entry in page.get("Contents", ()))
            keys = [key for key in found if keep is None or not key.startswith(f"{keep}/")]
            for key in keys:
                self._client.delete_object(Bucket=self._bucket, Key=key)
        return len(keys)

    def check(self) -> str:
        with _translated("The bucket cannot be used."):
            self._client.head_bucket(Bucket=self._bucket)
        return "S3"

    @cached_property
    def _client(self) -> "S3Client":
        return self._given or clients.s3()


@contextmanager
def _translated(message: str, *others: type[Exception]) -> Iterator[None]:
    expected: tuple[type[Exception], ...] = (BotoCoreError, ClientError, *others)
    try:
        yield
    except expected as error:
        raise InternalError(message) from error
