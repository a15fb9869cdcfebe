"""`make bench`, the cold start: from a fresh process of Lambda's Python to the first answer of `GET /ffmpeg/status`.

Beside it, in turns, a plain function on the same dependencies and the same table: FastAPI, Mangum, Powertools and three
boto3 clients made at import, with bytecode and, as `sam build` leaves it unless it is told otherwise, without.
"""

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.aws.task_store import DynamoTaskStore
from core.task import Status
from support import lambda_package, lambda_process, moto_server
from support.builders import task_in

EVENT = lambda_process.ROOT / "events/status.json"
TASK_ID = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Start:
    module: str
    path: tuple[Path, ...]

    def seconds(self, env: Mapping[str, str], folder: Path) -> float:
        """Time to the answer; the process has nothing on its path but what Lambda's would."""
        path = {"PYTHONPATH": ":".join(map(str, self.path)), "PYTHONDONTWRITEBYTECODE": "1"}
        began = time.perf_counter()
        with lambda_process.started(
            {**env, **path},
            folder,
            program=("-S", lambda_process.__file__),
            module=self.module,
            python=shutil.which(lambda_package.RUNTIME) or "",
        ) as function:
            answer = function.invoke(json.loads(EVENT.read_text()))
            took = time.perf_counter() - began
        if answer["statusCode"] != 200:
            raise RuntimeError(f"{self.module} answered {answer}")
        return took


def measure(repeats: int) -> None:
    lacking = lambda_package.lacking()
    if lacking:
        print(f"##### SKIPPED: the cold start of the Lambda function. {lacking}. #####\n")
        return
    with tempfile.TemporaryDirectory() as name, moto_server.running() as moto:
        folder = Path(name)
        moto.reset()
        DynamoTaskStore(moto_server.TABLE).create(task_in(Status.PENDING, task_id=TASK_ID))
        starts = _starts(folder)
        env = {**moto.env, **moto_server.SETTINGS}
        took: dict[str, list[float]] = {of: [] for of in starts}
        for _ in range(repeats + 1):  # the first brings the files into memory
            for of, start in starts.items():
                took[of].append(start.seconds(env, folder))
    _show({of: statistics.median(each[1:]) for of, each in took.items()})


def _starts(folder: Path) -> dict[str, Start]:
    runtime = lambda_package.runtime(folder / "runtime")
    package = lambda_package.make(folder / "package")
    bare = shutil.copytree(package, folder / "bare", ignore=shutil.ignore_patterns("__pycache__"))
    plain = lambda_package.install(folder / "plain")
    shutil.copy(lambda_process.ROOT / "tests/support/plain_app.py", plain)
    plain_compiled = lambda_package.compiled(Path(shutil.copytree(plain, folder / "plain_compiled")))
    return {
        "plain": Start("plain_app", (plain_compiled, runtime)),
        "plain, no bytecode": Start("plain_app", (plain, runtime)),
        "ours": Start("handlers.api", (package, runtime)),
        "ours, no bytecode": Start("handlers.api", (Path(bare), runtime)),
    }


def _show(took: Mapping[str, float]) -> None:
    print("A cold start of the Lambda function, on this machine: fresh process to the first status")
    for of, seconds in took.items():
        print(
            f"  {of:<20}{seconds:7.3f} s   {seconds / took['plain']:5.2f} of plain   "
            f"{seconds / took['plain, no bytecode']:5.2f} of plain without bytecode"
        )
    print()


if __name__ == "__main__":
    measure(int(os.environ.get("BENCH_REPEATS", "5")))
