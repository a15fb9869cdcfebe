"""A preset of an operator's own, kept in a bucket, that looks at the source: through Lambda and AWS Batch's job to S3.

The worker has no presets and no leave to read that bucket: what it needs is in the task.
"""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from core import presets
from support import footage, lambda_process, moto_server
from support.moto_server import BUCKET, Moto
from support.source_server import serving
from support.submitted import call, job_of

CLIP = "bigbuckbunny.mp4"


@pytest.fixture
def own() -> str:
    """The ladder of the package in three sizes that take no time."""
    text = presets.shelf(None)["hls-ladder"].text
    before, _, after = text.partition("[rungs]")
    smaller = '[rungs]\n180 = "400k"\n120 = "200k"\n90 = "100k"\n'
    video = after[after.index("[video]") :].replace('codec = "h264"', 'codec = "h264"\npreset = "ultrafast"')
    return f"{before}{smaller}\n{video}"


def test_a_preset_of_a_bucket_becomes_a_ladder_in_s3(aws: Moto, own: str, tmp_path: Path) -> None:
    s3 = boto3.client("s3")
    s3.put_object(Bucket=BUCKET, Key="presets/small-ladder.toml", Body=own.encode())
    environment = {**aws.env, **moto_server.SETTINGS, "PRESETS_DIR": f"s3://{BUCKET}/presets"}
    with serving() as source, lambda_process.started(environment, tmp_path) as function:
        body = {
            "preset": "small-ladder",
            "parameters": {"segment_seconds": 2, "most_lines": 180},
            "input_files": {"in.mp4": f"{source.url}/media/{CLIP}"},
            "output_filename": "film.m3u8",
        }
        task_id = call(function, "register", body=body)["task_id"]
        call(function, "execute", task_id=task_id)
        job = job_of(task_id)
        assert "PRESETS_DIR" not in {pair["name"] for pair in job["container"]["environment"]}
        worker_env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(lambda_process.ROOT / "src"),
            **aws.env,
            **{pair["name"]: pair["value"] for pair in job["container"]["environment"]},
        }
        _, *arguments = job["container"]["command"]
        done = subprocess.run([sys.executable, *arguments], env=worker_env, cwd=tmp_path, timeout=120, check=False)
        task = call(function, "status", task_id=task_id)

    assert (done.returncode, task["status"], task["error"]) == (0, "completed", None)
    assert task["command"].count("-map 0:V:0") == 3
    folder = tmp_path / "stored"
    folder.mkdir()
    for output in task["outputs"]:
        key = output["s3_uri"].removeprefix(f"s3://{BUCKET}/")
        (folder / output["filename"]).write_bytes(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    kinds = {Path(output["filename"]).suffix for output in task["outputs"]}
    assert (task["outputs"][0]["filename"], kinds) == ("film.m3u8", {".m3u8", ".m4s", ".mp4"})
    assert footage.played_seconds(str(folder / "film.m3u8")) == pytest.approx(5.3, abs=0.15)
    for rung in ("180p", "120p", "90p"):
        assert footage.played_seconds(str(folder / f"film_{rung}.m3u8")) == pytest.approx(5.28, abs=0.15)
