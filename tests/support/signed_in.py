"""Callers with keys of their own, and the API that knows them."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from core import keys
from core.settings import Settings
from support import api_server
from support.api_server import ONE_OUTPUT, Api

KEYS = {"alice": "ffk_of-alice", "bob": "ffk_of-bob", "root": "ffk_of-root"}


def entry(name: str, *options: str) -> str:
    return ":".join((name, hashlib.sha256(KEYS[name].encode()).hexdigest(), *options))


API_KEYS = f"{entry('alice')},{entry('bob')},{entry('root', 'admin')}"


@dataclass
class Clock:
    """Stands still until it is set."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class SignedIn:
    api: Api
    alice: httpx.Client
    bob: httpx.Client
    root: httpx.Client  # an admin
    nobody: httpx.Client
    clock: Clock

    def registered(self, caller: httpx.Client, **headers: str) -> str:
        """The id of a new task of the caller's."""
        answer = caller.post("/ffmpeg/register", json=ONE_OUTPUT, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["task_id"])


@contextmanager
def running(data: Path, *, api_keys: str = API_KEYS, **settings: Any) -> Iterator[SignedIn]:
    clock = Clock(datetime.now(UTC))
    made = Settings(api_keys=keys.read(api_keys), **settings)
    with api_server.running(data, settings=made, clock=clock) as api, ExitStack() as stack:
        base = str(api.http.base_url)
        clients = {
            name: stack.enter_context(
                httpx.Client(
                    base_url=base,
                    headers={"X-API-Key": key},
                    trust_env=False,
                    timeout=api_server.PATIENCE,
                )
            )
            for name, key in KEYS.items()
        }
        yield SignedIn(api=api, nobody=api.http, clock=clock, **clients)
