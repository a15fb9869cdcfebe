"""What ports.UploadStore promises, on both twins: parts are really PUT to the links, over HTTP."""

import gc
import hashlib
import random
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from core import upload as domain
from core.aws.upload_store import S3UploadStore
from core.errors import ServiceUnavailable
from core.local.upload_store import SPARE_BYTES, FolderUploadStore
from core.ports import InputGone, InputTooLarge
from core.upload import Part, Received, UploadStore
from handlers.web import errors, uploads
from support import moto_server

TWINS = ["local", "aws"]
PATIENCE = 60.0  # seconds; only a failing test waits that long
MIB = 1024**2
ONE = Part(1, 5 * MIB)
TWO = Part(2, 1000)
REFUSED = (404, 500)  # to an upload that is over: S3 and the folder say 404, moto falls over it


@pytest.fixture(params=TWINS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UploadStore]:
    """An upload store whose links can be PUT to."""
    if request.param == "aws":
        request.getfixturevalue("aws")
        yield S3UploadStore(moto_server.BUCKET)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        folder = FolderUploadStore(tmp_path / "uploads", base_url=base_url, secret=b"a secret")
        app = FastAPI()
        errors.install(app)
        app.include_router(uploads.router(folder.take, ()))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield folder
        finally:
            server.should_exit = True
            thread.join()


def content(part: Part) -> bytes:
    return random.Random(part.number).randbytes(part.size_bytes)


def put(store: UploadStore, transfer: str, part: Part, body: bytes | None = None, upload_id: str = "one") -> int:
    url = store.link(upload_id, transfer, part, expires_in_seconds=60)
    answer = httpx.put(url, content=content(part) if body is None else body, trust_env=False, timeout=PATIENCE)
    return answer.status_code


def sizes(received: dict[int, Received] | object) -> dict[int, int] | None:
    return {number: part.size_bytes for number, part in received.items()} if isinstance(received, dict) else None


def finished(store: UploadStore, *parts: Part, upload_id: str = "one") -> str:
    transfer = store.begin(upload_id)
    for part in parts:
        assert put(store, transfer, part, upload_id=upload_id) == 200
    received = store.received(upload_id, transfer)
    assert received
    assert store.finish(upload_id, transfer, received)
    return transfer


def got(store: UploadStore, path: Path, *, max_bytes: int = 10**12, on_piece: Callable[[], None] = lambda: None) -> int:
    return store.get_file("one", path, max_bytes=max_bytes, on_piece=on_piece)


def test_file_comes_back_as_its_parts_were_sent_in_any_order(store: UploadStore, tmp_path: Path) -> None:
    transfer = store.begin("one")
    assert store.received("one", transfer) == {}
    assert [put(store, transfer, part) for part in (TWO, ONE)] == [200, 200]
    received = store.received("one", transfer)
    assert sizes(received) == {1: ONE.size_bytes, 2: TWO.size_bytes}
    assert store.size("one") is None

    assert received
    assert store.finish("one", transfer, received) is True

    assert store.size("one") == ONE.size_bytes + TWO.size_bytes
    assert got(store, tmp_path / "got") == ONE.size_bytes + TWO.size_bytes
    assert (tmp_path / "got").read_bytes() == content(ONE) + content(TWO)
    assert store.received("one", transfer) is None


def test_file_of_one_part_comes_back(store: UploadStore, tmp_path: Path) -> None:
    finished(store, Part(1, 3))
    assert got(store, tmp_path / "got") == 3
    assert (tmp_path / "got").read_bytes() == content(Part(1, 3))


def test_file_that_is_read_twice_to_one_place_comes_back_twice(store: UploadStore, tmp_path: Path) -> None:
    finished(store, Part(1, 3))
    for _ in range(2):
        assert got(store, tmp_path / "got") == 3
        assert (tmp_path / "got").read_bytes() == content(Part(1, 3))
    assert store.size("one") == 3


