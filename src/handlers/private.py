"""The service of one machine for one call of the command line: `python -m handlers.private`, with a pipe as stdin.

It ends with that pipe, so with whoever holds the other end, however that comes to its end; and its DATA_DIR with it.
"""

import os
import shutil
import signal
import sys
import threading
from types import FrameType

from handlers import local


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)  # from the beginning, so that the folder is always removed
    try:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        return local.main(os.environ)
    except KeyboardInterrupt:
        return 0
    finally:
        shutil.rmtree(os.environ["DATA_DIR"], ignore_errors=True)


def _end_with_stdin() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
