"""A Lambda function in a fresh process, as the Lambda runtime runs it: one import, then one event after another.

Run as a program it is that process: events come as lines on standard input, answers go to the file descriptor that its
first argument names, and standard output is the log of the function, whose module is the second argument.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Context:
    """What the runtime passes beside the event."""

    aws_request_id: str
    function_name: str = "api"
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:api"
    memory_limit_in_mb: str = "1024"
    log_group_name: str = "/aws/lambda/api"
    log_stream_name: str = "2026/01/15/[$LATEST]0"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@dataclass(frozen=True)
class LambdaProcess:
    process: "subprocess.Popen[str]"
    answers: IO[str]
    log_file: Path
    loaded: list[str]  # every module that the import of the handler has loaded

    def invoke(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """What the handler returns, and under `loaded` every module that its process has loaded by then."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()
        line = self.answers.readline()
        assert line, f"the function ended:\n{self.log_file.read_text()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def log(self) -> list[dict[str, Any]]:
        """Every line that the function wrote, each of which is JSON."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]


@contextmanager
def started(
    env: Mapping[str, str],
    folder: Path,
    *,
    program: Sequence[str] = (__file__,),
    module: str = "handlers.api",
    python: str = sys.executable,
) -> Iterator[LambdaProcess]:
    """The function of `module` with exactly the environment `env`, and what a process needs to run at all."""
    reading, writing = os.pipe()
    log_file = folder / "function.log"
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "AWS_LAMBDA_FUNCTION_NAME": "api"}
    with log_file.open("w") as log, os.fdopen(reading) as answers:
        process = subprocess.Popen(
            [python, *program, str(writing), module],
            env={**own, **env},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[writing],
        )
        os.close(writing)
        try:
            first = answers.readline()
            assert first, f"the function did not start:\n{log_file.read_text()}"
            yield LambdaProcess(process, answers, log_file, json.loads(first)["loaded"])
        finally:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait()


def main(answers: IO[str], module: str = "handlers.api") -> None:
    handler = importlib.import_module(module).handler
    print(json.dumps({"loaded": _loaded()}), file=answers, flush=True)
    for number, line in enumerate(sys.stdin, start=1):
        answer = handler(json.loads(line), Context(aws_request_id=f"request-{number}"))
        print(json.dumps({**(answer or {}), "loaded": _loaded()}), file=answers, flush=True)


def _loaded() -> list[str]:
    return sorted(sys.modules)


if __name__ == "__main__":
    main(os.fdopen(int(sys.argv[1]), "w"), sys.argv[2])
