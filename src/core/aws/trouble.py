"""What an error of an AWS call means: wait, ask again, or somebody has something to mend.

Pure. By the time that an error comes here, boto3 has sent the request as often as it may. What the caller makes of it,
and what may have happened all the same, is for the twins to say.
"""

from enum import Enum

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

AwsError = (BotoCoreError, ClientError)


class Trouble(Enum):
    BUSY = "busy"  # more requests than are taken; this one did nothing
    SILENT = "silent"  # no answer, or one that says nothing: it may have been done
    REFUSED = "refused"  # asking again changes nothing


_BUSY = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# Somebody else's transaction holds the item, or the server gave up waiting for the rest of our request.
_SILENT = frozenset({"RequestTimeout", "RequestTimeoutException", "TransactionConflictException"})


def trouble(error: BotoCoreError | ClientError) -> Trouble:
    if not isinstance(error, ClientError):
        unheard = isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)
        return Trouble.SILENT if unheard else Trouble.REFUSED
    code, status = error.response["Error"].get("Code", ""), error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code in _BUSY or status == 429:
        return Trouble.BUSY
    # boto3 puts the status for a code that it did not find; an answer to HEAD has none.
    unreadable = code.isdigit() and not error.operation_name.startswith("Head")
    return Trouble.SILENT if code in _SILENT or unreadable or status >= 500 else Trouble.REFUSED
