"""One DynamoDB table, and writes to it that are conditional on the version that an item has.

Throttling and lost answers are boto3's to repeat; what a repeated write finds is judged here, and so is one of which
nothing was heard: what stands in the table decides whether it was written. An item has its key `task_id`, its `version`
and a `body`; what else is in it is for the stores to say.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from core.aws import client as clients
from core.aws.trouble import AwsError, Trouble, trouble
from core.errors import InternalError, ServiceError, ServiceUnavailable, TooManyRequests

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# What a throttled table takes again by then: its allowance is counted by the second.
RETRY_AFTER_SECONDS = 5

Item = Mapping[str, Any]


class Table:
    """The items of the table `name`, each by its key."""

    def __init__(self, name: str, *, client: "DynamoDBClient | None" = None) -> None:
        self.name = name
        self._given = client

    @cached_property
    def client(self) -> "DynamoDBClient":
        return self._given or clients.dynamodb()

    def read(self, key: str) -> Item:
        """The item, empty when there is none; an answer that was cut on its way is empty too, but tells no cost."""
        with translated():
            answer = self.client.get_item(
                TableName=self.name,
                Key={"task_id": {"S": key}},
                ConsistentRead=True,
                ReturnConsumedCapacity="TOTAL",
            )
        if "ConsumedCapacity" not in answer:
            raise ServiceUnavailable
        return answer.get("Item", {})

    def put(self, item: Item, *, previous: int | None) -> Item | None:
        """None when the item was written over the version `previous`; else what stood against it, empty for nothing."""
        try:
            self.client.put_item(
                TableName=self.name, Item=item, ReturnValuesOnConditionCheckFailure="ALL_OLD", **_condition(previous)
            )
        except self.client.exceptions.ConditionalCheckFailedException as error:
            found = _stood_against(error)
            return None if found.get("body") == item["body"] and _was_repeated(error) else found
        except AwsError as error:
            found = self._after(error, item["task_id"]["S"])
            if found.get("body") == item["body"]:
                return None
            if _version(found) == previous:  # it was not written, or not yet
                raise _as_ours(error) from error
            return found
        return None

    def delete(self, key: str, *, version: int) -> Item | None:
        """None when the item was deleted; else what stood against it, empty for nothing."""
        try:
            self.client.delete_item(
                TableName=self.name,
                Key={"task_id": {"S": key}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **_condition(version),
            )
        except self.client.exceptions.ConditionalCheckFailedException as error:
            found = _stood_against(error)
            return None if not found and _was_repeated(error) else found
        except AwsError as error:
            found = self._after(error, key)
            if _version(found) == version:
                raise _as_ours(error) from error
            return found or None
        return None

    def _after(self, error: BotoCoreError | ClientError, key: str) -> Item:
        """What stands in the table after a write that ended with `error`, which may have been done all the same."""
        if trouble(error) is Trouble.REFUSED:
            raise _as_ours(error) from error
        try:
            return self.read(key)
        except ServiceError:
            raise ServiceUnavailable from error


def _condition(previous: int | None) -> dict[str, Any]:
    if previous is None:
        return {"ConditionExpression": "attribute_not_exists(task_id)"}
    seen = {":seen": {"N": str(previous)}}
    return {"ConditionExpression": "version = :seen", "ExpressionAttributeValues": seen}


def _version(item: Item) -> int | None:
    return int(item["version"]["N"]) if item else None


def _stood_against(error: ClientError) -> Item:
    answer: Mapping[str, Any] = error.response
    return answer.get("Item") or {}


def _was_repeated(error: ClientError) -> bool:
    """Whether boto3 sent the write more than once: then the first may have succeeded, and its answer been lost."""
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


@contextmanager
def translated() -> Iterator[None]:
    """What goes wrong with a call, as one of our errors."""
    try:
        yield
    except AwsError as error:
        raise _as_ours(error) from error
    except KeyError as error:  # an answer that was cut or garbled on its way has none of what it should
        raise ServiceUnavailable from error


def _as_ours(error: BotoCoreError | ClientError) -> ServiceError:
    kind = trouble(error)
    if kind is Trouble.BUSY:
        return TooManyRequests(details={"retry_after_seconds": RETRY_AFTER_SECONDS})
    return ServiceUnavailable() if kind is Trouble.SILENT else InternalError("The task store cannot be used.")
