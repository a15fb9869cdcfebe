"""A file is sent in parts, whatever happens on the way, and leaves nothing where it is given up."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handlers.client import upload
from handlers.client.api import Api, Patience
from handlers.client.faults import Fault, Interrupted, Refused, Unreachable, Usage
from support import client
from support.upload_front import UploadFront, before

PART = 100_000
SIZE = 5 * PART + 1234


@pytest.fixture
def front(tmp_path: Path) -> Iterator[UploadFront]:
    with before("http://127.0.0.1:1", tmp_path / "front", part_size_bytes=PART) as front:
        yield front


@pytest.fixture
def api(front: UploadFront) -> Iterator[Api]:
    with client.api(front.url, key="ffk_secret") as (api, _):
        yield api


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.mov"
    path.write_bytes(os.urandom(SIZE))
    return path


def sent(api: Api, file: Path) -> tuple[str, client.NoRow]:
    row = client.NoRow()
    return upload.send(api, file, seen=lambda done, total: row.moved("", done, total)), row


def waited_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)


def arrived(front: UploadFront) -> bytes:
    (one,) = front.uploads.values()
    assert one.status == "complete"
    return one.path.read_bytes()


def test_file_arrives_in_parts_at_once(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.pace = 400_000
    # none of the first goes on before there are four, or will never be
    front.faults.meanwhile = lambda: waited_for(lambda: front.most_at_once >= 4)

    url, row = sent(api, file)

    assert arrived(front) == file.read_bytes()
    assert url == f"upload:{next(iter(front.uploads))}"
    assert front.most_at_once == 4
    assert row.moves[-1] == ("", SIZE, SIZE)
    assert [done for _, done, _ in row.moves] == sorted(done for _, done, _ in row.moves)


def test_key_is_not_sent_to_links(front: UploadFront, api: Api, file: Path) -> None:
    sent(api, file)

    assert set(front.keys_at_links) == {None}


def test_part_that_is_cut_is_sent_again_and_no_other(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.cut_parts = Counter({2: 2, 6: 1})

    sent(api, file)

    assert arrived(front) == file.read_bytes()
    assert front.asked.count("PUT /parts/ID/2/1") == 3
    assert sum(asked.startswith("PUT") for asked in front.asked) == 6 + 3


def test_links_that_have_expired_are_renewed_once(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.expired_links = True

    sent(api, file)

    assert arrived(front) == file.read_bytes()
    assert front.asked.count("GET /ffmpeg/uploads/ID") <= 2


def test_parts_that_the_service_misses_are_sent_again(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.lost_parts = {3, 5}

    sent(api, file)

    assert arrived(front) == file.read_bytes()
    assert sum(asked.startswith("PUT") for asked in front.asked) == 6 + 2


def test_part_that_never_arrives_is_given_up_and_all_is_deleted(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.cut_parts = Counter({4: 99})

    with pytest.raises(Unreachable) as fault:
        upload.send(api, file, seen=lambda done, total: None, patience=Patience(tries=3, seconds=0))

    assert fault.value.code == "UPLOAD_FAILED"
    assert front.uploads == {}
    assert front.asked[-1] == "DELETE /ffmpeg/uploads/ID"


def test_part_is_tried_for_as_long_as_a_service_may_be_away(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.cut_parts = Counter({4: 2})

    upload.send(api, file, seen=lambda done, total: None, patience=Patience(tries=1, seconds=60))

    assert arrived(front) == file.read_bytes()


def test_waiting_for_parts_is_told_of_once(front: UploadFront, file: Path) -> None:
    front.faults.cut_parts = Counter({1: 3, 2: 3})

    with client.api(front.url) as (api, said):
        sent(api, file)

    assert len(said) == 1
    assert said[0].endswith("was cut off on its way (RemoteProtocolError). Trying again for 120 s."), said


def test_name_that_is_no_text_is_sent_as_far_as_it_is(front: UploadFront, api: Api, file: Path) -> None:
    sent(api, file.rename(os.fsdecode(bytes(file.parent) + b"/t\xff.mov")))

    assert [one.filename for one in front.uploads.values()] == ["t\ufffd.mov"]


def test_part_that_is_refused_for_good_is_not_sent_again(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.refused_part = 2

    with pytest.raises(Refused, match="status 400"):
        sent(api, file)

    assert front.asked.count("PUT /parts/ID/2/1") == 1
    assert front.uploads == {}


def test_file_that_changes_meanwhile_is_not_taken(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.meanwhile = lambda: os.utime(file, (1, 1))

    with pytest.raises(Fault) as fault:
        sent(api, file)

    assert fault.value.code == "FILE_CHANGED"
    assert front.uploads == {}


def test_stop_ends_it_soon_and_deletes_what_was_sent(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.pace = 2_000  # it would take minutes
    front.faults.meanwhile = api.stop.set
    began = time.monotonic()

    with pytest.raises(Interrupted):
        sent(api, file)

    assert time.monotonic() - began < 30
    assert front.uploads == {}
    assert front.asked[-1] == "DELETE /ffmpeg/uploads/ID"


def test_service_without_uploads_is_said_to_be_older(front: UploadFront, api: Api, file: Path) -> None:
    front.faults.no_uploads = True

    with pytest.raises(Refused, match="has no uploads: it is older"):
        sent(api, file)


@pytest.mark.parametrize(("name", "words"), [("empty.mov", "is empty"), ("none.mov", "not there"), (".", "is no file")])
def test_what_cannot_be_sent_is_said_before_anything(api: Api, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty.mov").touch()

    with pytest.raises(Usage, match=words):
        upload.check(tmp_path / name)
