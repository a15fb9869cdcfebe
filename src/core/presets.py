"""The presets that there are: those of the package, and more from a folder that the settings name.

A file of TOML each, called as the preset; ffmpeg/preset_file.py knows what it may say. They are read once, when they
are first asked for; those of the folder are also proved then, and one that is wrong names itself. A folder in a bucket
is another's to change at any time: it is read again now and then, and one wrong file in it stops nobody (SharedShelf).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

from core.errors import InvalidArgument, ServiceError
from core.ffmpeg import preset_file
from core.ffmpeg.command import shown
from core.ffmpeg.preset import Preset, PresetInvalid

log = logging.getLogger(__name__)

PACKAGED = Path(__file__).parent / "ffmpeg" / "presets"
KEEP_SECONDS = 300.0  # how long what was read from a bucket is good for
AGAIN_SECONDS = 30.0  # after how long it is read again where that failed

Texts = Callable[[], Mapping[str, str]]  # what gives the text of each file of a folder, by the preset's name


class SharedShelf:
    """The presets with those of a bucket before them, which `texts` reads. Safe to share between threads.

    A file that cannot be used is left out and said in the log, and to whoever asks for it; where the bucket cannot be
    read, what was read before holds on.
    """

    def __init__(self, texts: Texts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._texts = texts
        self._clock = clock
        self._lock = threading.Lock()
        self._presets: Mapping[str, Preset] | None = None
        self._read_again_at = 0.0
        self.faults: Mapping[str, str] = {}  # why a preset cannot be used, by its name

    def presets(self) -> Mapping[str, Preset]:
        """Raises ServiceError when the bucket could not be read yet."""
        with self._lock:
            if self._presets is None or self._clock() >= self._read_again_at:
                self._presets = self._read()
            return self._presets

    def _read(self) -> Mapping[str, Preset]:
        try:
            texts = self._texts()
        except ServiceError:
            if self._presets is None:
                raise
            log.warning("the presets could not be read again", extra={"action": "presets_unread"}, exc_info=True)
            self._read_again_at = self._clock() + AGAIN_SECONDS
            return self._presets
        self._read_again_at = self._clock() + KEEP_SECONDS
        own, faults = _usable(texts)
        self.faults = faults
        for name, fault in faults.items():
            log.error(fault, extra={"action": "preset_invalid", "preset": name})
        others = {name: one for name, one in shelf(None).items() if name not in faults}
        return dict(sorted((others | own).items()))


Own = Path | SharedShelf | None  # where an operator has more


def shelf(own: Own) -> Mapping[str, Preset]:
    """Every preset by its name, an operator's own before those of the package. Raises PresetInvalid, ServiceError."""
    return own.presets() if isinstance(own, SharedShelf) else _of_folder(own)


def find(name: str, own: Own) -> Preset:
    """Raises InvalidArgument when there is none of this name, or it cannot be used; PresetInvalid, ServiceError."""
    there = shelf(own)
    if name in there:
        return there[name]
    details = {"field": "preset", "allowed": list(there)}
    if isinstance(own, SharedShelf) and name in own.faults:
        raise InvalidArgument(own.faults[name], details=details)
    message = f"There is no preset {shown(name)}; GET /ffmpeg/presets lists them: {', '.join(there)}."
    raise InvalidArgument(message, details=details)


@cache
def _of_folder(folder: Path | None) -> Mapping[str, Preset]:
    found = {path.stem: preset_file.read(path.stem, path.read_text()) for path in PACKAGED.glob("*.toml")}
    return dict(sorted((found | (_proved(folder) if folder else {})).items()))


def _proved(folder: Path) -> dict[str, Preset]:
    if not folder.is_dir():
        raise PresetInvalid(f"PRESETS_DIR={str(folder)!r} is no folder: name one with files of presets, or none.")
    return {path.stem: _own(path.stem, path.read_text) for path in sorted(folder.glob("*.toml"))}


def _usable(texts: Mapping[str, str]) -> tuple[dict[str, Preset], dict[str, str]]:
    """The presets, and why the others are none."""
    made, faults = {}, {}
    for name, text in texts.items():
        try:
            made[name] = _own(name, partial(str, text))
        except PresetInvalid as fault:
            faults[name] = str(fault)
    return made, faults


def _own(name: str, text: Callable[[], str]) -> Preset:
    try:
        made = preset_file.read(name, text())
        preset_file.prove(made)
    except (OSError, ValueError) as fault:
        raise PresetInvalid(f"The preset {name}.toml of PRESETS_DIR cannot be used: {fault}.") from fault
    return made
