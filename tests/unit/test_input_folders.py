"""Inputs in folders: what is found there, what is read, and what cannot be reached."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from urllib.parse import quote

import pytest

from core import urls
from core.batch import Source
from core.errors import UrlNotAllowed
from core.local.input_folders import LocalInputFolders
from core.ports import InputTooLarge, InputUnreadable
from core.settings import Settings, SettingsInvalid

BYTES = bytes(range(256)) * 50


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "day" / "deep").mkdir(parents=True)
    for name in ("day/b.mp4", "day/a.MOV", "day/deep/c.wav", "day/cover.jpg", "day/.d.mp4"):
        (root / name).write_bytes(BYTES)
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    return root


@pytest.fixture
def folders(root: Path) -> LocalInputFolders:
    return LocalInputFolders([root])


def read(folders: LocalInputFolders, path: Path | str, target: Path, **changes: object) -> int:
    known = {"max_bytes": 2**30, "on_piece": lambda: None} | changes
    return folders.get_file(str(path), target, **known)  # type: ignore[arg-type]


def test_media_are_listed_in_order(folders: LocalInputFolders, root: Path) -> None:
    (root / "day" / "linked.mp4").symlink_to(root / "day" / "b.mp4")
    (root / "day" / "linked").symlink_to(root.parent, target_is_directory=True)
    os.mkfifo(root / "day" / "pipe.mp4")

    found = folders.list(str(root / "day"), limit=10)

    there = f"file://{quote(str(root))}/day"
    assert found == [
        Source("a.MOV", f"{there}/a.MOV", len(BYTES)),
        Source("b.mp4", f"{there}/b.mp4", len(BYTES)),
        Source("c.wav", f"{there}/deep/c.wav", len(BYTES)),
    ]
    assert folders.list(str(root), limit=2) == found[:2]


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of its own, and no rights to what is not: root may read all."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if was == 0:
                os.seteuid(0)


def test_a_folder_that_cannot_be_read_is_not_passed_over() -> None:
    """Else a batch would be of some of the files, or of none, and nobody would know."""
    with as_nobody() as root:
        (root / "open" / "closed").mkdir(parents=True)
        (root / "open" / "a.mp4").write_bytes(b"12345")
        (root / "open" / "closed").chmod(0)
        folders = LocalInputFolders([root])
        with pytest.raises(InputUnreadable, match=r"^has a folder, 'closed', that may not be read by this service\.$"):
            folders.list(str(root / "open"), limit=9)
        with pytest.raises(InputUnreadable, match=r"^may not be read by this service\.$"):
            folders.list(str(root / "open" / "closed"), limit=9)

        # and a link to one is passed over, as all links are
        (root / "open" / "closed").rmdir()
        (root / "elsewhere").mkdir(mode=0)
        (root / "open" / "closed").symlink_to(root / "elsewhere")
        assert [one.name for one in folders.list(str(root / "open"), limit=9)] == ["a.mp4"]


def test_what_goes_while_it_is_listed_is_passed_over(folders: LocalInputFolders, root: Path) -> None:
    stopping, listing = Event(), list[str]()

    def come_and_go() -> None:
        passing, folder = root / "day" / "0.mp4", root / "day" / "0"
        while not stopping.is_set():
            passing.write_bytes(b"12345")
            folder.mkdir()
            passing.unlink()
            folder.rmdir()

    other = Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(300):
            listing = [one.name for one in folders.list(str(root), limit=9) if one.name != "0.mp4"]
            assert listing == ["a.MOV", "b.mp4", "c.wav"]
    finally:
        stopping.set()
        other.join()


@pytest.mark.parametrize("name", ["x\0y", "x" * 300, "a.MOV"])
def test_a_folder_that_cannot_be_one_is_not_there(folders: LocalInputFolders, root: Path, name: str) -> None:
    with pytest.raises(InputUnreadable, match="is not "):
        folders.list(str(root / "day" / name), limit=9)


def test_a_name_that_is_no_text_is_found_again(folders: LocalInputFolders, root: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(root) + b"/day/deep/\xff \xc3\xbc?#%.mp4")).write_bytes(b"12345")
    (odd,) = [one for one in folders.list(str(root / "day" / "deep"), limit=9) if one.url.endswith("mp4")]
    place = urls.check(odd.url, field="x", policy=urls.Policy(folders=[root]))
    assert isinstance(place, urls.File)
    assert read(folders, place.path, tmp_path / "copy") == 5
    assert odd.name.isprintable()


def test_a_file_is_copied_and_the_copy_is_not_the_file(folders: LocalInputFolders, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    assert read(folders, root / "day/b.mp4", target) == len(BYTES)
    target.write_bytes(b"written to")
    assert (root / "day/b.mp4").read_bytes() == BYTES


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("{root}/day/none.mp4", "is not there."),
        ("{root}/day/b.mp4/x.mp4", "is not there."),
        ("{root}/day", "is no regular file."),
        ("{root}/day/pipe.mp4", "is no regular file."),
        ("{root}/day/out.mp4", "is a symbolic link, which is not followed."),
        ("{root}/day/within.mp4", "is a symbolic link, which is not followed."),
        ("{root}/linked/secret.mp4", "is not there."),  # a folder that is a link is none
        ("{root}/../secret.mp4", "is not in a folder that is open"),
        ("{root}2/x.mp4", "is not in a folder that is open"),
        ("/etc/passwd", "is not in a folder that is open"),
    ],
)
def test_nothing_else_is_reached(folders: LocalInputFolders, root: Path, tmp_path: Path, path: str, fault: str) -> None:
    os.mkfifo(root / "day" / "pipe.mp4")
    (root / "day/out.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "day/within.mp4").symlink_to(root / "day/b.mp4")
    (root / "linked").symlink_to(tmp_path, target_is_directory=True)

    with pytest.raises(InputUnreadable, match=fault) as refusal:
        read(folders, path.format(root=root), tmp_path / "copy")

    assert not refusal.value.retryable
    assert not (tmp_path / "copy").exists()


def test_one_that_is_too_large_is_not_begun_with(folders: LocalInputFolders, root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputTooLarge):
        read(folders, root / "day/b.mp4", tmp_path / "copy", max_bytes=len(BYTES) - 1)
    assert not (tmp_path / "copy").exists()


def test_what_changes_meanwhile_is_read_again_later(folders: LocalInputFolders, root: Path, tmp_path: Path) -> None:
    def shrink() -> None:
        (root / "day/b.mp4").write_bytes(b"other")

    with pytest.raises(InputUnreadable, match="has changed while it was read") as refusal:
        read(folders, root / "day/b.mp4", tmp_path / "copy", on_piece=shrink)
    assert refusal.value.retryable


def test_only_what_was_read_is_deleted(folders: LocalInputFolders, root: Path, tmp_path: Path) -> None:
    file = root / "day/b.mp4"
    with pytest.raises(InputUnreadable, match="no longer the file that was read"):
        folders.delete(str(file))  # nobody has read it

    def turn_into_link() -> None:
        file.unlink()
        file.symlink_to(tmp_path / "secret.mp4")

    def changes() -> list[Callable[[], object]]:
        return [
            lambda: Path(shutil.copy(file, f"{file}.new")).replace(file),
            lambda: os.utime(file, ns=(1, 1)),
            turn_into_link,
        ]

    for change in changes():
        read(folders, file, tmp_path / "copy")
        change()
        with pytest.raises(InputUnreadable, match="no longer the file that was read"):
            folders.delete(str(file))
        assert file.is_symlink() or file.exists()
    file.unlink()
    file.write_bytes(BYTES)
    read(folders, file, tmp_path / "copy")
    folders.delete(str(file))
    assert not file.exists()
    folders.delete(str(file))  # which is no error
    assert (tmp_path / "secret.mp4").exists()


@pytest.mark.parametrize(
    "url",
    [
        "file:///srv/media/a.mp4",
        "file:///srv/media/deep/a%20b.mp4",
    ],
)
def test_a_url_of_a_file_below_a_root_is_taken(url: str) -> None:
    assert isinstance(urls.check(url, field="x", policy=urls.Policy(folders=[Path("/srv/media")])), urls.File)
    with pytest.raises(UrlNotAllowed):
        urls.check(url, field="x")
    with pytest.raises(UrlNotAllowed):
        urls.check(url, field="x", policy=urls.Policy(folders=[Path("/srv/media")]).web_only)


@pytest.mark.parametrize(
    "url",
    [
        "file:///srv/media",
        "file:///srv/media2/a.mp4",
        "file:///srv/media/../secret.mp4",
        "file:///srv/media/%2e%2e/secret.mp4",
        "file:///srv/media/x%2f..%2f..%2fsecret.mp4",
        "file:///srv/media//a.mp4",
        "file:///srv/media/a%00.mp4",
        "file:///srv/media/a.mp4?x",
        "file:///srv/media/a.mp4#x",
        "file://host/srv/media/a.mp4",
        "file:/srv/media/a.mp4",
        "FILE:///srv/media/a.mp4",
        "file://",
        "file:///",
    ],
)
def test_any_other_url_of_a_file_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        urls.check(url, field="x", policy=urls.Policy(folders=[Path("/srv/media")]))


def test_a_path_is_not_shown() -> None:
    assert urls.without_secrets("file:///srv/media/deep/a.mp4") == "file:///.../a.mp4"


def test_roots_are_a_setting_of_one_machine() -> None:
    settings = Settings.from_env({"INPUT_ROOTS": "/srv/media, /mnt/x"})
    assert settings.url_policy.folders == (Path("/srv/media"), Path("/mnt/x"))
    assert Settings.from_env(settings.to_env()) == settings
    with pytest.raises(SettingsInvalid, match="must be absolute paths"):
        Settings.from_env({"INPUT_ROOTS": "media"})
    with pytest.raises(SettingsInvalid, match="must be absolute paths"):
        Settings.from_env({"INPUT_ROOTS": "/srv/../etc"})
