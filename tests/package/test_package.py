"""The package that `sam build` makes: small, the same each time, with its bytecode; and each function runs from it."""

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from typing import Any, cast

import pytest
import yaml

from core.ports import Services
from core.settings import Settings
from handlers.web.app import create_app
from support import lambda_package, lambda_process, moto_server
from support.lambda_process import ROOT, LambdaProcess
from support.moto_server import Moto

MOST_BYTES = 20_000_000  # unzipped, beyond what the runtime has
ELF_AARCH64 = 183


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What sam builds: a folder for each function, and the template that names them."""
    folder = tmp_path_factory.mktemp("sam")
    command = ["sam", "build", "--no-cached", "-t", str(ROOT / "infra/template.yaml"), "-b", str(folder / "build")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env=env | {"SAM_CLI_TELEMETRY": "0"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build"


@pytest.fixture(scope="module")
def functions(built: Path) -> dict[str, Any]:
    resources = yaml.safe_load((built / "template.yaml").read_text())["Resources"]
    kind = "AWS::Serverless::Function"
    return {name: made["Properties"] for name, made in resources.items() if made["Type"] == kind}


@pytest.fixture(scope="module")
def package(built: Path, functions: dict[str, Any]) -> Path:
    return cast(Path, built / functions["ApiFunction"]["CodeUri"])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for this machine."""
    return lambda_package.make(tmp_path_factory.mktemp("here") / "package")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lambda_package.runtime(tmp_path_factory.mktemp("runtime") / "packages")


@pytest.fixture
def start(here: Path, runtime: Path, functions: dict[str, Any], aws: Moto, tmp_path: Path) -> Any:
    """Starts a function of the template, by its name, with nothing but the package and the runtime on its path."""

    @contextmanager
    def started(name: str, **env: str) -> Iterator[LambdaProcess]:
        module, _, handler = functions[name]["Handler"].rpartition(".")
        assert handler == "handler"
        path = {"PYTHONPATH": f"{here}:{runtime}", "PYTHONDONTWRITEBYTECODE": "1"}
        with lambda_process.started(
            {**aws.env, **moto_server.SETTINGS, **path, **env},
            tmp_path,
            program=("-S", lambda_process.__file__),
            module=module,
            python=shutil.which(lambda_package.RUNTIME) or "",
        ) as process:
            yield process

    return started


def event(name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text())
    return made


def asking_for(path: str) -> dict[str, Any]:
    made = event("status")
    made["requestContext"]["http"]["path"] = path
    return made | {"rawPath": path}


def test_every_function_has_the_same_package_and_so_has_every_build(
    built: Path, functions: dict[str, Any], package: Path, tmp_path: Path
) -> None:
    again = lambda_package.digests(lambda_package.make(tmp_path / "again", architecture="aarch64"))

    template = yaml.safe_load((built / "template.yaml").read_text())
    assert template["Parameters"]["PythonRuntime"]["Default"] == lambda_package.RUNTIME
    for_all = template["Globals"]["Function"]
    assert (for_all["Runtime"], for_all["Architectures"]) == ({"Ref": "PythonRuntime"}, ["arm64"])
    for made in functions.values():
        assert not made.keys() & {"Runtime", "Architectures"}  # they are those of all
        assert lambda_package.digests(built / made["CodeUri"]) == again


def test_only_compiled_modules_depend_on_the_machine(package: Path, here: Path) -> None:
    for_lambda, for_this = lambda_package.digests(package), lambda_package.digests(here)

    differing = {name for name in for_lambda | for_this if for_lambda.get(name) != for_this.get(name)}
    assert {Path(name).suffix for name in differing if ".dist-info/" not in name} <= {".so"}
    modules = [path.read_bytes()[:20] for path in package.rglob("*.so")]
    assert modules
    assert all(struct.unpack_from("<H", head, 18) == (ELF_AARCH64,) for head in modules)


