"""A Lambda handler's module in this process, for what is tested below its `handler`.

Such a module reads the environment and takes over the log as it is imported; the environment is that of moto's AWS,
and the log is given back.
"""

import importlib
import logging
import os
from types import ModuleType
from unittest import mock

from support import moto_server


def imported(name: str) -> ModuleType:
    kept = logging.root.handlers[:], logging.root.level
    with mock.patch.dict(os.environ, moto_server.SETTINGS):
        try:
            return importlib.import_module(name)
        finally:
            logging.root.handlers[:], level = kept
            logging.root.setLevel(level)
