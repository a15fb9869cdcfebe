"""What container/ says of settings, users and folders agrees with the code and with itself; nothing is built here."""

import importlib.util
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from core.settings import Settings
from support import compose, moto_server

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "container/Dockerfile").read_text()
SETTINGS = {field.name.upper() for field in fields(Settings)}


@pytest.fixture(scope="module")
def strip() -> ModuleType:
    """The program of the image's build."""
    spec = importlib.util.spec_from_file_location("strip", ROOT / "container/strip.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compose_sets_only_settings_and_they_are_accepted() -> None:
    environment = {name: str(value) for name, value in compose.services()["transcoder"]["environment"].items()}

    assert set(environment) - SETTINGS == set()
    settings = Settings.from_env(environment)
    assert (settings.backend, settings.host, settings.sandbox) == ("local", "0.0.0.0", "auto")
    assert (settings.data_dir, settings.scratch) == (Path("/work"), Path("/work", "scratch"))


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in compose.services().values() for port in service["ports"]]

    assert ports == ["127.0.0.1:8000:8000", "127.0.0.1:8000:8000", "127.0.0.1:9000:9000"]


def test_compose_starts_the_plain_service_unless_told_otherwise() -> None:
    services = compose.services()

    assert {name: service.get("profiles") for name, service in services.items()} == {
        "transcoder": None,
        "transcoder-gpu": ["gpu"],
        "store": ["store"],
    }
    plain, gpu = services["transcoder"], dict(services["transcoder-gpu"])
    (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu", "compute", "video", "utility"])
    del gpu["profiles"]
    assert gpu == plain


@pytest.mark.parametrize("name", ["transcoder", "transcoder-gpu"])
def test_compose_takes_away_what_the_service_does_not_need(name: str) -> None:
    service = compose.services()[name]

    assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 1024
    assert service["mem_limit"]
    assert service["volumes"] == ["data:/work"]


def test_compose_builds_what_the_dockerfile_takes() -> None:
    build = compose.services()["transcoder"]["build"]

    assert (compose.FILE.parent / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert all((ROOT / value).is_file() for value in build["args"].values())


def test_store_has_a_network_that_can_be_named() -> None:
    networks = compose.loaded()["networks"]["default"]["ipam"]["config"]

    assert [network["subnet"] for network in networks] == ["10.213.0.0/24"]
    assert f"ALLOW_PRIVATE_NETWORKS={networks[0]['subnet']} " in compose.FILE.read_text()


def test_dockerfile_copies_what_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE.replace("${REQUIREMENTS}", requirements()), re.MULTILINE)

    assert ignored[1] == "*"
    assert copied == ["container/requirements.txt", "src", "container/strip.py"]
    assert [path for path in copied if not (ROOT / path).exists() or f"!{path}" not in ignored] == []


def requirements() -> str:
    return DOCKERFILE.partition("ARG REQUIREMENTS=")[2].split()[0]


def test_dockerfile_runs_the_worker_as_process_one_and_not_as_root() -> None:
    lines = DOCKERFILE.splitlines()

    assert 'CMD ["python", "-m", "handlers.batch_worker"]' in lines
    assert list(moto_server.COMMAND) == ["python", "-m", "handlers.batch_worker"]
    assert [line for line in lines if line.startswith(("ENTRYPOINT", "USER"))] == ["USER 10001:10001"]


def test_image_keeps_the_aws_services_that_the_code_makes_clients_of(strip: ModuleType) -> None:
    assert strip.services(ROOT / "src") >= {"batch", "dynamodb", "s3"}


def test_strip_leaves_what_runs(strip: ModuleType, tmp_path: Path) -> None:
    # given an environment as pip leaves it, and sources that ask for one AWS service
    packages = tmp_path / f"venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    kept = ["boto3/session.py", "botocore/data/s3/a.json", "botocore/data/sts/a.json", "botocore/data/endpoints.json"]
    dropped = [
        "pip/__init__.py",
        "pip-25.0.dist-info/METADATA",
        "boto3/examples/a.rst",
        "botocore/data/ec2/a.json",
        "av/codec.pyx",
        "av/tests/test_a.py",
    ]
    sources = tmp_path / "src"
    for path in [sources / "client.py", *(packages / name for name in kept + dropped)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (sources / "client.py").write_text('boto3.client("s3", config=None)\n')
    (tmp_path / "venv/bin").mkdir()
    for name in ("python", "python3", "pip", "activate"):
        (tmp_path / "venv/bin" / name).touch()

    # when it is stripped
    strip.main(tmp_path / "venv", sources)

    # then what runs is left, compiled
    left = [path for path in (tmp_path / "venv").rglob("*") if path.is_file()]
    compiled = {path.name.partition(".")[0] for path in left if path.suffix == ".pyc"}
    names = {
        str(path.relative_to(packages)) for path in left if path.is_relative_to(packages) and path.suffix != ".pyc"
    }
    assert names == set(kept)
    assert {path.name for path in left if path.parent.name == "bin"} == {"python", "python3"}
    assert compiled == {"session"}
    assert [path.name.partition(".")[0] for path in sources.rglob("*.pyc")] == ["client"]
