"""Wiring: what each backend runs on, and that nothing is loaded or opened before it is wanted."""

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core import wiring
from core.aws.dispatcher import BatchDispatcher
from core.aws.object_store import S3ObjectStore
from core.aws.task_store import DynamoTaskStore
from core.errors import InvalidArgument
from core.settings import Settings
from core.task import Status
from support.builders import NOW, a_task, task_in
from support.moto_server import SETTINGS


def local_settings(tmp_path: Path, **more: str) -> Settings:
    return Settings.from_env({"DATA_DIR": str(tmp_path / "data"), "MAX_CONCURRENT_TASKS": "1", **more})


def test_one_machine_keeps_everything_in_its_data_folder(tmp_path: Path) -> None:
    settings = local_settings(tmp_path)
    services = wiring.services(settings, {})
    task = services.store.create(a_task())
    (tmp_path / "out").write_bytes(b"x")
    services.objects.put_file("o/t/1/a.mp4", tmp_path / "out", sha256="ab", content_type="video/mp4")
    assert {path.name for path in settings.data_dir.iterdir()} >= {"tasks.db", "objects", "secret"}
    assert wiring.services(settings, {}).store.get(task.task_id) == task


def test_links_of_one_process_work_in_another(tmp_path: Path) -> None:
    settings = local_settings(tmp_path, PUBLIC_URL="https://media.example/transcoder/")
    here, there = wiring.local(settings, {}), wiring.local(settings, {})
    (tmp_path / "out").write_bytes(b"x")
    here.services.objects.put_file("o/t/1/a.mp4", tmp_path / "out", sha256="ab", content_type="video/mp4")
    link = here.services.objects.link("o/t/1/a.mp4", expires_in_seconds=60)
    assert link.startswith("https://media.example/transcoder/files/")
    found = there.open_link(urlsplit(link).path.split("/")[3], "o/t/1/a.mp4")
    assert found is not None
    assert found.path.read_bytes() == b"x"


def test_links_into_a_bucket_work_as_long_as_it_is_listed(tmp_path: Path) -> None:
    listed, withdrawn = (local_settings(tmp_path, DESTINATIONS=name) for name in ("media-out/a,archive", "archive"))
    (tmp_path / "out").write_bytes(b"x")
    objects = wiring.services(listed, {}).buckets("media-out")
    objects.put_file("a/t/1/a.mp4", tmp_path / "out", sha256="ab", content_type="video/mp4")
    token = urlsplit(objects.link("a/t/1/a.mp4", expires_in_seconds=60)).path.split("/")[2]
    found = wiring.local(listed, {}).open_link(token, "a/t/1/a.mp4")
    assert found is not None
    assert found.path.relative_to(tmp_path / "data").parts[:2] == ("destinations", "media-out")
    assert wiring.local(withdrawn, {}).open_link(token, "a/t/1/a.mp4") is None


def test_a_link_opens_nothing_of_another_bucket(tmp_path: Path) -> None:
    here = wiring.local(local_settings(tmp_path, DESTINATIONS="media-out,archive"), {})
    stores = [here.services.objects, *map(here.services.buckets, ("media-out", "archive"))]
    for number, objects in enumerate(stores):
        (tmp_path / "out").write_text(str(number))
        objects.put_file("a/t/1/a.mp4", tmp_path / "out", sha256="ab", content_type="video/mp4")
        (tmp_path / "out").unlink()
    tokens = [urlsplit(one.link("a/t/1/a.mp4", expires_in_seconds=60)).path.split("/")[2] for one in stores]
    found = [here.open_link(token, "a/t/1/a.mp4") for token in tokens]
    assert [one and one.path.read_text() for one in found] == ["0", "1", "2"]
    stores[1].delete("a")
    assert [bool(here.open_link(token, "a/t/1/a.mp4")) for token in tokens] == [True, False, True]


@pytest.mark.parametrize("name", ["../objects", "..", "/etc", "a/b", "", "Media", "media-out/"])
def test_a_stored_bucket_that_is_a_path_is_no_folder(tmp_path: Path, name: str) -> None:
    services = wiring.services(local_settings(tmp_path, DESTINATIONS="media-out"), {})
    with pytest.raises(InvalidArgument):
        services.buckets(name)


def test_links_name_the_address_where_no_other_is_set(tmp_path: Path) -> None:
    objects = wiring.services(local_settings(tmp_path, HOST="::1", PORT="8123"), {}).objects
    assert objects.link("o/t/a", expires_in_seconds=60).startswith("http://[::1]:8123/files/")


def test_a_worker_that_dies_is_recovered_by_the_pool(tmp_path: Path) -> None:
    """The whole knot: the pool starts the real entry point, whose end makes the sweep look at the task."""
    settings = local_settings(tmp_path)
    here = wiring.local(settings, {**os.environ, "PYTHONPATH": str(tmp_path)})
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").touch()
    (tmp_path / "handlers" / "batch_worker.py").write_text("raise SystemExit(1)")
    task = here.services.store.create(task_in(Status.RUNNING))
    here.pool.submit(task)
    here.pool.start()
    end = time.monotonic() + 120
    try:
        while (now := here.services.store.get(task.task_id)).version < 4:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        here.pool.close()
    # Lost and queued, submitted to a second worker, which ended without claiming.
    assert (now.status, now.fence, now.due_at is not None and now.due_at > NOW) == (Status.QUEUED, 1, True)


def test_aws_is_wired_from_its_four_settings() -> None:
    services = wiring.services(Settings.from_env(SETTINGS), {})
    kinds = (type(services.store), type(services.objects), type(services.dispatcher))
    assert kinds == (DynamoTaskStore, S3ObjectStore, BatchDispatcher)
    assert services.buckets("media-out").uri("a") == "s3://media-out/a"
    assert services.buckets("media-out") is services.buckets("media-out")  # whose client is made once


IMPORTS = """
import sys
from core import wiring
from core.settings import Settings

heavy = {"boto3", "botocore", "sqlite3", "subprocess"}
assert not heavy & set(sys.modules), "at import"
wiring.services(Settings.from_env(ENV), {})
print(*sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(("backend", "loaded"), [("aws", "botocore"), ("local", "sqlite3 subprocess")])
def test_each_backend_loads_nothing_of_the_other(tmp_path: Path, backend: str, loaded: str) -> None:
    env = {**SETTINGS, "BACKEND": backend, "DATA_DIR": str(tmp_path / "data")}
    result = subprocess.run(
        [sys.executable, "-c", f"ENV = {env!r}\n{IMPORTS}"],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert set(loaded.split()) <= set(result.stdout.split())
    # boto3 itself comes with the first client, not before
    assert ({"boto3", "botocore", "sqlite3"} - set(loaded.split())).isdisjoint(result.stdout.split())


def test_a_worker_does_not_import_the_command_line_of_httpx(tmp_path: Path) -> None:
    """Which comes with it where rich is installed, as it is here."""
    program = "import os, sys; from handlers import batch_worker; print(batch_worker.main(os.environ), *sys.modules)"
    env = {**os.environ, "DATA_DIR": str(tmp_path), "TASK_ID": "none", "FFMPEG_PATH": sys.executable}

    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)

    code, *modules = done.stdout.split()
    assert (code, "httpx" in modules, "rich" in modules) == ("0", True, False)
