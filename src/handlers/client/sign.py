"""Requests to a service on AWS are signed with the caller's AWS credentials, wherever those are kept (SigV4).

Where the address does not tell that it is API Gateway's, the region has to be given.
"""

import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from handlers.client.faults import Refused, Usage

if TYPE_CHECKING:
    from botocore.credentials import Credentials

_GATEWAY = re.compile(r"[a-z0-9]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_SERVICE = "execute-api"


def auth(server: str, region: str | None) -> httpx.Auth | None:
    found = _GATEWAY.fullmatch(urlsplit(server).hostname or "")
    region = region or (found[1] if found else None)
    return _Signed(region) if region else None


class _Signed(httpx.Auth):
    requires_request_body = True

    def __init__(self, region: str) -> None:
        self._region = region
        self._credentials = _credentials()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        named = {name: value for name, value in request.headers.items() if name in ("content-type", "idempotency-key")}
        unsigned: Any = AWSRequest(request.method, str(request.url), data=request.content, headers=named)
        SigV4Auth(self._credentials, _SERVICE, self._region).add_auth(unsigned)
        request.headers.update(dict(unsigned.headers.items()))
        yield request


def _credentials() -> "Credentials":
    try:
        from botocore.session import Session
    except ImportError:
        raise Usage(
            "A service on AWS takes signed requests, for which botocore is needed: pip install boto3."
        ) from None
    found = Session().get_credentials()
    if found is None:
        raise Refused(
            "There are no AWS credentials to sign with: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and what goes with it.",
            code="NO_CREDENTIALS",
        )
    return found
