"""The parts of the command line. httpx is kept from importing its own, which is a third of a command's start."""

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # httpx takes that as not installed
