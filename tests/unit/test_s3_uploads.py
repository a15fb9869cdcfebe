"""What S3 says of an upload that is over, or that it will not have, in its own words: moto has none for them."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from core.aws.upload_store import S3UploadStore
from core.errors import InternalError, ServiceError, ServiceUnavailable
from core.upload import Received

PLACE = {"Bucket": "bucket", "Key": "uploads/one/file", "UploadId": "transfer"}
PARTS = {2: Received(5, '"b"'), 1: Received(10, '"a"')}
LISTED = {"Parts": [{"PartNumber": 1, "ETag": '"a"'}, {"PartNumber": 2, "ETag": '"b"'}]}


@pytest.fixture
def s3() -> Iterator[tuple[S3UploadStore, Stubber]]:
    client: Any = boto3.client(
        "s3", region_name="eu-central-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    with Stubber(client) as stub:
        yield S3UploadStore("bucket", client=client), stub
        stub.assert_no_pending_responses()
    client.close()


def test_parts_are_finished_in_their_order_and_by_what_was_seen_of_them(s3: tuple[S3UploadStore, Stubber]) -> None:
    store, stub = s3
    stub.add_response("complete_multipart_upload", {}, {**PLACE, "MultipartUpload": LISTED})
    assert store.finish("one", "transfer", PARTS) is True


@pytest.mark.parametrize(("code", "status"), [("NoSuchUpload", 404), ("InvalidPart", 400)])
def test_upload_that_is_over_or_another_by_now_is_not_finished(
    s3: tuple[S3UploadStore, Stubber], code: str, status: int
) -> None:
    store, stub = s3
    stub.add_client_error("complete_multipart_upload", code, http_status_code=status)
    assert store.finish("one", "transfer", PARTS) is False


def test_upload_that_is_over_has_no_parts(s3: tuple[S3UploadStore, Stubber]) -> None:
    store, stub = s3
    stub.add_client_error("list_parts", "NoSuchUpload", http_status_code=404)
    assert store.received("one", "transfer") is None


@pytest.mark.parametrize(
    ("code", "status", "raised"),
    [
        ("AccessDenied", 403, InternalError),
        ("NoSuchBucket", 404, InternalError),
        ("SlowDown", 503, ServiceUnavailable),
        ("InternalError", 500, ServiceUnavailable),
    ],
)
def test_what_passes_says_so_and_all_else_is_our_fault(
    s3: tuple[S3UploadStore, Stubber], code: str, status: int, raised: type[ServiceError]
) -> None:
    store, stub = s3
    for call in ("list_parts", "complete_multipart_upload", "create_multipart_upload", "list_objects_v2"):
        stub.add_client_error(call, code, http_status_code=status)
    for use in (
        lambda: store.received("one", "transfer"),
        lambda: store.finish("one", "transfer", PARTS),
        lambda: store.begin("one"),
        lambda: store.size("one"),
    ):
        with pytest.raises(raised, match="The upload could not be"):
            use()


def test_parts_of_more_than_one_page_are_all_seen(s3: tuple[S3UploadStore, Stubber]) -> None:
    store, stub = s3
    first = {"PartNumber": 1, "Size": 10, "ETag": '"a"'}
    second = {"PartNumber": 2, "Size": 5, "ETag": '"b"'}
    stub.add_response("list_parts", {"Parts": [first], "IsTruncated": True, "NextPartNumberMarker": 1})
    stub.add_response("list_parts", {"Parts": [second], "IsTruncated": False})
    assert store.received("one", "transfer") == PARTS


def test_transfer_asks_for_no_checksums_of_its_parts(s3: tuple[S3UploadStore, Stubber]) -> None:
    """A browser that PUTs to a link sends none, and S3 refuses a part without what was asked for at the beginning."""
    store, stub = s3
    wanted = {"Bucket": "bucket", "Key": PLACE["Key"]}  # and nothing else
    stub.add_response("create_multipart_upload", {"UploadId": "transfer"}, wanted)
    assert store.begin("one") == "transfer"
