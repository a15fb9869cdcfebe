"""What ports.ObjectStore promises of ending a transfer and of deleting, on both twins; then what each has besides."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from core.aws.object_store import S3ObjectStore
from core.errors import InternalError, InvalidArgument, ServiceUnavailable
from core.local.object_store import FolderObjectStore
from core.ports import ObjectStore, StoredObject
from support import s3_proxy
from support.leftovers import seconds_until
from support.moto_server import BUCKET, Moto


class Enough(Exception):
    """The one who transfers has had enough."""


def raising_at(call: int) -> Callable[[], None]:
    calls = iter(range(1, call))

    def on_piece() -> None:
        if next(calls, None) is None:
            raise Enough

    return on_piece


def put(objects: ObjectStore, *keys: str, folder: Path) -> None:
    for key in keys:
        path = folder / hashlib.sha256(key.encode()).hexdigest()
        path.write_bytes(key.encode())
        objects.put_file(key, path, sha256="0" * 64, content_type="video/mp4")


def there(objects: ObjectStore, *keys: str) -> list[str]:
    return [key for key in keys if objects.head(key)]


def test_delete_takes_what_is_below_the_folder_and_nothing_else(objects: ObjectStore, tmp_path: Path) -> None:
    below = ["o/a/1/out.mp4", "o/a/1/v0/seg 1.ts", "o/a/1/ünï.ts"]
    others = ["o/a/10/out.mp4", "o/a/2/out.mp4", "o/a1/out.mp4", "o/b/1/out.mp4", "out.mp4"]
    put(objects, *below, *others, folder=tmp_path)

    assert objects.delete("o/a/1") == 3

    assert there(objects, *below, *others) == others
    assert objects.delete("o/a/1") == 0


def test_delete_keeps_what_is_to_be_kept(objects: ObjectStore, tmp_path: Path) -> None:
    kept = ["o/t/2/out.mp4", "o/t/2/v0/seg.ts"]
    others = ["o/t/1/out.mp4", "o/t/20/out.mp4", "o/t/3/2/out.mp4", "o/t/stray.mp4"]
    put(objects, *kept, *others, folder=tmp_path)

    assert objects.delete("o/t", keep="o/t/2") == 4

    assert there(objects, *kept, *others) == kept


def test_delete_of_what_is_not_there_is_no_error(objects: ObjectStore, tmp_path: Path) -> None:
    put(objects, "o/t", folder=tmp_path)
    assert [objects.delete(folder) for folder in ("o/t", "o/none", "none")] == [0, 0, 0]
    assert there(objects, "o/t") == ["o/t"]


def test_folder_can_be_used_again_after_it_was_deleted(objects: ObjectStore, tmp_path: Path) -> None:
    put(objects, "o/t/1/out.mp4", folder=tmp_path)
    objects.delete("o/t")
    put(objects, "o/t/1/out.mp4", folder=tmp_path)
    assert objects.head("o/t/1/out.mp4") == StoredObject(size_bytes=13, sha256="0" * 64)


def test_what_on_piece_raises_ends_the_transfer_and_comes_out(objects: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(40 * 1024**2))
    with pytest.raises(Enough):
        objects.put_file("o/t/1/out.mp4", path, sha256="0" * 64, content_type="video/mp4", on_piece=raising_at(1))
    assert objects.head("o/t/1/out.mp4") is None


def test_put_and_delete_at_once_do_each_other_no_harm(objects: ObjectStore, tmp_path: Path) -> None:
    # given folders that are written to and deleted, beside one that is only written to
    stop = threading.Event()
    deletions = 0

    def keep_deleting() -> None:
        nonlocal deletions
        while not stop.is_set() or deletions < 2:
            objects.delete("o/t/1")
            deletions += 1

    def keep_putting(number: int) -> list[str]:
        unexpected = []
        for turn in range(20):
            try:
                put(objects, f"o/t/1/v{number}/{turn}.ts", folder=tmp_path)
            except InternalError:
                continue  # its folder went while it was there
            found = objects.head(f"o/t/1/v{number}/{turn}.ts")
            if found and found.size_bytes == 0:
                unexpected.append(f"{number}/{turn}")
        return unexpected

    deleter = threading.Thread(target=keep_deleting)
    deleter.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            putting = [pool.submit(keep_putting, number) for number in range(3)]
            put(objects, *(f"o/t/2/{turn}.ts" for turn in range(20)), folder=tmp_path)
            unexpected = [future.result() for future in putting]
    finally:
        stop.set()
        deleter.join()

    assert unexpected == [[], [], []]
    assert len(there(objects, *(f"o/t/2/{turn}.ts" for turn in range(20)))) == 20
    objects.delete("o")
    assert there(objects, *(f"o/t/1/v{number}/{turn}.ts" for number in range(3) for turn in range(20))) == []


# One machine


@pytest.fixture
def folder(tmp_path: Path) -> FolderObjectStore:
    return FolderObjectStore(tmp_path / "objects", base_url="http://h:1/", secret=b"secret")


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A file of 5 MiB on another file system, so that it has to be copied."""
    path = Path("/dev/shm") / f"transcoding-cleanup-{os.getpid()}"
    if not path.parent.is_dir():
        pytest.skip("needs a second file system")
    path.write_bytes(bytes(5 * 1024**2))
    yield path
    path.unlink()


