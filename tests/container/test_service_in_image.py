"""The service on one machine in its image, with the environment that container/compose.yaml gives it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx

from support import compose, image, moto_server
from support.image import Container, Image
from support.moto_server import Moto
from support.source_server import MEDIA

CLIP = "bigbuckbunny.mp4"


@contextmanager
def serving(service: Image, folder: Path) -> Iterator[tuple[Container, httpx.Client]]:
    composed = compose.services()["transcoder"]
    # The network is this machine's, where the port may be taken and the sources are on loopback.
    own = {"PORT": "0", "PUBLIC_URL": "", "ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8"}
    env = {**composed["environment"], **own}
    with image.started(service, folder, env=env, command=composed["command"]) as container:
        port = announced(container)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
            yield container, http


def announced(container: Container) -> int:
    deadline = time.monotonic() + 30
    while "Serving on" not in container.said():
        assert container.process.poll() is None, container.said()
        assert time.monotonic() < deadline, container.said()
        time.sleep(0.05)
    return int(container.said().partition("Serving on ")[2].split()[0].rpartition(":")[2])


def ended(http: httpx.Client, task_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        task: dict[str, Any] = http.get(f"/ffmpeg/status/{task_id}").json()
        if task["status"] in ("completed", "failed"):
            return task
        assert time.monotonic() < deadline, task
        time.sleep(0.1)


def test_link_of_an_s3_compatible_store_becomes_a_file_of_the_service(
    service: Image, aws: Moto, tmp_path: Path
) -> None:
    # given a file in a store that is not public, and a link to it
    s3 = boto3.client("s3")
    s3.upload_file(str(MEDIA / CLIP), moto_server.BUCKET, "in/clip.mp4")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": moto_server.BUCKET, "Key": "in/clip.mp4"})

    with serving(service, tmp_path) as (container, http):
        health = http.get("/ffmpeg/health").json()
        body = {
            "command": "-i in.mp4 -t 1 -vf scale=-2:120 -c:v libx264 -preset ultrafast -an out.mp4",
            "input_files": {"in.mp4": link},
            "output_filename": "out.mp4",
        }
        task_id = http.post("/ffmpeg/register", json=body, params={"execute": True}).json()["task_id"]
        task = ended(http, task_id)
        answer = http.get(f"/files/{task['output_url'].partition('/files/')[2]}")
        container.process.terminate()
        assert container.wait(30) == 0, container.said()

    # then it is transcoded and served, in containment, by a service whose root is read-only
    assert (task["status"], task["error"]) == ("completed", None)
    (output,) = task["outputs"]
    assert (answer.status_code, len(answer.content)) == (200, output["size_bytes"])
    assert output["media"]["streams"][0]["height"] == 120
    assert health["status"] == "healthy"
    assert "strict: landlock" in str(health)
    # and all that it leaves is in its volume, under the image's user
    data = tmp_path / "work"
    assert (data / "tasks.db").stat().st_uid == 10001
    assert list((data / "scratch").iterdir()) == []


def test_health_check_of_compose_tells_a_service_that_answers_from_one_that_does_not(
    service: Image, tmp_path: Path
) -> None:
    kind, *check = compose.services()["transcoder"]["healthcheck"]["test"]
    assert kind == "CMD"
    with serving(service, tmp_path) as (_, http):
        answering = [word.replace("127.0.0.1:8000", str(http.base_url.netloc, "ascii")) for word in check]
        codes = []
        for name, command in (("answering", answering), ("silent", [w.replace(":8000", ":1") for w in check])):
            (tmp_path / name).mkdir()
            with image.started(service, tmp_path / name, env={}, command=command) as container:
                codes.append(container.wait(30))

    assert codes == [0, 1]
