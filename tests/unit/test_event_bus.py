"""The event bus behind the real botocore, with faults where AWS is; and what an event may hold."""

import json
import time
from typing import Any

import boto3
import pytest
from botocore.config import Config

from core.aws.event_bus import MOST_BYTES, EventBusChannel, detail
from core.ports import NotDelivered
from core.task import Status, Task
from support import receiver
from support.builders import task_in
from support.fake_internet import said
from support.receiver import Answer, Receiver, hang_up, receiving, sending, silence

TRIES = 2  # of botocore, for one of ours
ANSWER = {
    "task_id": "t-1",
    "status": "completed",
    "output_count": 1,
    "output_url": "https://s3/a?X-Amz-Signature=abc",
    "outputs": [{"filename": "a.mp4", "url": "https://s3/a?X-Amz-Signature=abc", "s3_uri": "s3://bucket/a"}],
    "input_files": {"in.mp4": "https://media.example/in.mp4"},
    "command": "-i in.mp4 a.mp4",
    "correlation_id": "corr-1",
    "created_at": "2026-01-15T09:30:00Z",
    "finished_at": "2026-01-15T09:30:27Z",
}


def client(url: str, seconds: float) -> Any:
    return boto3.client(
        "events",
        region_name="eu-central-1",
        endpoint_url=url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(
            connect_timeout=60, read_timeout=seconds, retries={"mode": "standard", "total_max_attempts": TRIES}
        ),
    )


def channel(url: str, answer: dict[str, Any] = ANSWER, *, seconds: float = 60) -> EventBusChannel:
    return EventBusChannel("ends", shown=lambda _: json.dumps(answer), client=client(url, seconds))


@pytest.fixture
def task() -> Task:
    return task_in(Status.COMPLETED)


def result(**entry: str) -> bytes:
    body = {"FailedEntryCount": int("ErrorCode" in entry), "Entries": [entry]}
    return said(200, json.dumps(body).encode(), content_type="application/x-amz-json-1.1")


def refusal(code: str, status: int = 400) -> bytes:
    body = json.dumps({"__type": code, "message": "no, because of arn:aws:events:eu-central-1:123456789012"}).encode()
    return said(status, body, content_type="application/x-amz-json-1.1")


def then_taken(first: bytes) -> Answer:
    """The fault, and the next time all is well."""

    def answer(there: Receiver, call: receiver.Call, connection: Any) -> None:
        connection.sendall(first if call.number == 1 else TAKEN)

    return answer


TAKEN = result(EventId="e-1")
SILENT = "EventBridge gave no answer."
UNCLEAR = "EventBridge did not say that it took the event."


def refused(code: str) -> str:
    return f"EventBridge did not take the event ({code})."


