"""What a command has written: found, examined, and stored so that no playlist is there before its segments."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from core.ffmpeg.probe import Probed
from core.local.object_store import FolderObjectStore
from core.ports import StoredObject
from core.task import Failure, FailureCode, Media, Output
from core.worker.collect import collect
from core.worker.failed import Stopped, TaskFailed
from core.worker.upload import Finished, content_type, upload

MEDIA = Media(container="mp4", duration_seconds=1.0)


def written(folder: Path, *names: str, content: bytes = b"bytes") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def examined(path: Path, filename: str) -> Probed:
    return Probed(media=MEDIA, packets=True)


def test_collect_finds_declared_outputs_and_what_belongs_to_them(tmp_path: Path) -> None:
    written(tmp_path, "out.m3u8", "out0.ts", "out1.ts", "sub dir/ü.ts")

    found = collect(tmp_path, ["out.m3u8"], examine=examined)

    assert [(file.filename, file.declared, file.media) for file in found] == [
        ("out.m3u8", 0, MEDIA),
        ("out0.ts", None, None),
        ("out1.ts", None, None),
        ("sub dir/ü.ts", None, None),
    ]


@pytest.mark.parametrize(
    ("declared", "name", "belongs"),
    [
        ("thumb_%03d.jpg", "thumb_001.jpg", True),
        ("thumb_%03d.jpg", "thumb_12345.jpg", True),
        ("thumb_%d.jpg", "thumb_7.jpg", True),
        ("out_%v.m3u8", "out_hd.m3u8", True),
        ("thumb_%03d.jpg", "thumb_x.jpg", False),
        ("thumb_%03d.jpg", "thumb_001xjpg", False),
        ("a+(b).mp4", "a+(b).mp4", True),
    ],
)
def test_collect_knows_the_files_of_a_pattern(tmp_path: Path, declared: str, name: str, belongs: bool) -> None:
    written(tmp_path, name)

    if belongs:
        assert [file.declared for file in collect(tmp_path, [declared], examine=examined)] == [0]
    else:
        with pytest.raises(TaskFailed):
            collect(tmp_path, [declared], examine=examined)


@pytest.mark.parametrize(
    ("probed", "content", "words"),
    [
        (Probed(media=MEDIA, packets=True), b"", "but out.mp4 is empty."),
        (Probed(error="moov atom not found"), b"x", "but out.mp4 cannot be read: moov atom not found."),
        (Probed(media=MEDIA, packets=False), b"x", "but out.mp4 holds no frame; check -ss, -t and -map."),
    ],
)
def test_collect_refuses_an_output_that_nobody_can_use(
    tmp_path: Path, probed: Probed, content: bytes, words: str
) -> None:
    written(tmp_path, "out.mp4", content=content)

    with pytest.raises(TaskFailed) as caught:
        collect(tmp_path, ["out.mp4"], examine=lambda path, name: probed)

    assert caught.value.failure == Failure.of(
        FailureCode.OUTPUT_MISSING,
        f"The command ended without an error {words}",
        details={"output": "out.mp4"},
    )


def test_collect_names_the_output_that_is_missing(tmp_path: Path) -> None:
    written(tmp_path, "a.mp4")

    with pytest.raises(TaskFailed, match=r"did not write b\.mp4"):
        collect(tmp_path, ["a.mp4", "b.mp4"], examine=examined)


class Recording(FolderObjectStore):
    """The folder store, which notes the order of what it is given."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, base_url="http://127.0.0.1", secret=b"secret")
        self.order: list[str] = []

    def put_file(
        self, key: str, path: Path, *, sha256: str, content_type: str, on_piece: Callable[[], None] = lambda: None
    ) -> None:
        super().put_file(key, path, sha256=sha256, content_type=content_type, on_piece=on_piece)
        self.order.append(key)


def finished(folder: Path, name: str, declared: int | None = None) -> Finished:
    return Finished(
        path=written(folder, name, content=name.encode()) / name, filename=name, declared=declared, media=None
    )


def test_upload_stores_playlists_after_segments_and_lists_declared_outputs_first(tmp_path: Path) -> None:
    objects = Recording(tmp_path / "store")
    folder = tmp_path / "out"
    names = {"master.m3u8": 0, "a.m3u8": None, "a1.ts": None, "a2.ts": None, "clip.mp4": 1}
    files = [finished(folder, name, rank) for name, rank in names.items()]

    outputs = upload(objects, files, prefix="outputs/t/1", stop=Event())

    assert set(objects.order[:3]) == {"outputs/t/1/a1.ts", "outputs/t/1/a2.ts", "outputs/t/1/clip.mp4"}
    assert objects.order[3:] == ["outputs/t/1/a.m3u8", "outputs/t/1/master.m3u8"]
    assert [output.filename for output in outputs] == ["master.m3u8", "clip.mp4", "a.m3u8", "a1.ts", "a2.ts"]
    assert outputs[1] == Output(
        filename="clip.mp4",
        key="outputs/t/1/clip.mp4",
        size_bytes=8,
        sha256=hashlib.sha256(b"clip.mp4").hexdigest(),
    )
    assert objects.head("outputs/t/1/clip.mp4") == StoredObject(size_bytes=8, sha256=outputs[1].sha256)


def test_upload_says_when_the_store_fails(tmp_path: Path) -> None:
    # given a store whose folder cannot be made, because a file has its name
    (tmp_path / "store").write_bytes(b"")

    with pytest.raises(TaskFailed) as caught:
        upload(Recording(tmp_path / "store"), [finished(tmp_path / "out", "a.mp4", 0)], prefix="p", stop=Event())

    assert caught.value.failure == Failure.of(
        FailureCode.UPLOAD_FAILED, "a.mp4 could not be stored.", details={"output": "a.mp4"}
    )


def test_upload_notices_what_did_not_arrive_whole(tmp_path: Path) -> None:
    class Lossy(Recording):
        def put_file(self, key: str, path: Path, **more: Any) -> None:
            half = shutil.copy(path, path.with_suffix(".half"))
            Path(half).write_bytes(path.read_bytes()[:3])
            super().put_file(key, Path(half), **more)

    with pytest.raises(TaskFailed, match=r"a\.mp4 did not arrive whole"):
        upload(Lossy(tmp_path / "store"), [finished(tmp_path / "out", "a.mp4", 0)], prefix="p", stop=Event())


def test_upload_stops_when_it_is_told_to(tmp_path: Path) -> None:
    stop = Event()
    stop.set()

    with pytest.raises(Stopped):
        upload(Recording(tmp_path / "store"), [finished(tmp_path / "out", "a.mp4", 0)], prefix="p", stop=stop)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("a.mp4", "video/mp4"),
        ("a.M3U8", "application/vnd.apple.mpegurl"),
        ("a.jpg", "image/jpeg"),
        ("seg 1.m4s", "video/iso.segment"),
        ("noextension", "application/octet-stream"),
    ],
)
def test_content_type_follows_the_extension(filename: str, expected: str) -> None:
    assert content_type(filename) == expected
