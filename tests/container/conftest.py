"""The image that `make container` has built, opened once."""

import os
from collections.abc import Iterator

import pytest

from support import image
from support.image import Image


@pytest.fixture(scope="session")
def worker() -> Iterator[Image]:
    with image.opened(os.environ.get("IMAGE", "transcoder")) as opened:
        yield opened


@pytest.fixture(scope="session")
def service() -> Iterator[Image]:
    with image.opened(os.environ.get("SERVICE_IMAGE", "transcoder-service")) as opened:
        yield opened
