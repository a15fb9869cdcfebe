"""Fixtures that more than one kind of test shares."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from support import moto_server
from support.moto_server import Moto

# How long examples take, to make and to try, is not what these tests are about, and on a busy machine says nothing.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")
# A person's runs look at new examples each time; CI looks at the same ones, and so fails only for a change.
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    with moto_server.running() as running:
        yield running


@pytest.fixture
def aws(moto: Moto) -> Moto:
    """AWS, empty but for the table, the bucket and the queue."""
    moto.reset()
    return moto
