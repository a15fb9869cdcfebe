"""Outputs in one S3 bucket.

An upload is streamed, in parts when it is large, and each part's checksum is verified by S3. The checksum of the whole
goes along as metadata, because S3 has none for an object of many parts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.aws.trouble import AwsError, Trouble, trouble
from core.errors import InternalError, ServiceUnavailable
from core.ports import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PART_BYTES = 16 * 1024**2
_MAX_PARTS_AT_ONCE = 4  # with their read-ahead, some 100 MiB of memory
_LOOK_SECONDS = 0.1  # how often a transfer is asked whether it is still wanted
# What there is to read where S3 has nothing to give: no object, or none of its bytes.
_EMPTY = {404: None, 416: b""}
# How long one that is no longer wanted is waited for: for the answers that are on their way. Later ones come to threads
# of s3transfer's, which then clear away, and so does `delete`.
_END_SECONDS = 2.0


class S3ObjectStore:
    """The ObjectStore of AWS, in `bucket`. Without leave to list the bucket, S3 says 403 for what is not there."""

    def __init__(self, bucket: str, *, client: "S3Client | None" = None) -> None:
        self._bucket = bucket
        self._given = client

    def put_file(
        self, key: str, path: Path, *, sha256: str, content_type: str, on_piece: Callable[[], None] = lambda: None
    ) -> None:
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        config = TransferConfig(
            multipart_threshold=_PART_BYTES,
            multipart_chunksize=_PART_BYTES,
            max_concurrency=_MAX_PARTS_AT_ONCE,
            preferred_transfer_client="classic",  # the other one is not told of an end in the same way
        )
        extra = {"ContentType": content_type, "Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "SHA256"}
        on_piece()
        manager: Any = create_transfer_manager(self._client, config)
        over = _Over()
        transfer = manager.upload(str(path), self._bucket, key, extra, [over])
        try:
            # From here rather than from where bytes are read: a store that takes none is not waited for either.
            while not over.wait(_LOOK_SECONDS):
                on_piece()
        except BaseException:
            transfer.cancel()
            over.wait(_END_SECONDS)
            raise
        manager.shutdown()
        with translated("The output could not be stored.", Exception):
            transfer.result()

    def head(self, key: str) -> StoredObject | None:
        with translated("The object store cannot be used."):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
        return StoredObject(size_bytes=answer["ContentLength"], sha256=answer["Metadata"].get("sha256", ""))

    def read(self, key: str, *, most_bytes: int) -> bytes | None:
        with translated("The object could not be read."):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{most_bytes - 1}")
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status in _EMPTY:
                    return _EMPTY[status]
                raise
            with closing(answer["Body"]) as body:
                return body.read()

    def link(self, key: str, *, expires_in_seconds: int) -> str:
        """Signed with the credentials at hand: those of a role end, and the link with them, after some hours."""
        with translated("The link could not be made."):
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=expires_in_seconds
            )

    def uri(self, key: str) -> str | None:
        return f"s3://{self._bucket}/{key}"

    def delete(self, folder: str, *, keep: str | None = None) -> int:
        """What cannot be deleted is no reason to leave the rest; it is raised afterwards."""
        refused: list[str] = []
        count = 0
        with translated("The outputs could not be deleted."):
            # First the transfers, that none of them becomes an object which we have not seen.
            self._give_up_transfers(folder, keep=keep)
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{folder}/")
            for page in pages:
                keys = [entry["Key"] for entry in page.get("Contents", ()) if not _is_below(entry["Key"], keep)]
                codes = self._delete_page(keys)
                refused += codes
                count += len(keys) - len(codes)
        if refused:
            raise InternalError(f"{len(refused)} outputs could not be deleted: {refused[0]}.")
        return count

    def _delete_page(self, keys: Sequence[str]) -> list[str]:
        """Why any of them, at most 1,000, could not be deleted, in S3's words."""
        if not keys:
            return []
        answer = self._client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        return [error.get("Code", "unknown") for error in answer.get("Errors", ())]

    def _give_up_transfers(self, folder: str, *, keep: str | None) -> None:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=f"{folder}/")
        for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
            if not _is_below(upload["Key"], keep):
                self._give_up_transfer(upload["Key"], upload["UploadId"])

    def _give_up_transfer(self, key: str, upload_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:  # it has ended meanwhile
                raise

    def check(self) -> str:
        with translated("The bucket cannot be used."):
            self._client.head_bucket(Bucket=self._bucket)
        return "S3"

    @cached_property
    def _client(self) -> "S3Client":
        return self._given or clients.s3()


class _Over(Event):
    """Set by s3transfer when a transfer has ended and, where it failed, nothing is left of it."""

    def on_done(self, **_: object) -> None:
        self.set()


def _is_below(key: str, folder: str | None) -> bool:
    return folder is not None and key.startswith(f"{folder}/")


@contextmanager
def translated(message: str, *others: type[Exception]) -> Iterator[None]:
    expected: tuple[type[Exception], ...] = (BotoCoreError, ClientError, *others)
    try:
        yield
    except expected as error:
        # What S3 calls it tells whoever has set up the bucket what is wrong with it.
        named = {"reason": error.response["Error"]["Code"]} if isinstance(error, ClientError) else {}
        if isinstance(error, AwsError) and trouble(error) is not Trouble.REFUSED:
            raise ServiceUnavailable(f"{message} Send the request again later.", details=named) from error
        raise InternalError(message, details=named) from error