def test_the_package_is_small_and_has_nothing_of_the_runtime(package: Path) -> None:
    assert lambda_package.size(package) < MOST_BYTES
    assert not {"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six.py", "urllib3"} & {
        path.name for path in package.iterdir()
    }


def test_every_module_has_its_bytecode_and_every_package_its_licence(package: Path) -> None:
    for source in package.rglob("*.py"):
        bytecode = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        flags = int.from_bytes(bytecode.read_bytes()[4:8], "little")
        assert flags == 1, f"{source} would be read, or compiled, at each start"
        assert str(package).encode() not in bytecode.read_bytes()
    for info in package.glob("*.dist-info"):
        assert (info / "METADATA").exists()
        assert [path for path in info.rglob("*") if "licen" in path.name.lower()], f"{info.name} has no licence"


def test_the_api_answers_from_the_package(start: Any) -> None:
    with start("ApiFunction") as function:
        names = ["register", "register_options", "register_preset", "presets", "execute", "status", "cancel"]
        names += ["notify", "result", "log", "delete", "tasks", "health", "settings", "put_settings", "system"]
        names += ["batch", "batch_status", "batch_tasks", "batch_cancel"]
        names += ["upload", "show_upload", "complete_upload", "delete_upload", "validate", "result_file"]
        answers = {name: function.invoke(event(name)) for name in names}
        spec = function.invoke(asking_for("/openapi.json"))

    # The ids in the events are of no task.
    assert {name: answer["statusCode"] for name, answer in answers.items()} == {
        **dict.fromkeys(("register", "register_options", "register_preset"), 201),
        **dict.fromkeys(("execute", "status", "cancel", "notify", "result", "log", "delete"), 404),
        **dict.fromkeys(("presets", "tasks", "health", "settings", "put_settings", "system"), 200),
        **dict.fromkeys(("batch_status", "batch_tasks", "batch_cancel"), 404),
        "batch": 202,
        "upload": 201,
        **dict.fromkeys(("show_upload", "complete_upload", "delete_upload", "result_file"), 404),
        "validate": 200,
    }
    assert "pydantic.v1" not in answers["health"]["loaded"]
    assert "handlers.web.docs" not in answers["health"]["loaded"]
    unused: Any = None
    services = Services(store=unused, records=unused, objects=unused, dispatcher=unused)
    described = create_app(services, Settings(), ffmpeg_version="").openapi()
    assert json.loads(spec["body"]) == json.loads(json.dumps(described))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("SweepFunction", "sweep"),
        ("EventsFunction", "job_failed"),
        ("EventsFunction", "queue_blocked"),
        ("EventsFunction", "slice_failed"),
    ],
)
def test_what_looks_after_tasks_answers_from_the_package(start: Any, function: str, name: str) -> None:
    with start(function) as process:
        process.invoke(event(name))

    assert [line for line in process.log() if line.get("level") == "ERROR"] == []


def test_every_function_is_tried(functions: dict[str, Any]) -> None:
    assert set(functions) == {"ApiFunction", "SweepFunction", "EventsFunction"}


def test_a_trace_is_sent_where_it_is_asked_for(start: Any) -> None:
    with socket(AF_INET, SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(20)
        asked: AbstractContextManager[LambdaProcess] = start(
            "ApiFunction",
            POWERTOOLS_TRACE_DISABLED="false",
            LAMBDA_TASK_ROOT="/var/task",
            AWS_XRAY_DAEMON_ADDRESS=f"127.0.0.1:{daemon.getsockname()[1]}",
            _X_AMZN_TRACE_ID="Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
        )
        with asked as function:
            assert function.invoke(event("health"))["statusCode"] == 200
            names = [traced(daemon)]
            while names[-1] != "## handler":
                names.append(traced(daemon))

    assert "dynamodb" in names


def traced(daemon: socket) -> str:
    name: str = json.loads(daemon.recv(65_536).partition(b"\n")[2])["name"]
    return name
