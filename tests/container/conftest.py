"""The images that `make container` has built, opened once.

Without IMAGE, which `make container` sets, nothing here is collected: the other tests need no image.
"""

import os
from collections.abc import Iterator

import pytest

from support import image
from support.image import Image

collect_ignore_glob = [] if "IMAGE" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def worker() -> Iterator[Image]:
    with image.opened(os.environ["IMAGE"]) as opened:
        yield opened


@pytest.fixture(scope="session")
def service() -> Iterator[Image]:
    with image.opened(os.environ["SERVICE_IMAGE"]) as opened:
        yield opened
