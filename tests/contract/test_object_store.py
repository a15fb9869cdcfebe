"""What ports.ObjectStore promises, on both twins; below, what each of them has of its own."""

import hashlib
import os
import stat
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from core.aws.object_store import S3ObjectStore
from core.errors import InternalError, InvalidArgument
from core.local.object_store import FolderObjectStore, load_secret
from core.ports import ObjectStore, StoredObject
from support import moto_server
from support.moto_server import Moto

ODD_NAMES = [
    "plain.mp4",
    "two words.mp4",
    'it\'s "quoted".mp4',
    "ünïcode.mp4",
    "日本.mp4",
    "frame_%03d.png",
    "100%.mp4",
    "a+b&c=d.mp4",
    "#1?.mp4",
    "semi;colon,comma.mp4",
    "back\\slash.mp4",
    "-rf.mp4",
    "~home.mp4",
    ".hidden",
]


def a_file(folder: Path, content: bytes, name: str = "scratch.bin") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def put(objects: ObjectStore, key: str, path: Path, *, content_type: str = "video/mp4") -> StoredObject:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    objects.put_file(key, path, sha256=sha256, content_type=content_type)
    return StoredObject(size_bytes=len(content), sha256=sha256)


def fetch(url: str, **headers: str) -> tuple[int, str, bytes]:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read()


