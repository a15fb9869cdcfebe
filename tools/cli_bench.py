"""What the command line costs: moving a large file beside curl, its memory, and its start beside Python's own.

A server of its own takes parts and throws them away, and gives a file out by sendfile, so that what is measured is the
client. CLI_BENCH_BYTES (default 2,000,000,000) sets the size, BENCH_REPEATS (default 3) how often; the median counts.
"""

import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support import client
from support.service import PYTHONPATH

SIZE = int(os.environ.get("CLI_BENCH_BYTES", "2000000000"))
REPEATS = int(os.environ.get("BENCH_REPEATS", "3"))
PART = 100_000_000
PIECE = bytes(range(256)) * 4096


class Server(BaseHTTPRequestHandler):
    """Enough of the API to send a file and to fetch one. `python cli_bench.py serve FILE SHA256` runs it."""

    protocol_version = "HTTP/1.1"
    file: Path
    sha256: str

    def do_PUT(self) -> None:
        left, buffer = int(self.headers["Content-Length"]), memoryview(bytearray(1024**2))
        if self.headers["Expect"]:
            self.send_response_only(100)
            self.end_headers()
        while left:
            got = self.rfile.readinto(buffer[: min(left, len(buffer))])
            if not got:
                self.close_connection = True
                return
            left -= got
        self._json({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
        self._json(self._upload(body["size_bytes"]) if self.path.endswith("/uploads") else self._task())

    def do_GET(self) -> None:
        if self.path != "/file":
            self._json(self._task())
            return
        with self.file.open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Length", str(SIZE))
            self.end_headers()
            self.wfile.flush()
            with contextlib.suppress(OSError):
                self.connection.sendfile(file)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _url(self, path: str) -> str:
        return f"http://{self.headers['Host']}{path}"

    def _upload(self, size: int) -> dict[str, Any]:
        sizes = [min(PART, size - at) for at in range(0, size, PART)]
        parts = [
            {"number": number, "size_bytes": one, "url": self._url(f"/part/{number}"), "headers": {}}
            for number, one in enumerate(sizes, start=1)
        ]
        return {"upload_id": "u", "input": "upload:u", "status": "open", "part_size_bytes": PART, "parts": parts}

    def _task(self) -> dict[str, Any]:
        output = {"filename": "o.bin", "size_bytes": SIZE, "sha256": self.sha256, "url": self._url("/file")}
        nothing = dict.fromkeys(("percent", "fps", "speed", "out_time_seconds", "eta_seconds"))
        said = {
            "task_id": "t",
            "upload_id": "u",
            "status": "completed",
            "stage": None,
            "progress": nothing,
            "valid": True,
        }
        return {**said, "error": None, "outputs": [output], "output_files": ["o.bin"], "output_count": 1}

    def _json(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def serve(file: str, sha256: str) -> None:
    Server.file, Server.sha256 = Path(file), sha256
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


def main() -> None:
    measure_start()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.bin"
        sha256 = made(file)
        command = [sys.executable, __file__, "serve", str(file), sha256]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            try:
                measure_transfers(server.stdout.readline().strip(), file)
            finally:
                server.terminate()


def made(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("wb") as out:
        for at in range(0, SIZE, len(PIECE)):
            piece = PIECE[: SIZE - at]
            out.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def measure_start() -> None:
    helped = median(lambda: run([*client.COMMAND, "--help"], Path())[0], 10)
    bare = median(lambda: run([sys.executable, "-c", "pass"], Path())[0], 10)
    print(f"--help takes {helped:.3f} s, python -c pass {bare:.3f} s: {helped - bare:.3f} s more")


def measure_transfers(url: str, file: Path) -> None:
    folder = file.parent
    back = folder / "back.bin"
    ours = {
        "up": [*client.COMMAND, "submit", "-q", "--server", url, "-i", str(file), "--output", "o.mp4"],
        "down": [*client.COMMAND, "result", "-q", "--server", url, "t", "--output", str(back)],
    }
    theirs = {
        "up": ["curl", "-sS", "-T", str(file), f"{url}/part/1"],
        "down": ["curl", "-sS", "-o", str(back), f"{url}/file"],
        "down, and its checksum": ["sh", "-c", f"curl -sS -o {back} {url}/file && sha256sum {back}"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*(f"our {name}" for name in ours), *theirs]}
    memory: dict[str, float] = {}
    for _ in range(REPEATS):  # in turns, because machines are noisy
        for name, command in theirs.items():
            seconds[name].append(run(command, folder)[0])
            back.unlink(missing_ok=True)
        for name, command in ours.items():
            took, most = run(command, folder)
            seconds[f"our {name}"].append(took)
            memory[name] = max(memory.get(name, 0), most)
            back.unlink(missing_ok=True)
    for name, beside in (("up", "up"), ("down", "down"), ("down", "down, and its checksum")):
        own, other = (statistics.median(seconds[key]) for key in (f"our {name}", beside))
        print(
            f"{SIZE / 1e9:.1f} GB {name}: {SIZE / own / 1e6:.0f} MB/s, curl {beside} {SIZE / other / 1e6:.0f} MB/s: "
            f"{other / own:.2f} of it; at most {memory[name]:.0f} MB of memory"
        )


def run(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """The seconds that it takes, and the most memory that it has, in MB."""
    env = {**client.environment(folder), "PYTHONPATH": PYTHONPATH}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - began, used.ru_maxrss * 1024 / 1e6


def median(measure: Callable[[], float], repeats: int) -> float:
    return statistics.median(measure() for _ in range(repeats))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        main()
