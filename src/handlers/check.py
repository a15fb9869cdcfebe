"""Is this machine, or this image, fit to run tasks? One line of JSON says what was found; the exit code says yes or no.

`python -m handlers.check` is run by the image's build, and by whoever wonders why a worker does not start. A worker
does not do it at each start: what is compiled into ffmpeg does not change between two tasks.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from core.ffmpeg import encoders
from core.settings import Settings, SettingsInvalid
from core.worker import process, sandbox
from handlers.batch_worker import EXIT_MISCONFIGURED

EXIT_FIT = 0


class Unfit(Exception):
    """Tasks would fail here; the message says why and what to do."""


def main(env: Mapping[str, str]) -> int:
    try:
        settings = Settings.from_env(env)
        ffmpeg = process.find_ffmpeg(settings.ffmpeg_path)
        facts = _facts(settings, ffmpeg)
    except (SettingsInvalid, process.NoUsableFfmpeg, sandbox.NoSandbox, Unfit) as fault:
        sys.stderr.write(f"This machine cannot run tasks: {fault}\n")
        return EXIT_MISCONFIGURED
    sys.stdout.write(json.dumps(facts) + "\n")
    return EXIT_FIT


def _facts(settings: Settings, ffmpeg: str) -> dict[str, object]:
    cards = sorted(node.name for node in Path("/dev").glob("nvidia[0-9]*"))
    there = process.ffmpeg_encoders(ffmpeg)
    lacking = encoders.lacking(there, card=bool(cards))
    if lacking:
        raise Unfit(
            f"its ffmpeg has no {', '.join(lacking)}, which the service promises; set FFMPEG_PATH to a build that has."
        )
    with process.canary(settings.scratch) as found:
        return {
            "ffmpeg": process.ffmpeg_version(ffmpeg),
            "encoders": sorted(there & {*encoders.PROMISED, *encoders.PROMISED_WITH_A_CARD}),
            "gpu": {"cards": cards, "driver": process.cuda()},
            "sandbox": sandbox.admitted(found(), settings.sandbox),
        }


if __name__ == "__main__":
    sys.exit(main(os.environ))
