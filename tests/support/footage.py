"""Sources of many kinds, made from the real clip by the real ffmpeg, and a player to see what came out."""

import subprocess
from pathlib import Path

from core.worker import process
from support.source_server import MEDIA

CLIP = MEDIA / "bigbuckbunny.mp4"

_RECIPES = {
    "no audio.mp4": ["-an", "-c", "copy"],
    "audio only.m4a": ["-vn", "-c:a", "aac", "-ac", "2"],
    "not square.mkv": ["-an", "-vf", "scale=720:576,setsar=64/45", "-c:v", "libx264", "-preset", "ultrafast"],
    "raw.h264": ["-an", "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264"],
}


def ffmpeg() -> str:
    return process.find_ffmpeg(None)


def made(folder: Path) -> Path:
    """`folder`, with the clip and what is made of it."""
    whole = CLIP.read_bytes()
    (folder / CLIP.name).write_bytes(whole)
    (folder / "truncated.mp4").write_bytes(whole[:5000])
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 400)
    for name, arguments in _RECIPES.items():
        run("-i", str(CLIP), *arguments, str(folder / name))
    return folder


def endless(path: Path) -> None:
    """A small file of 100 hours with a frame each 4 s: its transcoding at `fps=240` is not seen to end by anybody."""
    part = path.with_name(f"part of {path.name}")
    run("-f", "lavfi", "-i", "color=r=1/4:d=600:s=160x90", "-c:v", "libx264", str(part))
    run("-stream_loop", "599", "-i", str(part), "-c", "copy", str(path))
    part.unlink()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [ffmpeg(), "-nostdin", "-y", "-loglevel", "error", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def played_seconds(url: str) -> float:
    """How long ffmpeg, as a player, plays what lies behind the URL."""
    shown = run("-progress", "pipe:1", "-i", url, "-f", "null", "-").stdout
    last = [line for line in shown.splitlines() if line.startswith("out_time_us=")][-1]
    return int(last.partition("=")[2]) / 1_000_000
