"""Inputs in S3 buckets: listed with the API's role, read and deleted with the worker's.

Which buckets, is for urls.check to say, and which objects are media, for sources.py. The size is asked for before
anything is taken; the transfer itself, in parts side by side, is boto3's, which repeats a part that breaks off and ends
when the object changes meanwhile.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from core import sources
from core.aws import client as clients
from core.batch import Source
from core.ports import InputGone, InputTooLarge, InputUnreadable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PART_BYTES = 16 * 1024**2
_MAX_PARTS_AT_ONCE = 4
# A page of 1,000 takes some 0.1 s, and the request that asks for the list has 28.
MOST_LISTED = 100_000
_NOT_DELETABLE = "is one that the worker's role may not delete (s3:DeleteObject)."


class S3InputStore:
    """The InputStore of AWS. Without leave to list a bucket, S3 says 403 for what is not there.

    Below a prefix it looks at no more than `most_listed` objects, media and others.
    """

    def __init__(self, *, most_listed: int = MOST_LISTED, client: "S3Client | None" = None) -> None:
        self._most_listed = most_listed
        self._given = client
        self._read: dict[tuple[str, str], str] = {}  # what was read last, by its tag

    def list(self, bucket: str, prefix: str, *, limit: int) -> Sequence[Source]:
        with _translated("listed", refused="is not there, or the API's role may not list its bucket (s3:ListBucket)."):
            return list(islice(self._media(bucket, prefix), limit))

    def _media(self, bucket: str, prefix: str) -> Iterator[Source]:
        looked_at = 0
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            entries = page.get("Contents", ())
            looked_at += len(entries)
            if looked_at > self._most_listed:
                fault = f"has more than {self._most_listed} objects below it; give a prefix that has fewer."
                raise InputUnreadable(fault, retryable=False)
            media = (entry for entry in entries if sources.is_media(entry["Key"]))
            yield from (sources.source(f"s3://{bucket}/{entry['Key']}", entry["Size"]) for entry in media)

    def delete(self, bucket: str, key: str) -> None:
        tag = self._read.pop((bucket, key), None)
        if tag is None:
            raise InputUnreadable("has not been read, and so is not deleted.", retryable=False)
        with suppress(InputGone), _translated("deleted", refused=_NOT_DELETABLE):
            self._client.delete_object(Bucket=bucket, Key=key, IfMatch=tag)

    def get_file(self, bucket: str, key: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        from boto3.exceptions import Boto3Error
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=_MAX_PARTS_AT_ONCE
        )
        refused = "is not there, or the worker's role may not read it (s3:GetObject)."
        with _translated("read", Boto3Error, refused=refused):
            found = self._client.head_object(Bucket=bucket, Key=key)
            if found["ContentLength"] > max_bytes:
                raise InputTooLarge
            # Called with the number of bytes of each piece; what it raises ends the transfer and comes out here.
            self._client.download_file(bucket, key, str(path), Callback=lambda _: on_piece(), Config=parts)
        self._read[bucket, key] = found["ETag"]
        return path.stat().st_size

    @cached_property
    def _client(self) -> "S3Client":
        return self._given or clients.s3()


@contextmanager
def _translated(done: str, *others: type[Exception], refused: str) -> Iterator[None]:
    not_now = f"cannot be {done} at the moment."
    unheard: tuple[type[Exception], ...] = (BotoCoreError, *others)
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise InputGone(refused, retryable=False) from error
        if status == 403:
            raise InputUnreadable(refused, retryable=False) from error
        if status == 412:
            raise InputUnreadable("has changed while it was read, or since.", retryable=True) from error
        raise InputUnreadable(not_now, retryable=status >= 500 or status == 429) from error
    except unheard as error:
        raise InputUnreadable(not_now, retryable=True) from error
