"""The presets that there are: those of the package, and more from a folder that the settings name.

A file of TOML each, called as the preset; ffmpeg/preset_file.py knows what it may say. They are read once, when they
are first asked for; those of the folder are also proved then, and one that is wrong names itself.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from core.errors import InvalidArgument
from core.ffmpeg import preset_file
from core.ffmpeg.command import shown
from core.ffmpeg.preset import Preset, PresetInvalid

PACKAGED = Path(__file__).parent / "ffmpeg" / "presets"


@cache
def shelf(folder: Path | None) -> Mapping[str, Preset]:
    """Every preset by its name, those of `folder` before those of the package. Raises PresetInvalid."""
    found = {path.stem: preset_file.read(path.stem, path.read_text()) for path in PACKAGED.glob("*.toml")}
    return dict(sorted((found | (_proved(folder) if folder else {})).items()))


def find(name: str, folder: Path | None) -> Preset:
    """Raises InvalidArgument when there is none of this name."""
    there = shelf(folder)
    if name not in there:
        message = f"There is no preset {shown(name)}; GET /ffmpeg/presets lists them: {', '.join(there)}."
        raise InvalidArgument(message, details={"field": "preset", "allowed": list(there)})
    return there[name]


def _proved(folder: Path) -> dict[str, Preset]:
    if not folder.is_dir():
        raise PresetInvalid(f"PRESETS_DIR={str(folder)!r} is no folder: name one with files of presets, or none.")
    return {path.stem: _own(path) for path in sorted(folder.glob("*.toml"))}


def _own(path: Path) -> Preset:
    try:
        made = preset_file.read(path.stem, path.read_text())
        preset_file.prove(made)
    except (OSError, ValueError) as fault:
        raise PresetInvalid(f"The preset {path.name} of PRESETS_DIR cannot be used: {fault}.") from fault
    return made
