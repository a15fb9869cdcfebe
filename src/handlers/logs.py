"""Log records as JSON lines, in the same shape from the worker and the local server as from Lambda."""

import logging
import sys

from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

SERVICE = "transcoding"


def formatter(**keys: str | None) -> LambdaPowertoolsFormatter:
    """A formatter whose records carry `keys`, those that are known, besides what each record brings as `extra`."""
    made = LambdaPowertoolsFormatter(service=SERVICE)
    made.append_keys(**{name: value for name, value in keys.items() if value})
    return made


def for_lambda(service: str, level: str) -> Logger:
    """Let this process's records out by Powertools' handler, in place of Lambda's own; gives the logger that has it."""
    logger = Logger(service=service, level=level, utc=True, use_rfc3339=True, serialize_stacktrace=False)
    logging.root.handlers[:] = [logger.logger_handler]
    logging.root.setLevel(logging.WARNING)
    for ours in ("core", "handlers"):
        logging.getLogger(ours).setLevel(level)
    logging.getLogger(service).propagate = False
    return logger


def configure(level: str, **keys: str | None) -> logging.Handler:
    """Send this process's records to stderr; gives the handler that does."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(**keys))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return handler