def left_in(tmp_path: Path) -> list[str]:
    root = tmp_path / "objects"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("call", [1, 2, 5])
def test_folder_keeps_nothing_of_a_copy_that_was_ended(
    folder: FolderObjectStore, tmp_path: Path, other_disk: Path, call: int
) -> None:
    with pytest.raises(Enough):
        folder.put_file("o/1/a.mp4", other_disk, sha256="0", content_type="video/mp4", on_piece=raising_at(call))
    assert left_in(tmp_path) == []


def test_folder_keeps_nothing_of_a_file_that_cannot_be_published(folder: FolderObjectStore, tmp_path: Path) -> None:
    # given a folder in the place of the note
    (tmp_path / "objects" / "about" / "o" / "1" / "a.mp4").mkdir(parents=True)
    with pytest.raises(InternalError):
        put(folder, "o/1/a.mp4", folder=tmp_path)
    assert left_in(tmp_path) == []


def test_folder_deletes_what_killed_processes_left(folder: FolderObjectStore, tmp_path: Path) -> None:
    # given an object, a file that was never published, a note that was never finished, and a note without its file
    put(folder, "o/t/1/a.mp4", "o/t/1/b.mp4", "o/u/1/a.mp4", folder=tmp_path)
    root = tmp_path / "objects"
    (root / "files/o/t/1/0f0e0d0c0b0a09080706050403020100").write_bytes(b"half")
    (root / "about/o/t/1/00112233445566778899aabbccddeeff").write_bytes(b'{"file": "a.m')
    (root / "files/o/t/1/b.mp4").unlink()

    assert folder.delete("o/t") == 1

    assert left_in(tmp_path) == ["about/o/u/1/a.mp4", "files/o/u/1/a.mp4"]
    assert not (root / "files/o/t").exists()
    assert not (root / "about/o/t").exists()


@pytest.mark.parametrize("bad", ["", "/", "/etc", "..", "../x", "o/../..", "o/..", "./o", "o//t", "o/", "o\0"])
def test_folder_deletes_nothing_that_is_not_below_it(folder: FolderObjectStore, tmp_path: Path, bad: str) -> None:
    put(folder, "o/t/1/a.mp4", folder=tmp_path)
    with pytest.raises(InvalidArgument):
        folder.delete(bad)
    with pytest.raises(InvalidArgument):
        folder.delete("o", keep=bad or "/")
    assert there(folder, "o/t/1/a.mp4") == ["o/t/1/a.mp4"]


def test_folder_deletes_nothing_behind_a_link(folder: FolderObjectStore, tmp_path: Path) -> None:
    put(folder, "o/t/1/a.mp4", folder=tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"x")
    (tmp_path / "objects/files/o/t/1/link").symlink_to(outside)

    assert folder.delete("o/t") == 1

    assert [path.name for path in outside.iterdir()] == ["file"]


# AWS


def transfers() -> list[str]:
    return sorted(entry["Key"] for entry in boto3.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))


def test_s3_delete_gives_up_transfers_that_were_begun_below(aws: Moto, tmp_path: Path) -> None:
    objects, client = S3ObjectStore(BUCKET), boto3.client("s3")
    put(objects, "o/t/1/a.mp4", folder=tmp_path)
    for key in ("o/t/1/a.mp4", "o/t/1/b.mp4", "o/t/1/b.mp4", "o/t/2/c.mp4", "o/t/20/c.mp4", "o/t1/d.mp4", "o/u/d.mp4"):
        upload_id = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload_id, PartNumber=1, Body=b"x")

    assert objects.delete("o/t", keep="o/t/2") == 1
    assert transfers() == ["o/t/2/c.mp4", "o/t1/d.mp4", "o/u/d.mp4"]


def test_s3_ended_transfer_leaves_no_parts(aws: Moto, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(200 * 1024**2)
    with s3_proxy.proxying(aws.url) as proxy:
        proxy.bytes_per_second = 5_000_000
        objects = S3ObjectStore(BUCKET, client=proxy.client())

        def on_piece() -> None:
            if "UploadPart" in proxy.seen:
                raise Enough

        with pytest.raises(Enough):
            objects.put_file("o/a.mp4", path, sha256="0", content_type="video/mp4", on_piece=on_piece)
        seconds_until(lambda: transfers() == [], most=60)  # of what is on its way it waits for some, not for all
        assert objects.head("o/a.mp4") is None


def test_s3_delete_of_thousands_goes_on_where_it_was_cut_off(aws: Moto) -> None:
    # given
    client = boto3.client("s3")
    keys = [f"o/t/{number}.ts" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys))

    with s3_proxy.proxying(aws.url) as proxy:
        objects = S3ObjectStore(BUCKET, client=proxy.client(tries=1))
        proxy.once("DeleteObjects", s3_proxy.passes, s3_proxy.answers(503, "SlowDown"))

        # when
        with pytest.raises(ServiceUnavailable):
            objects.delete("o/t")

        # then
        assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 5
        assert objects.delete("o/t") == 5
        assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
        assert proxy.seen.count("DeleteObjects") == 3
