"""Leaves of an environment what the image runs, and compiles it: `strip.py ENVIRONMENT SOURCES`.

Run while the image is built, by the environment's own interpreter, so that the bytecode fits. What AWS services are
kept is read from the sources: botocore describes four hundred, in as many megabytes as all else of it together.
"""

import compileall
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

# Those with which botocore itself asks for credentials.
CREDENTIALS = frozenset({"sts", "sso", "sso-oidc"})
INSTALLER = (
    "pip",
    "pip-*",
    "setuptools",
    "setuptools-*",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
)
# What compilers and editors read, and the package's own tests and tutorials.
UNUSED = ("*.pyx", "*.pxd", "*.pyi", "*.c", "*.h", "*.a", "__pycache__", "tests", "boto3/examples")


def main(environment: Path, sources: Path) -> None:
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    kept = services(sources) | CREDENTIALS
    for path in [*_unused(packages), *_other_services(packages / "botocore/data", kept)]:
        _remove(path)
    for program in (environment / "bin").iterdir():
        if not program.name.startswith("python"):
            program.unlink()
    # Not checked against the sources at each import: nothing changes in an image.
    for folder in (packages, sources):
        compileall.compile_dir(folder, quiet=1, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)


def services(sources: Path) -> frozenset[str]:
    """The AWS services that the sources make clients of."""
    return frozenset(
        name for file in sources.rglob("*.py") for name in re.findall(r'boto3\.client\("([\w-]+)"', file.read_text())
    )


def _unused(packages: Path) -> Iterator[Path]:
    for pattern in INSTALLER:
        yield from packages.glob(pattern)
    for pattern in UNUSED:
        yield from packages.rglob(pattern)


def _other_services(data: Path, kept: frozenset[str]) -> Iterator[Path]:
    return (path for path in data.iterdir() if path.is_dir() and path.name not in kept)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)  # it was in a folder that is gone


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
