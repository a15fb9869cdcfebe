"""An output arrives whole and verified, or not at all."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handlers.client import download
from handlers.client.api import Api, Patience
from handlers.client.faults import Fault, Interrupted, TaskFailed, Unreachable, Usage
from handlers.client.request import Source, Wish, order
from handlers.client.run import check_free, check_possible, collect, places
from support import api_server, client
from support.upload_front import UploadFront, before

CONTENT = os.urandom(700_000)


@dataclass
class Scene:
    front: UploadFront
    api: Api
    task: dict[str, Any]
    said: list[str]
    target: Path
    row: client.NoRow

    def collect(self, *, force: bool = False) -> None:
        collect(self.api, self.task, {"output.mp4": self.target}, row=self.row, force=force)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    folder, data = tmp_path / "here", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    with (
        api_server.running(data) as running,
        before(str(running.http.base_url), tmp_path / "front") as front,
        client.api(front.url, key="ffk_secret") as (api, said),
    ):
        task_id = running.registered()
        running.completed(task_id, CONTENT)
        task, _ = api.status(task_id)
        yield Scene(front, api, task, said, folder / "o.mp4", client.NoRow())


def test_output_is_stored_whole_with_the_usual_rights(scene: Scene) -> None:
    umask = os.umask(0o027)
    try:
        scene.collect()
    finally:
        os.umask(umask)

    assert scene.target.read_bytes() == CONTENT
    assert stat.S_IMODE(scene.target.stat().st_mode) == 0o640
    assert scene.left() == ["o.mp4"]
    assert scene.row.moves[-1] == ("fetching o.mp4", len(CONTENT), len(CONTENT))
    assert set(scene.front.keys_at_links) == {None}


def test_download_that_is_cut_goes_on_where_it_was(scene: Scene) -> None:
    scene.front.faults.cut_downloads = 2

    scene.collect()

    assert scene.target.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert scene.front.ranges == [None, f"bytes={half}-", f"bytes={half + (len(CONTENT) - half) // 2}-"]


def test_download_without_an_etag_begins_again(scene: Scene) -> None:
    scene.front.faults.cut_downloads = 1
    scene.front.faults.no_etag = True

    scene.collect()

    assert scene.target.read_bytes() == CONTENT
    assert scene.front.ranges == [None, None]


def test_download_that_is_always_cut_is_given_up(scene: Scene) -> None:
    scene.front.faults.cut_downloads = 99
    scene.front.faults.no_etag = True

    with pytest.raises(Unreachable) as fault:
        download.fetch(
            scene.task["outputs"][0],
            scene.target,
            link=lambda: "",
            force=False,
            stop=scene.api.stop,
            say=scene.said.append,
            seen=lambda done, total: None,
            patience=Patience(tries=2, seconds=0),
        )

    assert fault.value.code == "DOWNLOAD_CUT"
    assert scene.left() == []


def test_link_that_has_expired_is_renewed(scene: Scene) -> None:
    scene.front.faults.dead_links = 1

    scene.collect()

    assert scene.target.read_bytes() == CONTENT
    assert scene.front.asked.count("GET /ffmpeg/result/ID/output.mp4") == 1


def test_output_with_another_checksum_is_not_kept(scene: Scene) -> None:
    scene.front.faults.spoiled = True

    with pytest.raises(Fault) as fault:
        scene.collect()

    assert fault.value.code == "CHECKSUM_DIFFERS"
    assert scene.left() == []


def test_file_that_is_there_is_kept_unless_forced(scene: Scene) -> None:
    scene.target.write_text("mine")

    with pytest.raises(Usage) as fault:
        scene.collect()
    assert fault.value.code == "FILE_EXISTS"
    assert (scene.target.read_text(), scene.front.ranges) == ("mine", [])

    scene.collect(force=True)
    assert scene.target.read_bytes() == CONTENT
    assert scene.left() == ["o.mp4"]


def test_file_that_comes_to_be_meanwhile_is_kept(scene: Scene) -> None:
    scene.front.faults.meanwhile = lambda: scene.target.write_text("mine")

    with pytest.raises(Usage) as fault:
        scene.collect()

    assert fault.value.code == "FILE_EXISTS"
    assert scene.target.read_text() == "mine"
    assert scene.left() == ["o.mp4"]


def test_stop_leaves_nothing(scene: Scene) -> None:
    scene.front.faults.pace = 100_000
    scene.front.faults.meanwhile = scene.api.stop.set

    with pytest.raises(Interrupted):
        scene.collect()

    assert all(done < len(CONTENT) for _, done, _ in scene.row.moves)
    assert scene.left() == []


def output(name: str) -> dict[str, Any]:
    return {"filename": name, "size_bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest(), "url": "http://127.0.0.1:1"}


def test_outputs_without_a_place_go_beside_the_first() -> None:
    outputs = [output("o.m3u8"), output("o0.ts"), output("a/o1.ts")]

    assert [path for path, _ in places(outputs, {"o.m3u8": Path("web/talk.m3u8")})] == [
        Path("web/talk.m3u8"),
        Path("web/o0.ts"),
        Path("web/a/o1.ts"),
    ]


def test_outputs_of_a_pattern_go_where_it_was_wanted() -> None:
    outputs = [output("a.mp4"), output("t_001.jpg"), output("t_12.jpg"), output("t_x.jpg")]

    assert [str(path) for path, _ in places(outputs, {"a.mp4": Path("a.mp4"), "t_%03d.jpg": Path("t/T %03d.jpg")})] == [
        "a.mp4",
        "t/T 001.jpg",
        "t/T 12.jpg",
        "t_x.jpg",
    ]
    assert [str(path) for path, _ in places(outputs[1:3], {"t_%03d.jpg": Path("t/one.jpg")})] == [
        "t/t_001.jpg",
        "t/t_12.jpg",
    ]


@pytest.mark.parametrize("name", ["../o.mp4", "/etc/passwd", "a/../../o.mp4", ""])
def test_output_whose_name_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(Fault, match="no name for a file here"):
        places([output(name)], {})


def test_outputs_that_are_deleted_are_said_to_be(scene: Scene) -> None:
    with pytest.raises(TaskFailed) as fault:
        collect(scene.api, {**scene.task, "outputs": []}, {}, row=scene.row, force=False)

    assert fault.value.code == "RESULT_GONE"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(Usage, match="is no file that could be replaced"):
        check_free([tmp_path / "pipe"], force=True)


def test_folder_that_cannot_be_written_to_is_seen_before_any_work() -> None:
    wanted = order(Wish(), [Source.read("https://a.example/a.mov")], [Path("/proc/o.mp4")])

    with pytest.raises(Usage, match="The folder /proc cannot be written to: "):
        check_possible([wanted], force=False)


def test_input_of_another_order_is_never_overwritten(tmp_path: Path) -> None:
    for name in ("1.mp4", "2.mp4"):
        (tmp_path / name).write_bytes(b"x")
    orders = [
        order(Wish(), [Source.read(f"{tmp_path}/{read}.mp4")], [tmp_path / f"{written}.mp4"])
        for read, written in ((2, 1), (1, 3))
    ]

    with pytest.raises(Usage, match=r"1\.mp4 is an input"):
        check_possible(orders, force=True)


def test_pattern_is_there_when_one_of_its_files_is(tmp_path: Path) -> None:
    (tmp_path / "thumb_007.jpg").touch()

    with pytest.raises(Usage, match=r"thumb_007\.jpg is there already"):
        check_free([tmp_path / "thumb_%03d.jpg"], force=False)
    check_free([tmp_path / "thumb_%03d.png", tmp_path / "thumb_007.jpeg"], force=False)
