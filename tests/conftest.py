"""Fixtures that more than one kind of test shares."""

from collections.abc import Iterator

import pytest

from support import moto_server
from support.moto_server import Moto


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    with moto_server.running() as running:
        yield running


@pytest.fixture
def aws(moto: Moto) -> Moto:
    """AWS, empty but for the table, the bucket and the queue."""
    moto.reset()
    return moto
