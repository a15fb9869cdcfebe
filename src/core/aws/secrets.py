"""Secrets that a setting names by their ARN, so that no environment and no template has them.

Read when the first notice needs them, and then kept for as long as the process lives: a sweep without notices costs
no call, and one whose secret cannot be read goes on with all else.
"""

from collections.abc import Callable
from functools import cached_property

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.ports import Channel, NotDelivered
from core.settings import SECRET_ARN, webhook_secret
from core.task import Task


class SignedLater:
    """A Channel that `make` makes, of the secret that `reference` leads to, when it is first used."""

    def __init__(self, reference: str, make: Callable[[str], Channel]) -> None:
        self._reference = reference
        self._make = make

    def deliver(self, task: Task) -> None:
        self._channel.deliver(task)

    @cached_property
    def _channel(self) -> Channel:
        try:
            return self._make(webhook_secret(read(self._reference)))
        except (BotoCoreError, ClientError, KeyError) as error:
            raise NotDelivered("The secret that notices are signed with cannot be read.") from error
        except ValueError as error:
            raise NotDelivered(
                "The secret that notices are signed with is none: WEBHOOK_SECRET leads to it."
            ) from error


def read(reference: str) -> str:
    """The text with the values of secrets in the place of their ARNs."""
    return SECRET_ARN.sub(lambda found: _value(found[0], service=found[1]), reference)


def _value(arn: str, *, service: str) -> str:
    if service == "ssm":
        value: str = clients.ssm().get_parameter(Name=arn, WithDecryption=True)["Parameter"]["Value"]
    else:
        value = clients.secretsmanager().get_secret_value(SecretId=arn)["SecretString"]
    return value.strip()
