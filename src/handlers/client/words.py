"""Facts as people read them: sizes, durations, tasks and tables. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
LOG_LINES = 12


def size(count: float) -> str:
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.2f} GB"


def duration(seconds: float) -> str:
    """`7 s`, `2:05`, `1:00:09`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def media(facts: Json | None) -> str:
    """`h264 1280x720 25 fps, aac 2 channels, 5.3 s`; empty where nothing is known."""
    if not facts:
        return ""
    said = [_stream(stream) for stream in facts["streams"]]
    if facts.get("duration_seconds"):
        said.append(f"{facts['duration_seconds']:.1f} s")
    return ", ".join(said)


def _stream(stream: Json) -> str:
    said = [stream["codec"]]
    if stream.get("width"):
        said.append(f"{stream['width']}x{stream['height']}")
    if stream.get("frame_rate"):
        said.append(f"{stream['frame_rate']:g} fps")
    if stream.get("channels"):
        said.append(f"{stream['channels']} ch")
    return " ".join(said)


def file(path: object, output: Json) -> str:
    """A line about an output that was stored."""
    facts = media(output.get("media"))
    return f"{path}: {size(output['size_bytes'])}{', ' if facts else ''}{facts}"


def task(shown: Json) -> str:
    """All that a person wants to know of a task."""
    facts = [
        ("task", shown["task_id"]),
        ("status", _status(shown)),
        ("command", shown["command"]),
        ("created", shown["created_at"]),
        ("finished", shown["finished_at"]),
        ("took", _timings(shown.get("timings") or {})),
        ("waits for", shown.get("queue_reason")),
        *(("output", file(output["filename"], output)) for output in shown.get("outputs", ())),
        ("kept until", shown.get("expires_at")),
        ("error", shown["error"] and f"{shown['error']['code']}: {shown['error']['message']}"),
    ]
    return "\n".join(f"{name:<11}{value}" for name, value in facts if value)


def _status(shown: Json) -> str:
    percent = shown["progress"]["percent"]
    stage = f", {shown['stage']}" if shown.get("stage") else ""
    return f"{shown['status']}{stage}" + (f", {percent:.1f} %" if percent and shown["status"] == "running" else "")


def _timings(timings: Json) -> str:
    known = ((name.removesuffix("_seconds"), seconds) for name, seconds in timings.items() if seconds is not None)
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in known)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be, the last one as long as it is."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows))
    return "\n".join(line.rstrip() for line in lines)


def tasks(items: Sequence[Json]) -> str:
    rows = [(one["task_id"], _status(one), one["created_at"][:19], ", ".join(one["output_files"])) for one in items]
    return table(("task", "status", "created", "outputs"), rows)


def presets(found: Sequence[Json]) -> str:
    blocks = []
    for preset in found:
        rows = [f"    {_parameter(one)}" for one in preset["parameters"]]
        kinds = " ".join(preset["extensions"])
        blocks.append("\n".join((f"{preset['name']}  ({kinds})", f"    {preset['summary']}", *rows)))
    return "\n\n".join(blocks)


def _parameter(one: Json) -> str:
    allowed = " | ".join(one["allowed"]) if one["allowed"] else one["type"]
    if None not in (one["least"], one["most"]):
        allowed += f" {one['least']:.12g} to {one['most']:.12g}"
    return f"-o {one['name']}={one['default']}  {allowed}  {one['description']}"


def preview(found: Json) -> str:
    """What validate says, in words: all but the arguments, of which the service adds many."""
    if not found["valid"]:
        return "\n".join(("Not allowed:", *_violations(found["violations"])))
    facts = [f"command    {found['command']}", f"runs on    {found['compute']}"]
    if found.get("cpu_command"):
        facts.append(f"or as      {found['cpu_command']}")
    return "\n".join(facts + [f"warning    {text}" for text in found["warnings"]])


def _violations(found: Sequence[Json]) -> list[str]:
    return [f"  {one['token']}: {one['reason']}" if one["token"] else f"  {one['reason']}" for one in found]


def health(found: Json) -> str:
    version = f", ffmpeg {found['ffmpeg']['version']}" if found.get("ffmpeg") else ""
    parts = found["checks"].items()
    lines = [f"{name}: {'ready' if part['ready'] else 'not ready'}, {part['detail']}" for name, part in parts]
    return "\n".join((f"{found['status']}{version}", *lines))


def fault(message: str, details: Json) -> str:
    """What went wrong, for a person: the sentence, what is wrong in the command, and the log's end."""
    lines = [message]
    if len(found := details.get("violations", ())) > 1:  # the first is in the message
        lines += _violations(found)
    if details.get("log"):
        lines += ["The end of ffmpeg's log:", *(f"  {line}" for line in details["log"][-LOG_LINES:])]
    if details.get("task_id"):
        lines.append(f"Task {details['task_id']}")
    return "\n".join(lines)
