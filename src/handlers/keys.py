"""A new API key: `python -m handlers.keys NAME [--admin]` prints it, once, and its entry for API_KEYS.

The key is for whoever calls, the entry for the service, which can do nothing with it but recognise the key.
"""

import argparse
import sys
from collections.abc import Sequence

from core import keys


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m handlers.keys", description="Make a new API key.")
    parser.add_argument("name", help="who calls with it; stands in the log, and in each task made with it")
    parser.add_argument("--admin", action="store_true", help="it sees the tasks of all")
    given = parser.parse_args(arguments)
    try:
        key, entry = keys.make(given.name, admin=given.admin)
    except ValueError:
        parser.error("a name is 1 to 64 of A-Z a-z 0-9 . _ -")
    sys.stdout.write(f"The key, which is shown only now; send it as X-API-Key:\n{key}\n\nFor API_KEYS:\n{entry}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
