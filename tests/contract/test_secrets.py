"""Secrets that WEBHOOK_SECRET names by ARN: read through boto3 from moto's server, once, and when they are needed."""

from collections.abc import Callable

import boto3
import pytest

from core import wiring
from core.aws import secrets
from core.ports import Channel, NotDelivered
from core.settings import Settings, SettingsInvalid
from core.task import Status, Task
from core.worker.webhook import WebhookChannel
from support.builders import task_in
from support.moto_server import REGION, SETTINGS, Moto

KEY = "c2VjcmV0" * 4
SECRET = f"whsec_{KEY}"
MISSING = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:none-abcdef"


class Recording:
    """A Channel that keeps what it got; `made` has the secrets that it was made with."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.told: list[str] = []

    def of(self, secret: str) -> Channel:
        self.made.append(secret)
        return self

    def deliver(self, task: Task) -> None:
        self.told.append(task.task_id)


def kept(value: str) -> str:
    arn: str = boto3.client("secretsmanager").create_secret(Name="webhook", SecretString=value)["ARN"]
    return arn


def kept_as_parameter(value: str) -> str:
    client = boto3.client("ssm")
    client.put_parameter(Name="/transcoding/webhook", Value=value, Type="SecureString")
    arn: str = client.get_parameter(Name="/transcoding/webhook")["Parameter"]["ARN"]
    return arn


@pytest.mark.parametrize("keep", [kept, kept_as_parameter])
def test_a_secret_is_read_where_its_arn_says(aws: Moto, keep: Callable[[str], str]) -> None:
    assert secrets.read(keep(f"{SECRET}\n")) == SECRET


def test_a_generated_key_gets_what_it_lacks_in_front(aws: Moto) -> None:
    assert secrets.read(f"whsec_{kept(KEY)}") == SECRET


def test_two_secrets_are_read_for_one_that_takes_over_from_the_other(aws: Moto) -> None:
    assert secrets.read(f"{kept(SECRET)} {kept_as_parameter(SECRET)}") == f"{SECRET} {SECRET}"


def test_the_secret_is_read_with_the_first_notice_and_not_again(aws: Moto) -> None:
    channel = Recording()
    arn = kept(SECRET)
    task = task_in(Status.COMPLETED)
    later = secrets.SignedLater(arn, channel.of)
    assert channel.made == []

    later.deliver(task)
    boto3.client("secretsmanager").delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    later.deliver(task)

    assert channel.made == [SECRET]
    assert channel.told == [task.task_id] * 2


def test_a_secret_that_cannot_be_read_delays_the_notice_and_is_asked_for_again(aws: Moto) -> None:
    channel = Recording()
    task = task_in(Status.COMPLETED)
    later = secrets.SignedLater(MISSING, channel.of)
    for _ in range(2):
        with pytest.raises(NotDelivered, match=r"cannot be read\.$") as refused:
            later.deliver(task)
        assert refused.value.final is False
    assert channel.made == []


def test_a_secret_that_is_none_is_not_signed_with_and_not_shown(aws: Moto) -> None:
    channel = Recording()
    with pytest.raises(NotDelivered, match="WEBHOOK_SECRET") as refused:
        secrets.SignedLater(kept("hunter2"), channel.of).deliver(task_in(Status.COMPLETED))
    assert "hunter2" not in str(refused.value)
    assert channel.made == []


def test_the_wiring_reads_an_arn_later_and_a_secret_at_once() -> None:
    def channel(secret: str) -> object:
        settings = Settings.from_env({**SETTINGS, "WEBHOOK_SECRET": secret})
        return type(wiring.channels(settings, lambda task: "")["webhook"])

    assert (channel(MISSING), channel(f"whsec_{MISSING}"), channel(SECRET)) == (
        secrets.SignedLater,
        secrets.SignedLater,
        WebhookChannel,
    )


def test_one_machine_takes_no_arn() -> None:
    with pytest.raises(SettingsInvalid, match="BACKEND=aws"):
        Settings.from_env({"WEBHOOK_SECRET": MISSING})


def test_the_entries_of_api_keys_are_read_from_where_they_are_kept(aws: Moto) -> None:
    entry = f"alice:{'ab' * 32}:admin"
    named = {"BACKEND": "aws", "API_KEYS": kept_as_parameter(entry), "LOG_LEVEL": "INFO"}

    assert wiring.with_keys(named) == {**named, "API_KEYS": entry}
    assert wiring.with_keys({**named, "API_KEYS": entry}) == {**named, "API_KEYS": entry}
    assert wiring.with_keys({**named, "BACKEND": "local"}) == {**named, "BACKEND": "local"}


def test_keys_that_lead_to_nothing_let_nobody_in(aws: Moto) -> None:
    with pytest.raises(SettingsInvalid):
        wiring.with_keys({"BACKEND": "aws", "API_KEYS": kept_as_parameter(" ")})
