"""Where the service is, and with which key: from flags, then the environment, then the configuration file.

The file is TOML: `server` and `key`, and a table for each command with the flags to assume,
as `[batch]` with `jobs = 4`. Click applies the order; here the file is read, and the parts are judged.
"""

import os
from collections.abc import Mapping
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
        return Path(_home_in(given))
    base = env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or _home_in("~"), ".config")
    return Path(base, NAME, "config.toml")


def _home_in(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib's raises where there is no home


def defaults(env: Mapping[str, str], flags: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """What to assume for each command, by its name; `flags` has what each calls the values. Raises Usage."""
    file = place(env)
    said = _read(file)
    if said is None:
        if env.get(f"{PREFIX}_CONFIG"):
            raise Usage(f"{file} is not there; {PREFIX}_CONFIG names it.")
        return {}
    for_all = {name: value for name, value in said.items() if name in _FOR_ALL}
    tables = {name: value for name, value in said.items() if name not in _FOR_ALL}
    made = {}
    for name, table in tables.items():
        known = flags.get(name)
        if known is None or not isinstance(table, dict):
            raise Usage(f"{file}: {name!r} is no setting and no command; there are server, key and aws_region.")
        if unknown := {_flag(one) for one in table} - set(known):
            raise Usage(
                f"{file}: [{name}] takes no {min(unknown)!r}: see `{NAME} {name} --help`; --json is for each call."
            )
    for command, known in flags.items():
        assumed = {_flag(name): value for name, value in (for_all | tables.get(command, {})).items()}
        made[command] = {known[flag]: value for flag, value in assumed.items() if flag in known}
    return made


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Usage(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise Usage(f"{file} is no UTF-8: {error}.") from error
    import tomllib

    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise Usage(f"{file} is no TOML: {error}.") from error


def fit_key(key: str) -> str:
    """The key without what a file or a shell leaves around it. Raises Usage."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise Usage(f"The key has characters that no key has: see {PREFIX}_KEY, --key and the configuration file.")
    return key


def base_url(server: str) -> str:
    """The server as it was given, fit to be called. Raises Usage."""
    try:
        parts = urlsplit(server)
        fit = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        parts.port  # noqa: B018 - raises where it is no number
        (parts.hostname or "").encode("idna")  # and this, where it is no name
        fit = fit and not any(char.isspace() for char in server)
    except ValueError:
        fit = False
    if not fit:
        raise Usage(f"--server {server!r}: give it as http://HOST:PORT or https://HOST.")
    if parts.username:
        raise Usage("--server has a user name in it; the service knows its callers by --key.")
    return server.rstrip("/")
