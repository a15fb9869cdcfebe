"""Inputs in S3 buckets, read with the worker's own role.

Which buckets, is for urls.check to say. The size is asked for before anything is taken; the transfer itself, in parts
side by side, is boto3's, which repeats a part that breaks off and ends when the object changes meanwhile.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.ports import InputGone, InputTooLarge, InputUnreadable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PART_BYTES = 16 * 1024**2
_MAX_PARTS_AT_ONCE = 4
_MISSING_OR_SECRET = "is not there, or the worker's role may not read it (s3:GetObject)."  # noqa: S105 - no password


class S3InputStore:
    """The InputStore of AWS. Without leave to list a bucket, S3 says 403 for what is not there."""

    def __init__(self, *, client: "S3Client | None" = None) -> None:
        self._given = client

    def get_file(self, bucket: str, key: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        from boto3.exceptions import Boto3Error
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=_MAX_PARTS_AT_ONCE
        )
        try:
            if self._client.head_object(Bucket=bucket, Key=key)["ContentLength"] > max_bytes:
                raise InputTooLarge
            # Called with the number of bytes of each piece; what it raises ends the transfer and comes out here.
            self._client.download_file(bucket, key, str(path), Callback=lambda _: on_piece(), Config=parts)
        except ClientError as error:
            raise _in_words(error) from error
        except (Boto3Error, BotoCoreError) as error:
            raise InputUnreadable("cannot be read at the moment.", retryable=True) from error
        return path.stat().st_size

    @cached_property
    def _client(self) -> "S3Client":
        return self._given or clients.s3()


def _in_words(error: ClientError) -> InputUnreadable:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status == 404:
        return InputGone(_MISSING_OR_SECRET, retryable=False)
    if status == 403:
        return InputUnreadable(_MISSING_OR_SECRET, retryable=False)
    if status == 412:
        return InputUnreadable("has changed while it was read.", retryable=True)
    return InputUnreadable("cannot be read at the moment.", retryable=status >= 500 or status == 429)