FAULTS: dict[str, tuple[Answer, str, bool, int]] = {
    "throttled": (sending(refusal("ThrottlingException")), refused("ThrottlingException"), False, TRIES),
    "500": (sending(refusal("InternalException", 500)), refused("InternalException"), False, TRIES),
    "503": (sending(said(503)), refused("503"), False, TRIES),
    "no answer in time": (silence, SILENT, False, TRIES),
    "answer lost": (hang_up, SILENT, False, TRIES),
    "answer cut": (sending(TAKEN[:-10]), UNCLEAR, False, 1),
    "access denied": (sending(refusal("AccessDeniedException")), refused("AccessDeniedException"), False, 1),
    "token expired": (sending(refusal("ExpiredTokenException")), refused("ExpiredTokenException"), False, 1),
    "bus missing": (sending(refusal("ResourceNotFoundException")), refused("ResourceNotFoundException"), False, 1),
    "too large": (sending(refusal("ValidationException")), refused("ValidationException"), True, 1),
    "entry failed inside": (sending(result(ErrorCode="InternalFailure")), refused("InternalFailure"), False, 1),
    "entry throttled": (sending(result(ErrorCode="ThrottlingException")), refused("ThrottlingException"), False, 1),
    "entry not allowed": (
        sending(result(ErrorCode="NotAuthorizedForSourceException")),
        refused("NotAuthorizedForSourceException"),
        False,
        1,
    ),
    "entry malformed": (sending(result(ErrorCode="MalformedDetail")), refused("MalformedDetail"), True, 1),
    "entry invalid": (sending(result(ErrorCode="InvalidArgument")), refused("InvalidArgument"), True, 1),
    "no word about the entry": (sending(said(200, b"{}")), UNCLEAR, False, 1),
    "not JSON": (sending(said(200, b"<html>")), UNCLEAR, False, 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_eventbridge_is_said_in_words_and_in_time(name: str, task: Task) -> None:
    answer, words, final, calls = FAULTS[name]
    seconds = 0.5 if answer is silence else 60  # a machine that is busy is no fault
    began = time.monotonic()
    with receiving(answer) as there, pytest.raises(NotDelivered) as caught:
        channel(f"http://127.0.0.1:{there.port}", seconds=seconds).deliver(task)
    assert (str(caught.value), caught.value.final, len(there.calls)) == (words, final, calls)
    assert time.monotonic() - began < 20


def test_a_bus_that_cannot_be_reached_is_tried_again_later(task: Task) -> None:
    with receiver.nobody() as url, pytest.raises(NotDelivered) as caught:
        channel(url).deliver(task)
    assert (str(caught.value), caught.value.final) == (SILENT, False)


@pytest.mark.parametrize("fault", [refusal("ThrottlingException"), refusal("InternalException", 500), b""])
def test_a_fault_that_passes_is_not_even_noticed(fault: bytes, task: Task) -> None:
    with receiving(then_taken(fault)) as there:
        channel(f"http://127.0.0.1:{there.port}").deliver(task)
        assert len(there.calls) == 2


def test_event_is_of_our_source_and_holds_the_task_without_links(task: Task) -> None:
    with receiving(sending(TAKEN)) as there:
        channel(f"http://127.0.0.1:{there.port}").deliver(task)
        (call,) = there.calls
    (entry,) = json.loads(call.body)["Entries"]
    shown = {**ANSWER, "outputs": [{"filename": "a.mp4", "s3_uri": "s3://bucket/a"}]}
    del shown["output_url"]
    assert json.loads(entry.pop("Detail")) == shown
    assert entry == {"EventBusName": "ends", "Source": "url-to-s3-transcoding", "DetailType": "Task Ended"}
    assert call.headers["x-amz-target"] == "AWSEvents.PutEvents"


def test_event_leaves_out_outputs_until_it_fits() -> None:
    media = {"container": "mp4", "streams": [{"codec": "h264"}] * 100}
    outputs = [{"filename": f"{n}.ts", "url": "x" * 2000, "s3_uri": None, "media": media} for n in range(400)]
    made = detail(json.dumps({**ANSWER, "outputs": outputs, "output_count": 400}))
    read = json.loads(made)
    assert MOST_BYTES / 2.5 < len(made.encode()) <= MOST_BYTES
    kept = [{"filename": f"{n}.ts", "s3_uri": None, "media": media} for n in range(len(read["outputs"]))]
    assert read == {name: value for name, value in ANSWER.items() if name != "output_url"} | {
        "outputs": kept,
        "output_count": 400,
    }


def test_event_of_a_huge_command_holds_what_is_essential() -> None:
    """Counted in bytes, as they are sent: a character may have several."""
    made = detail(json.dumps({**ANSWER, "command": "\u00fc" * 50_000}))
    assert json.loads(made) == {
        "task_id": "t-1",
        "status": "completed",
        "output_count": 1,
        "correlation_id": "corr-1",
        "created_at": "2026-01-15T09:30:00Z",
        "finished_at": "2026-01-15T09:30:27Z",
    }