def test_part_that_is_sent_again_takes_the_place_of_the_first(store: UploadStore, tmp_path: Path) -> None:
    transfer = store.begin("one")
    assert put(store, transfer, TWO._replace(number=1), b"x" * 1000) == 200
    assert put(store, transfer, TWO._replace(number=1), b"y" * 1000) == 200
    received = store.received("one", transfer)
    assert received
    assert store.finish("one", transfer, received)
    got(store, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"y" * 1000


def test_nothing_is_taken_once_it_is_finished(store: UploadStore, tmp_path: Path) -> None:
    small = Part(1, 10)
    transfer = store.begin("one")
    assert put(store, transfer, small) == 200
    received = store.received("one", transfer)
    assert received
    assert store.finish("one", transfer, received)

    assert put(store, transfer, small, b"x" * 10) in REFUSED
    store.finish("one", transfer, received)
    got(store, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content(small)


def test_of_many_that_finish_at_once_all_leave_the_same_file(store: UploadStore, tmp_path: Path) -> None:
    transfer = store.begin("one")
    for part in (ONE, TWO):
        assert put(store, transfer, part) == 200
    received = store.received("one", transfer)
    assert received

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda _: store.finish("one", transfer, received), range(4)))

    assert True in won
    got(store, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content(ONE) + content(TWO)


def test_delete_leaves_nothing_and_takes_nothing(store: UploadStore, tmp_path: Path) -> None:
    small = Part(1, 10)
    begun, other = store.begin("one"), store.begin("other")
    assert put(store, begun, small) == 200
    assert put(store, other, small, upload_id="other") == 200

    store.delete("one", begun)
    store.delete("one", begun)

    assert (store.received("one", begun), store.size("one")) == (None, None)
    assert put(store, begun, small) in REFUSED
    if isinstance(store, FolderUploadStore):  # moto falls over it; what S3 says is in test_s3_uploads.py
        assert store.finish("one", begun, {1: Received(10, "")}) is False
    with pytest.raises(InputGone):
        got(store, tmp_path / "got")
    assert sizes(store.received("other", other)) == {1: 10}


def test_delete_takes_a_finished_file_too(store: UploadStore, tmp_path: Path) -> None:
    transfer = finished(store, Part(1, 10))
    store.delete("one", transfer)
    assert store.size("one") is None
    with pytest.raises(InputGone):
        got(store, tmp_path / "got")


def test_open_upload_is_no_file(store: UploadStore, tmp_path: Path) -> None:
    transfer = store.begin("one")
    assert put(store, transfer, Part(1, 10)) == 200
    assert store.size("one") is None
    with pytest.raises(InputGone):
        got(store, tmp_path / "got")
    assert list(tmp_path.glob("got*")) == []


def test_file_that_is_too_large_is_not_begun(store: UploadStore, tmp_path: Path) -> None:
    finished(store, ONE, TWO)
    with pytest.raises(InputTooLarge):
        got(store, tmp_path / "got", max_bytes=ONE.size_bytes + TWO.size_bytes - 1)
    assert list(tmp_path.glob("got*")) == []
    assert got(store, tmp_path / "got", max_bytes=ONE.size_bytes + TWO.size_bytes)


# boto3 leaves the connection of a transfer that was ended to the garbage collector, which warns of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_reading_ends_when_it_is_told_to(store: UploadStore, tmp_path: Path) -> None:
    finished(store, ONE, TWO)
    asked: list[None] = []

    def stop() -> None:
        asked.append(None)
        if len(asked) > 1:
            raise KeyError

    with pytest.raises(KeyError):
        got(store, tmp_path / "got", on_piece=stop)
    gc.collect()  # now, and not in the next test


def test_link_names_the_size_that_is_signed(store: UploadStore) -> None:
    transfer = store.begin("one")
    url = store.link("one", transfer, TWO, expires_in_seconds=60)
    if isinstance(store, S3UploadStore):
        signed = httpx.URL(url).params["X-Amz-SignedHeaders"]
        assert signed == "content-length;host"
        assert not [name for name in httpx.URL(url).params if "checksum" in name.lower()]
    else:
        assert f"-{TWO.size_bytes}-" in url


@pytest.mark.parametrize("store", ["local"], indirect=True)
@pytest.mark.parametrize("body", [b"x" * 999, b"x" * 1001, b"", b"x" * 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_body_of_another_size_is_refused_and_leaves_nothing(store: UploadStore, body: bytes, chunked: bool) -> None:
    transfer = store.begin("one")
    url = store.link("one", transfer, TWO, expires_in_seconds=60)
    sent = iter([body[at : at + 500] for at in range(0, len(body), 500)]) if chunked else body
    try:
        answer = httpx.put(url, content=sent, trust_env=False, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_ARGUMENT")
    except httpx.TransportError:  # the service hung up on the rest
        assert len(body) > 1_000_000
    assert store.received("one", transfer) == {}


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_part_that_breaks_off_leaves_nothing_and_can_be_sent_again(store: UploadStore, tmp_path: Path) -> None:
    transfer = store.begin("one")
    url = store.link("one", transfer, ONE, expires_in_seconds=60)
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=PATIENCE) as connection:
        head = f"PUT {place.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {ONE.size_bytes}\r\n\r\n"
        connection.sendall(head.encode() + content(ONE)[: 2 * MIB])
        wait_for(lambda: any(path.stat().st_size for path in (tmp_path / "uploads").rglob("*.draft")))
        assert store.received("one", transfer) == {}

    wait_for(lambda: not list((tmp_path / "uploads").rglob("*.draft")))
    assert store.received("one", transfer) == {}
    assert put(store, transfer, ONE) == 200
    assert sizes(store.received("one", transfer)) == {1: ONE.size_bytes}


@pytest.mark.parametrize("pieces", [0, 1])
def test_part_for_which_the_disk_has_no_room_to_spare_is_not_taken(tmp_path: Path, pieces: int) -> None:
    free = [SPARE_BYTES + TWO.size_bytes] * (1 + pieces) + [SPARE_BYTES - 1]
    folder = FolderUploadStore(tmp_path, base_url="", secret=b"", free_bytes=lambda _: free.pop(0))
    transfer = folder.begin("one")
    token = folder.link("one", transfer, TWO, expires_in_seconds=60).split("/")[2]

    with closing(folder.take(token, "one", TWO.number)) as draft:
        for _ in range(pieces):
            draft.write(b"x")
        with pytest.raises(ServiceUnavailable, match="has no room for this part: send it again when there is"):
            draft.write(b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_part_without_room_is_not_begun(tmp_path: Path) -> None:
    free = SPARE_BYTES + TWO.size_bytes - 1
    folder = FolderUploadStore(tmp_path, base_url="", secret=b"", free_bytes=lambda _: free)
    token = folder.link("one", folder.begin("one"), TWO, expires_in_seconds=60).split("/")[2]
    with pytest.raises(ServiceUnavailable):
        folder.take(token, "one", TWO.number)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("store", ["local"], indirect=True)
@pytest.mark.parametrize("ended", ["delete", "finish"])
def test_part_on_its_way_does_not_arrive_once_the_upload_is_over(
    store: UploadStore, tmp_path: Path, ended: str
) -> None:
    transfer = store.begin("one")
    assert put(store, transfer, TWO) == 200
    url = store.link("one", transfer, ONE, expires_in_seconds=60)

    def pieces() -> Iterator[bytes]:
        yield content(ONE)[: 3 * MIB]
        wait_for(lambda: list((tmp_path / "uploads").rglob("*.draft")) != [])
        if ended == "delete":
            store.delete("one", transfer)
        else:
            assert store.finish("one", transfer, {2: Received(TWO.size_bytes, "")})
        yield content(ONE)[3 * MIB :]

    answer = httpx.put(
        url, content=pieces(), headers={"Content-Length": str(ONE.size_bytes)}, trust_env=False, timeout=PATIENCE
    )

    assert answer.status_code == 404
    assert store.size("one") == (None if ended == "delete" else TWO.size_bytes)
    left = [path.relative_to(tmp_path).as_posix() for path in (tmp_path / "uploads").rglob("*") if path.is_file()]
    assert left == ([] if ended == "delete" else ["uploads/one/whole/00002"])


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_link_that_is_changed_in_any_place_does_not_work(store: UploadStore) -> None:
    transfer = store.begin("one")
    store.begin("other")
    url = store.link("one", transfer, TWO, expires_in_seconds=60)
    expires, size, signature = url.split("/uploads/")[1].split("/")[0].split("-")
    changed = [
        url.replace("/one/2", "/other/2"),
        url.replace("/one/2", "/one/3"),
        url.replace("/one/2", "/../2"),
        url.replace(f"-{size}-", "-1001-"),
        url.replace(expires, str(int(expires) + 1)),
        url.replace(signature, signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        url.replace(f"{expires}-{size}-{signature}", "x"),
        url.replace("/one/2", "/one/-2"),
        store.link("one", transfer, TWO, expires_in_seconds=-1),
    ]
    answers = [httpx.put(one, content=content(TWO), trust_env=False, timeout=PATIENCE).status_code for one in changed]
    assert answers == [404] * len(changed)
    assert store.received("one", transfer) == {}


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_file_on_another_file_system_is_copied(store: UploadStore) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("there is one file system only")
    finished(store, ONE)
    path = shared / f"upload-test-{time.monotonic_ns()}"
    try:
        assert got(store, path) == ONE.size_bytes
        assert path.read_bytes() == content(ONE)
    finally:
        path.unlink(missing_ok=True)


def test_large_file_comes_in_parts_side_by_side_in_little_memory(store: UploadStore, tmp_path: Path) -> None:
    size = 300_000_000 if isinstance(store, FolderUploadStore) else 150_000_000  # moto takes its time
    part_size = domain.part_size_bytes(size)
    starts = list(range(0, size, part_size))
    parts = [Part(number, min(part_size, size - at)) for number, at in enumerate(starts, start=1)]
    block = random.Random(0).randbytes(MIB)
    transfer = store.begin("one")

    def pieces(part: Part) -> Iterator[bytes]:
        left = part.size_bytes
        while left:
            piece = (block[part.number :] + block[: part.number])[:left]
            left -= len(piece)
            yield piece

    def send(part: Part) -> int:
        url = store.link("one", transfer, part, expires_in_seconds=600)
        headers = {"Content-Length": str(part.size_bytes)}
        return httpx.put(url, content=pieces(part), headers=headers, trust_env=False, timeout=120).status_code

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shuffled = random.Random(1).sample(parts, len(parts))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(send, shuffled)) == {200}
    received = store.received("one", transfer)
    assert received
    assert store.finish("one", transfer, received)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    path = tmp_path / "got"
    assert got(store, path) == size
    wanted = hashlib.sha256()
    for part in parts:
        for piece in pieces(part):
            wanted.update(piece)
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == wanted.hexdigest()
    if isinstance(store, FolderUploadStore):  # moto holds all of it, in this very process
        assert grown_mib < 60
    print(f"{type(store).__name__}: {grown_mib:.0f} MiB more at the peak")


def wait_for(said: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