def refusal(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(url)
    caught.value.close()
    return caught.value.code


@pytest.mark.parametrize(
    ("most", "expected"), [(1, b"a"), (4, b"a lo"), (5, b"a log"), (6, b"a log"), (10**9, b"a log")]
)
def test_read_gives_the_beginning(objects: ObjectStore, tmp_path: Path, most: int, expected: bytes) -> None:
    put(objects, "o/logs/t/1.log", a_file(tmp_path, b"a log"))
    assert objects.read("o/logs/t/1.log", most_bytes=most) == expected


def test_read_of_what_is_not_there_gives_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    put(objects, "o/logs/t/1.log", a_file(tmp_path, b"a log"))
    for key in ("o/logs/t/2.log", "o/logs/t", "o/logs/t/1.log/x", "none"):
        assert objects.read(key, most_bytes=10) is None


def test_read_of_an_empty_object_gives_no_bytes(objects: ObjectStore, tmp_path: Path) -> None:
    put(objects, "o/t/empty", a_file(tmp_path, b""))
    assert objects.read("o/t/empty", most_bytes=10) == b""


@pytest.mark.parametrize("content", [b"", b"x", b"\0\xff" * 5000], ids=["empty", "one byte", "10 kB"])
def test_what_was_put_is_there_and_its_link_gives_the_same_bytes(
    objects: ObjectStore, tmp_path: Path, content: bytes
) -> None:
    stored = put(objects, "outputs/t/1/out.mp4", a_file(tmp_path, content))
    assert objects.head("outputs/t/1/out.mp4") == stored
    assert fetch(objects.link("outputs/t/1/out.mp4", expires_in_seconds=60)) == (200, "video/mp4", content)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_can_be_stored_and_linked(objects: ObjectStore, tmp_path: Path, name: str) -> None:
    key, content = f"outputs/t/1/{name}", name.encode()
    stored = put(objects, key, a_file(tmp_path, content), content_type="image/png")
    assert objects.head(key) == stored
    assert fetch(objects.link(key, expires_in_seconds=60)) == (200, "image/png", content)


def test_names_that_differ_in_little_are_different_objects(objects: ObjectStore, tmp_path: Path) -> None:
    keys = ["o/t/a.mp4", "o/t/A.mp4", "o/t/a .mp4", "o/t/a+.mp4", "o/t/a%20.mp4", "o/t/ä.mp4", "o/t/ä.mp4"]
    for key in keys:
        put(objects, key, a_file(tmp_path, key.encode(), name=hashlib.sha256(key.encode()).hexdigest()))
    assert [fetch(objects.link(key, expires_in_seconds=60))[2] for key in keys] == [key.encode() for key in keys]


def test_a_file_of_several_parts_arrives_whole(objects: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(1024**2) * 35
    stored = put(objects, "outputs/t/1/large.mp4", a_file(tmp_path, content))
    assert objects.head("outputs/t/1/large.mp4") == stored
    status, _, fetched = fetch(objects.link("outputs/t/1/large.mp4", expires_in_seconds=60))
    assert (status, hashlib.sha256(fetched).hexdigest()) == (200, stored.sha256)


def test_a_link_serves_ranges(objects: ObjectStore, tmp_path: Path) -> None:
    put(objects, "o/t/1/out.mp4", a_file(tmp_path, b"0123456789"))
    link = objects.link("o/t/1/out.mp4", expires_in_seconds=60)
    assert fetch(link, Range="bytes=2-5") == (206, "video/mp4", b"2345")
    assert fetch(link, Range="bytes=-3") == (206, "video/mp4", b"789")


def test_head_of_what_is_not_there_is_none(objects: ObjectStore, tmp_path: Path) -> None:
    put(objects, "outputs/t/1/out.mp4", a_file(tmp_path, b"x"))
    for key in ("outputs/t/1/other.mp4", "outputs/t/2/out.mp4", "outputs/t", "outputs/t/1/out.mp4/more"):
        assert objects.head(key) is None


def test_a_link_to_nothing_is_refused(objects: ObjectStore) -> None:
    assert refusal(objects.link("outputs/t/1/none.mp4", expires_in_seconds=60)) == 404


def test_put_replaces_the_whole_object(objects: ObjectStore, tmp_path: Path) -> None:
    key = "outputs/t/1/out.mp4"
    put(objects, key, a_file(tmp_path, b"long and first", name="a"), content_type="video/mp4")
    stored = put(objects, key, a_file(tmp_path, b"second", name="b"), content_type="video/webm")
    assert objects.head(key) == stored
    assert fetch(objects.link(key, expires_in_seconds=60)) == (200, "video/webm", b"second")


def test_the_same_file_can_be_put_twice(objects: ObjectStore, tmp_path: Path) -> None:
    path = a_file(tmp_path, b"content")
    assert put(objects, "o/t/1/a.mp4", path) == put(objects, "o/t/1/a.mp4", path) == objects.head("o/t/1/a.mp4")
    put(objects, "o/t/1/b.mp4", path)
    assert fetch(objects.link("o/t/1/b.mp4", expires_in_seconds=60))[2] == b"content"


def test_a_reader_sees_one_version_or_the_other(objects: ObjectStore, tmp_path: Path) -> None:
    key = "o/t/1/out.mp4"
    files = [a_file(tmp_path, bytes([number]) * 1000 * number, name=str(number)) for number in range(1, 6)]
    versions = [put(objects, key, file) for file in files]
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(objects.head(key))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(5):
            for file in files:
                put(objects, key, file)
    finally:
        stop.set()
        reader.join()
    assert seen - {None} <= set(versions)


def test_an_object_outlives_the_file_that_it_was_made_of(objects: ObjectStore, tmp_path: Path) -> None:
    path = a_file(tmp_path, b"content")
    put(objects, "o/t/1/out.mp4", path)
    path.unlink()
    assert fetch(objects.link("o/t/1/out.mp4", expires_in_seconds=60))[2] == b"content"


def test_put_of_a_file_that_is_not_there_stores_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InternalError):
        objects.put_file("o/t/1/out.mp4", tmp_path / "none", sha256="0" * 64, content_type="video/mp4")
    assert objects.head("o/t/1/out.mp4") is None


def test_check_says_what_is_in_use(objects: ObjectStore) -> None:
    assert objects.check().startswith(("S3", "a folder with "))


# One machine


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> FolderObjectStore:
    return FolderObjectStore(tmp_path / "objects", base_url="http://h:1/", secret=b"secret", clock=clock)


def token_of(link: str) -> str:
    return urlsplit(link).path.split("/")[2]


BAD_KEYS = ["", "/", "/etc/passwd", "..", "../x", "a/../x", "a/..", "./a", "a/./b", "a//b", "a/", "a\0b", "a/\ud800"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_folder_refuses_keys_that_are_not_below_it(folder: FolderObjectStore, tmp_path: Path, key: str) -> None:
    path = a_file(tmp_path, b"x")
    with pytest.raises(InvalidArgument):
        folder.put_file(key, path, sha256="0" * 64, content_type="video/mp4")
    with pytest.raises(InvalidArgument):
        folder.head(key)
    with pytest.raises(InvalidArgument):
        folder.link(key, expires_in_seconds=60)
    assert folder.open_link(token_of(folder.link("a/b", expires_in_seconds=60)), key) is None


def test_folder_link_ends_when_it_says(folder: FolderObjectStore, clock: Clock, tmp_path: Path) -> None:
    put(folder, "o/t/1/out.mp4", a_file(tmp_path, b"x"))
    link = folder.link("o/t/1/out.mp4", expires_in_seconds=60)
    assert link.startswith("http://h:1/files/1000060-")
    clock.now += 59.9
    found = folder.open_link(token_of(link), "o/t/1/out.mp4")
    assert found is not None
    assert (found.path.read_bytes(), found.content_type) == (b"x", "video/mp4")
    clock.now += 0.1
    assert folder.open_link(token_of(link), "o/t/1/out.mp4") is None


def test_folder_link_works_for_what_is_below_its_folder_and_nothing_else(
    folder: FolderObjectStore, tmp_path: Path
) -> None:
    keys = ["o/t/1/list.m3u8", "o/t/1/seg 1.ts", "o/t/1/v0/seg.ts", "o/t/2/x.ts", "o/t/10/x.ts", "o/x.ts", "x.ts"]
    for number, key in enumerate(keys):
        put(folder, key, a_file(tmp_path, b"x", name=str(number)))
    token = token_of(folder.link("o/t/1/list.m3u8", expires_in_seconds=60))
    assert [key for key in keys if folder.open_link(token, key)] == keys[:3]
    top = token_of(folder.link("x.ts", expires_in_seconds=60))
    assert [key for key in keys if folder.open_link(top, key)] == ["x.ts"]


def test_folder_refuses_forged_links(folder: FolderObjectStore, tmp_path: Path) -> None:
    key = "o/t/1/out.mp4"
    put(folder, key, a_file(tmp_path, b"x"))
    expires, _, signature = token_of(folder.link(key, expires_in_seconds=60)).partition("-")
    other = FolderObjectStore(tmp_path / "objects", base_url="http://h:1", secret=b"other", clock=lambda: 1e6)
    forged = [
        "", "-", expires, f"{expires}-", f"-{signature}", f"{int(expires) + 1}-{signature}", f"+{expires}-{signature}",
        f"{expires}-{signature[:-1]}", f"{expires}-{signature}0", f"{expires}-{signature.upper()}", f"{expires}-ü",
        f"{'9' * 30}-{signature}", f"０-{signature}", token_of(other.link(key, expires_in_seconds=60)),
    ]  # fmt: skip
    assert [token for token in forged if folder.open_link(token, key)] == []
    assert folder.open_link(f"{expires}-{signature}", key)


def test_folder_takes_the_file_over_without_a_copy(folder: FolderObjectStore, tmp_path: Path) -> None:
    path = a_file(tmp_path, b"content")
    put(folder, "o/t/1/out.mp4", path)
    found = folder.open_link(token_of(folder.link("o/t/1/out.mp4", expires_in_seconds=60)), "o/t/1/out.mp4")
    assert found is not None
    assert found.path.stat().st_ino == path.stat().st_ino
    assert stat.S_IMODE(found.path.stat().st_mode) & 0o222 == 0


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_folder_copies_from_another_file_system(folder: FolderObjectStore) -> None:
    path = Path("/dev/shm") / f"transcoding-test-{os.getpid()}"
    path.write_bytes(b"content" * 1000)
    try:
        stored = put(folder, "o/t/1/out.mp4", path)
    finally:
        path.unlink()
    assert folder.head("o/t/1/out.mp4") == stored


def test_folder_shows_nothing_of_a_put_that_was_cut_off(folder: FolderObjectStore, tmp_path: Path) -> None:
    key = "o/t/1/out.mp4"
    cut_off = tmp_path / "objects" / "files" / key
    cut_off.parent.mkdir(parents=True)
    cut_off.write_bytes(b"hal")
    assert folder.head(key) is None
    stored = put(folder, key, a_file(tmp_path, b"whole"))
    assert folder.head(key) == stored
    found = folder.open_link(token_of(folder.link(key, expires_in_seconds=60)), key)
    assert found is not None
    assert found.path.read_bytes() == b"whole"


def test_folder_tells_the_size_that_is_on_the_disk(folder: FolderObjectStore, tmp_path: Path) -> None:
    stored = put(folder, "o/t/1/out.mp4", a_file(tmp_path, b"0123456789"))
    os.truncate(tmp_path / "objects" / "files" / "o/t/1/out.mp4", 4)
    assert folder.head("o/t/1/out.mp4") == StoredObject(size_bytes=4, sha256=stored.sha256)


def test_folder_keeps_nothing_of_what_was_replaced(folder: FolderObjectStore, tmp_path: Path) -> None:
    for number in range(3):
        put(folder, "o/t/1/out.mp4", a_file(tmp_path, bytes(number), name=str(number)))
    assert len([path for path in (tmp_path / "objects").rglob("*") if path.is_file()]) == 2


def test_folder_stores_no_symbolic_links(folder: FolderObjectStore, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    with pytest.raises(InternalError):
        folder.put_file("o/t/1/out.mp4", link, sha256="0" * 64, content_type="video/mp4")
    assert folder.head("o/t/1/out.mp4") is None


def test_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    secrets: set[bytes] = set()
    threads = [threading.Thread(target=lambda: secrets.add(load_secret(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert secrets == {path.read_bytes()}
    assert (len(path.read_bytes()), stat.S_IMODE(path.stat().st_mode)) == (32, 0o600)
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


def test_folder_has_no_s3_name(folder: FolderObjectStore) -> None:
    assert folder.uri("o/t/1/out.mp4") is None


# AWS


def test_s3_object_has_its_type_its_checksum_and_its_name(aws: Moto, tmp_path: Path) -> None:
    objects = S3ObjectStore(moto_server.BUCKET)
    stored = put(objects, "o/t/1/a b.webm", a_file(tmp_path, b"x"), content_type="video/webm")
    answer = boto3.client("s3").head_object(Bucket=moto_server.BUCKET, Key="o/t/1/a b.webm")
    assert (answer["ContentType"], answer["Metadata"]) == ("video/webm", {"sha256": stored.sha256})
    assert objects.uri("o/t/1/a b.webm") == "s3://outputs-bucket/o/t/1/a b.webm"


def test_s3_large_file_goes_up_in_parts_and_leaves_none_behind(aws: Moto, tmp_path: Path) -> None:
    objects = S3ObjectStore(moto_server.BUCKET)
    put(objects, "o/t/1/large.mp4", a_file(tmp_path, bytes(20 * 1024**2)))
    client = boto3.client("s3")
    assert client.head_object(Bucket=moto_server.BUCKET, Key="o/t/1/large.mp4")["ETag"].endswith('-2"')
    assert "Uploads" not in client.list_multipart_uploads(Bucket=moto_server.BUCKET)


def test_s3_link_names_region_and_bucket_on_aws_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    link = urlsplit(S3ObjectStore("some-bucket").link("o/t/1/ü.mp4", expires_in_seconds=60))
    assert (link.scheme, link.netloc) == ("https", "some-bucket.s3.eu-central-1.amazonaws.com")
    assert link.path == "/o/t/1/%C3%BC.mp4"
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link.query
    assert "X-Amz-Expires=60" in link.query


def test_s3_without_its_bucket_is_not_usable(aws: Moto) -> None:
    with pytest.raises(InternalError):
        S3ObjectStore("no-such-bucket").check()
