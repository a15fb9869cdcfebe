"""The package of the Lambda functions, as src/Makefile makes it, and what the Lambda runtime has beside it.

The package for Lambda is for arm64; the one that is made here for this machine differs in its compiled modules only.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = "python3.13"
# What comes with the runtime: boto3 and all that it needs.
_IN_THE_RUNTIME = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")


def lacking() -> str | None:
    """What keeps this machine from making the package, in words; None when nothing does."""
    usable = shutil.which(RUNTIME) and not _run([RUNTIME, "-m", "pip", "--version"]).returncode
    return None if usable else f"{RUNTIME}, with pip, is not on the PATH"


def make(folder: Path, *, architecture: str = platform.machine()) -> Path:
    folder.mkdir(parents=True)
    _checked(
        ["make", "-s", "-C", str(ROOT / "src"), "build-X", f"ARTIFACTS_DIR={folder}", f"ARCHITECTURE={architecture}"]
    )
    return folder


def install(folder: Path) -> Path:
    """The same dependencies for this machine as pip leaves them: whole, and without bytecode."""
    pip = [RUNTIME, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--require-hashes"]
    _checked([*pip, "--only-binary", ":all:", "-r", str(ROOT / "src/requirements.txt"), "--target", str(folder)])
    return folder


def runtime(folder: Path) -> Path:
    """A stand-in for the runtime's own packages, with bytecode, out of those that the tests run on."""
    folder.mkdir()
    for name in _IN_THE_RUNTIME:
        spec = importlib.util.find_spec(name)
        assert spec
        assert spec.origin
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, folder)
    _compile(folder)
    return folder


def compiled(folder: Path) -> Path:
    _compile(folder)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Every file by its path in `folder`, with its mode and its bytes in short."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): f"{path.stat().st_mode & 0o777:o} {sha256(path.read_bytes()).hexdigest()}"
        for path in files
    }


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _compile(folder: Path) -> None:
    _checked([RUNTIME, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder)])


def _checked(command: list[str]) -> None:
    done = _run(command)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, capture_output=True, text=True, env=env)
