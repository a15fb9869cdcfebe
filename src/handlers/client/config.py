"""Where the service is, and with which key: from flags, then the environment, then the configuration file.

The file is TOML: `server` and `key`, and a table for each command with the flags to assume,
as `[batch]` with `jobs = 4`. Click applies the order; here the file is read, and the parts are judged.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from handlers.client.faults import Usage

NAME = "ffmpeg-task"
PREFIX = "FFMPEG_TASK"
USUAL_SERVER = "http://127.0.0.1:8000"
_FOR_ALL = frozenset({"server", "key", "aws_region"})


def place(env: Mapping[str, str]) -> Path:
    """The file, whether or not it is there."""
    if given := env.get(f"{PREFIX}_CONFIG"):
        return Path(given).expanduser()
    base = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".config")
    return Path(base, NAME, "config.toml")


def defaults(file: Path, flags: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
    """What to assume for each command, by its name; `flags` has those of each. Raises Usage."""
    if not file.exists():
        return {}
    said = _read(file)
    for_all = {name: value for name, value in said.items() if name in _FOR_ALL}
    tables = {name: value for name, value in said.items() if name not in _FOR_ALL}
    made = {}
    for name, table in tables.items():
        known = flags.get(name)
        if known is None or not isinstance(table, dict):
            raise Usage(f"{file}: {name!r} is no setting and no command; there are server, key and aws_region.")
        if unknown := {one.replace("-", "_") for one in table} - set(known):
            raise Usage(f"{file}: [{name}] has no flag {min(unknown)!r}.")
    for command, known in flags.items():
        own = {name.replace("-", "_"): value for name, value in tables.get(command, {}).items()}
        made[command] = {name: value for name, value in for_all.items() if name in known} | own
    return made


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Usage(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise Usage(f"{file} is no TOML: {error}.") from error


def base_url(server: str) -> str:
    """The server as it was given, fit to be called. Raises Usage."""
    try:
        parts = urlsplit(server)
        fit = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        fit = False
    if not fit:
        raise Usage(f"--server {server!r}: give it as http://HOST:PORT or https://HOST.")
    if parts.username:
        raise Usage("--server has a user name in it; the service knows its callers by --key.")
    return server.rstrip("/")


def is_loopback(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
