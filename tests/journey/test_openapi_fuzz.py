"""The API against its own description, by schemathesis: requests made from it, and answers compared with it.

Its process speaks to a real server. That a request which the description allows may still be refused is no fault: what
an ffmpeg command may say does not go into a schema.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.task import Status
from support import api_server
from support.api_server import Api
from support.builders import task_in

PATIENCE = "120"  # seconds, for an answer; a busy machine takes its time
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))  # of each operation and phase


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with api_server.running(Path(tmp_path_factory.mktemp("api"))) as running:
        yield running


def known_ids(api: Api) -> list[str]:
    """Of a task in each status, so that not all that is asked about is unknown."""
    made = [api.store.create(task_in(status)).task_id for status in Status if status is not Status.COMPLETED]
    completed = api.registered()
    api.completed(completed, b"video")
    return [*made, completed]


def a_batch_and_an_upload(api: Api) -> tuple[str, str]:
    wish = {"command": "-i {name} {stem}.mkv", "output_filename": "{stem}.mkv"}
    batch = api.http.post("/ffmpeg/batches", json={"inputs": ["https://media.example.com/a.mp4"], **wish}).json()
    upload = api.http.post("/ffmpeg/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json()
    return batch["batch_id"], upload["upload_id"]


def config(api: Api) -> str:
    batch_id, upload_id = a_batch_and_an_upload(api)
    return f"""
[dictionaries]
tasks = {{ values = {json.dumps(known_ids(api))} }}
batches = {{ values = ["{batch_id}"] }}
uploads = {{ values = ["{upload_id}"] }}

[parameters]
"path.task_id" = {{ dictionary = "tasks", probability = 0.7 }}
"path.batch_id" = {{ dictionary = "batches", probability = 0.7 }}
"path.upload_id" = {{ dictionary = "uploads", probability = 0.7 }}
"path.filename" = "output.mp4"
"""


def test_no_answer_is_an_error_of_ours_or_other_than_described(api: Api, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(config(api))
    url = f"http://{api.address[0]}:{api.address[1]}/openapi.json"
    options = ("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--no-color", "--seed", "1")
    patience = ("--request-timeout", PATIENCE, "--max-response-time", PATIENCE, "--suppress-health-check", "too_slow")
    reports = ("--report", "json", "--report-json-path", str(tmp_path / "report.json"))

    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", url, "-n", str(EXAMPLES), *options, *patience, *reports],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    operations, cases = report["operations"], report["test_cases"]
    asked = sum(len(methods) for methods in api.http.get("/openapi.json").json()["paths"].values())
    assert (report["complete"], operations["tested"], operations["errored"]) == (True, asked, 0)
    assert (cases["with_failures"], cases["errored"]) == (0, 0)
    assert cases["generated"] > 40 * asked
