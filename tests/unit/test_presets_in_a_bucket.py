"""Presets under a prefix of a bucket: read now and then, one wrong file left out, and what was read held on to."""

import logging
from pathlib import Path

import boto3
import pytest

from core import presets, wiring
from core.aws.preset_folder import MOST_FILES, S3PresetFolder
from core.errors import InvalidArgument, ServiceUnavailable
from core.presets import AGAIN_SECONDS, KEEP_SECONDS, SharedShelf
from core.register import Registration, register
from core.settings import Settings, SettingsInvalid
from support import s3_proxy
from support.builders import NOW
from support.moto_server import BUCKET, SETTINGS, Moto

TINY = 'summary = "Tiny."\nextensions = ["mp4"]\ncommand = "-i {input} -vf scale=64:-2 {output}"\n'
URI = f"s3://{BUCKET}/team/presets"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(name: str, text: str) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"team/presets/{name}", Body=text.encode())


def test_the_files_under_the_prefix_are_presets_by_their_names(aws: Moto) -> None:
    for name in ("tiny.toml", "README.md", "old/gone.toml", ".toml", "empty.toml"):
        put(name, "" if name == "empty.toml" else TINY)
    boto3.client("s3").put_object(Bucket=BUCKET, Key="team/presets-of-others/theirs.toml", Body=b"x")
    assert S3PresetFolder(f"{URI}/").texts() == {"tiny": TINY}


def test_only_so_many_files_are_read(aws: Moto) -> None:
    for number in range(MOST_FILES + 1):
        put(f"p{number:03}.toml", "x")
    assert len(S3PresetFolder(URI).texts()) == MOST_FILES


def test_a_bucket_adds_presets_and_is_read_again_when_its_time_is_over(aws: Moto, clock: Clock) -> None:
    put("tiny.toml", TINY)
    put("gif.toml", TINY)
    with s3_proxy.proxying(aws.url) as proxy:
        shelf = SharedShelf(S3PresetFolder(URI, client=proxy.client()).texts, clock=clock)
        first = shelf.presets()
        asked = len(proxy.seen)
        put("new.toml", TINY)
        clock.now += KEEP_SECONDS - 1
        assert shelf.presets() is first
        assert len(proxy.seen) == asked == 3  # the list, and each
        clock.now += 1
        assert set(shelf.presets()) == {*first, "new"}
    assert set(first) == {*presets.shelf(None), "tiny"}
    assert (first["gif"].summary, first["tiny"].summary) == ("Tiny.", "Tiny.")


def test_a_wrong_file_is_left_out_and_names_itself(aws: Moto, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    put("tiny.toml", TINY)
    put("gif.toml", TINY.replace("-vf", "-report -vf"))
    shelf = SharedShelf(S3PresetFolder(URI).texts, clock=clock)
    with caplog.at_level(logging.ERROR):
        there = shelf.presets()
    fault = "The preset gif.toml of PRESETS_DIR cannot be used: its command may not run: -report is not allowed: "
    assert set(there) == {*presets.shelf(None), "tiny"} - {"gif"}  # the package's own is another
    assert [record.getMessage()[: len(fault)] for record in caplog.records] == [fault]
    with pytest.raises(InvalidArgument) as refused:
        presets.find("gif", shelf)
    assert refused.value.message.startswith(fault)
    assert refused.value.details["field"] == "preset"
    put("gif.toml", TINY)
    clock.now += KEEP_SECONDS
    assert presets.find("gif", shelf).summary == "Tiny."


def test_what_was_read_holds_while_the_bucket_cannot_be_read(aws: Moto, clock: Clock) -> None:
    put("tiny.toml", TINY)
    with s3_proxy.proxying(aws.url) as proxy:
        client = proxy.client()
        shelf = SharedShelf(S3PresetFolder(URI, client=client).texts, clock=clock)
        first = shelf.presets()
        proxy.always("ListObjectsV2", s3_proxy.answers(403, "AccessDenied"))
        clock.now += KEEP_SECONDS
        assert shelf.presets() == first
        proxy.heal()
        put("new.toml", TINY)
        assert shelf.presets() == first  # not at each request
        clock.now += AGAIN_SECONDS
        assert set(shelf.presets()) == {*first, "new"}


def test_without_anything_read_it_is_worth_asking_again_later(aws: Moto, clock: Clock) -> None:
    shelf = SharedShelf(S3PresetFolder("s3://nobodys-bucket/presets").texts, clock=clock)
    with pytest.raises(ServiceUnavailable, match="PRESETS_DIR"):
        presets.find("gif", shelf)


def test_a_task_is_registered_by_a_preset_of_the_bucket(aws: Moto) -> None:
    put("tiny.toml", TINY)
    settings = Settings.from_env({**SETTINGS, "PRESETS_DIR": URI})
    services = wiring.services(settings, {})
    wanted = Registration(
        preset="tiny", input_files={"in.mp4": "https://media.example/in.mp4"}, output_files=("out.mp4",)
    )
    task, _ = register(
        services.store,
        wanted,
        settings=settings,
        task_id="t",
        correlation_id="c",
        now=NOW,
        own_presets=services.presets,
    )
    assert task.command == "-i in.mp4 -vf scale=64:-2 out.mp4"
    assert settings.to_env()["PRESETS_DIR"] == URI


def test_presets_dir_is_a_folder_or_a_prefix_of_a_bucket() -> None:
    assert Settings.from_env({"PRESETS_DIR": "own/presets"}).presets_folder == Path("own/presets")
    for text, backend in ((URI, "local"), ("s3://bucket", "aws"), ("s3://B/presets", "aws"), ("s3:///presets", "aws")):
        with pytest.raises(SettingsInvalid, match=r"PRESETS_DIR.*(is for BACKEND=aws|must be a folder)"):
            Settings.from_env({**SETTINGS, "BACKEND": backend, "PRESETS_DIR": text})
