"""Uploads in the bucket of the outputs, under a prefix of their own: each a multipart upload, even of one part.

So a file that is finished cannot be replaced through a link that still works, as it could with a plain PUT, and what
was begun and never finished is no object. The size of a part is signed with its link.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from core.aws import client as clients
from core.aws.input_store import S3InputStore
from core.aws.object_store import S3ObjectStore, translated
from core.upload import Part, Received

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "uploads"
_OTHER_PARTS = frozenset({"NoSuchUpload", "InvalidPart"})


class S3UploadStore:
    """The UploadStore of AWS, in `bucket`."""

    def __init__(self, bucket: str, *, client: "S3Client | None" = None) -> None:
        self._bucket = bucket
        self._given = client

    def begin(self, upload_id: str) -> str:
        with translated("The upload could not be begun."):
            return self._client.create_multipart_upload(Bucket=self._bucket, Key=_key(upload_id))["UploadId"]

    def link(self, upload_id: str, transfer: str, part: Part, *, expires_in_seconds: int) -> str:
        """Signed with the credentials at hand: those of a role end, and the link with them, after some hours."""
        place = {"Bucket": self._bucket, "Key": _key(upload_id), "UploadId": transfer}
        wanted = {**place, "PartNumber": part.number, "ContentLength": part.size_bytes}
        with translated("The link could not be made."):
            return self._client.generate_presigned_url("upload_part", Params=wanted, ExpiresIn=expires_in_seconds)

    def received(self, upload_id: str, transfer: str) -> Mapping[int, Received] | None:
        with translated("The upload could not be read."):
            try:
                pages = self._client.get_paginator("list_parts").paginate(
                    Bucket=self._bucket, Key=_key(upload_id), UploadId=transfer
                )
                found = [part for page in pages for part in page.get("Parts", ())]
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchUpload":
                    return None
                raise
        return {part["PartNumber"]: Received(part["Size"], part["ETag"]) for part in found}

    def finish(self, upload_id: str, transfer: str, parts: Mapping[int, Received]) -> bool:
        listed = [{"PartNumber": number, "ETag": part.tag} for number, part in sorted(parts.items())]
        with translated("The upload could not be finished."):
            try:
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=_key(upload_id),
                    UploadId=transfer,
                    MultipartUpload={"Parts": listed},  # type: ignore[typeddict-item]
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in _OTHER_PARTS:
                    return False
                raise
        return True

    def size(self, upload_id: str) -> int | None:
        """From the list: to ask for the object itself would take leave to read it."""
        key = _key(upload_id)
        with translated("The upload could not be read."):
            listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key).get("Contents", ())
        return next((entry["Size"] for entry in listed if entry["Key"] == key), None)

    def get_file(self, upload_id: str, path: Path, *, max_bytes: int, on_piece: Callable[[], None]) -> int:
        objects = S3InputStore(client=self._client)
        return objects.get_file(self._bucket, _key(upload_id), path, max_bytes=max_bytes, on_piece=on_piece)

    def delete(self, upload_id: str, transfer: str) -> None:
        S3ObjectStore(self._bucket, client=self._client).delete(f"{PREFIX}/{upload_id}")

    @cached_property
    def _client(self) -> "S3Client":
        return self._given or clients.s3()


def _key(upload_id: str) -> str:
    return f"{PREFIX}/{upload_id}/file"
