"""What the prober tells of real files, and what becomes of answers that tell nothing."""

import shutil
from collections.abc import Iterator

import pytest

from core.ffmpeg import probe
from core.ffmpeg.probe import Probed
from core.task import Media, Stream
from core.worker.collect import Examine
from core.worker.sandbox import Folder
from support import containment
from support.footage import CLIP


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    made = containment.made(tmp_path_factory.mktemp("probe") / "task")
    shutil.copy(CLIP, made.inputs)
    return made


@pytest.fixture(scope="module")
def examine(folder: Folder) -> Iterator[Examine]:
    with containment.prober(folder) as examine:
        yield examine


def test_prober_tells_the_facts_of_real_footage(examine: Examine, folder: Folder) -> None:
    assert examine(folder.inputs / CLIP.name, "in.mp4") == Probed(
        packets=True,
        media=Media(
            container="mp4",
            duration_seconds=5.312,
            bit_rate=1589963,
            streams=(
                Stream(
                    type="video",
                    codec="h264",
                    width=1280,
                    height=720,
                    frame_rate=25.0,
                    pixel_format="yuv420p",
                    sample_aspect_ratio="1:1",
                    bit_rate=1205959,
                ),
                Stream(type="audio", codec="aac", channels=6, channel_layout="5.1", sample_rate=48000, bit_rate=384828),
            ),
        ),
    )


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x00" * 5000, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"])
def test_prober_answers_on_what_is_no_media(examine: Examine, folder: Folder, content: bytes) -> None:
    path = folder.inputs / "i0.mp4"
    path.write_bytes(content)

    probed = examine(path, "in.mp4")

    assert probed.media is None
    assert probed.error
    assert str(folder.root) not in probed.error


def test_prober_goes_on_after_a_file_it_cannot_read(examine: Examine, folder: Folder) -> None:
    assert examine(folder.inputs / "missing", "in.mp4").error == "No such file or directory"
    assert examine(folder.inputs / CLIP.name, "in.mp4").packets


@pytest.mark.parametrize(
    "answer", ["", "null", "[]", "{}", "not json", '{"format": "mp4"}', '{"format": 1, "streams": 3}']
)
def test_read_of_a_spoilt_answer_is_an_error(answer: str) -> None:
    assert probe.read(answer, filename="a.mp4") == Probed(error="the file could not be examined")


def test_read_of_no_answer_is_an_error() -> None:
    assert probe.read(None, filename="a.mp4") == Probed(error="the file could not be examined in time")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\xef\xbb\xbf\n <HTML>", "a web page"),
        (b"<?xml version='1.0'?><Error>", "an XML document"),
        (b'{"message": "no"}', "a JSON document"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x00\x00\x00\x20ftypisom", None),
        (b"", None),
    ],
)
def test_what_it_looks_like(head: bytes, expected: str | None) -> None:
    assert probe.what_it_looks_like(head) == expected
