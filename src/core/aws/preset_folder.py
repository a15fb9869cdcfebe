"""Presets of an operator's own under a prefix of a bucket: the text of each, by its name.

What the texts say, and for how long they are good, is core/presets.py's.
"""

from collections.abc import Mapping
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.errors import ServiceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_FILES = 200
MOST_BYTES = 64 * 1024  # of each; the package's own have 2,000 at most
ENDING = ".toml"


class S3PresetFolder:
    """`uri` is s3://bucket/prefix; what lies in folders below the prefix is left alone."""

    def __init__(self, uri: str, *, client: "S3Client | None" = None) -> None:
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._given = client

    def texts(self) -> Mapping[str, str]:
        """The first 200 files, each up to its first 64 KiB, which no preset has. Raises ServiceUnavailable."""
        try:
            return {self._name(key): self._text(key) for key in self._keys()}
        except (BotoCoreError, ClientError) as error:
            message = "The presets of PRESETS_DIR cannot be read at the moment; send the request again later."
            raise ServiceUnavailable(message) from error

    def _keys(self) -> list[str]:
        answer = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
        )
        keys = [entry["Key"] for page in answer for entry in page.get("Contents", ()) if entry["Size"]]
        return [key for key in keys if key.endswith(ENDING) and self._name(key)][:MOST_FILES]

    def _text(self, key: str) -> str:
        answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{MOST_BYTES - 1}")
        with closing(answer["Body"]) as body:
            return body.read().decode(errors="replace")

    def _name(self, key: str) -> str:
        return key.removeprefix(self._prefix).removesuffix(ENDING)

    @cached_property
    def _client(self) -> "S3Client":
        return self._given or clients.s3()
