"""The containment alone, with nobody checking the command: what hostile arguments and hostile media still reach.

The same harness without the sandbox must see the escapes; what it cannot see, it cannot prove prevented.
"""

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from core.worker import collect, landlock, process, sandbox, watch
from core.worker.process import Cut, Ended, Limits
from core.worker.sandbox import Folder, Layers
from support import containment, escapes, footage, processes
from support.escapes import SECRET, Outside
from support.leftovers import seconds_until

pytestmark = pytest.mark.skipif(not landlock.abi(), reason="NOT TESTED: this kernel has no Landlock")

CASES = json.loads((Path(__file__).parents[1] / "cases" / "commands.json").read_text())["cases"]
HOSTILE = {"read-other-file", "write-other-file", "network", "code-or-device"}
ESCAPES = {case["id"]: case["command"] for case in CASES if case["class"] in HOSTILE and case["expected"] == "reject"}
SECONDS = 2.0  # for a command that may reach nothing; one that may is ended when it is seen to
ROOM = 120.0  # seconds, for what ends by itself or is ended: no more than a machine may need that is very busy
# Of the commands, how many must be seen to escape when nothing contains them; the others need another build.
SEEN_WITHOUT = 70


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small sources under the names that the cases use."""
    folder = tmp_path_factory.mktemp("media")
    small = ["-t", "0.4", "-vf", "scale=64:64", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-ac", "2"]
    footage.run("-i", str(footage.CLIP), *small, str(folder / "in.mp4"))
    shutil.copy(folder / "in.mp4", folder / "in2.mp4")
    shutil.copy(folder / "in.mp4", folder / "other.mp4")
    (folder / "attached.txt").write_text("attached")
    attach = ["-attach", str(folder / "attached.txt"), "-metadata:s:t", "mimetype=text/plain"]
    footage.run("-i", str(folder / "in.mp4"), "-c", "copy", *attach, str(folder / "in.mkv"))
    (folder / "subs.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    return folder


@pytest.fixture
def outside(media: Path) -> Iterator[Outside]:
    with escapes.outside() as made:
        shutil.copy(media / "other.mp4", made.folder)
        made.touched()
        yield made


@pytest.fixture
def folder(tmp_path: Path, media: Path) -> Folder:
    return furnished(tmp_path / "task", media)


def furnished(root: Path, media: Path, layers: Layers | None = None) -> Folder:
    made = containment.made(root, layers)
    for path in media.iterdir():
        shutil.copy(path, made.inputs)
        shutil.copy(path, made.outputs)
    return made


def ffmpeg(*arguments: str) -> list[str]:
    return [footage.ffmpeg(), "-nostdin", "-y", "-loglevel", "level+error", *arguments]


def run(folder: Folder, *arguments: str, layers: Layers | None = None, **limits: float) -> Ended:
    return containment.run(
        lambda pipe: ffmpeg("-progress", f"pipe:{pipe}", *arguments),
        folder,
        layers=layers,
        limits=Limits(folders=(folder.outputs, folder.temporary), **{"seconds": ROOM, **limits}),
    )


@dataclass(frozen=True, slots=True)
class Tried:
    effects: set[str]
    log: str


def tried(command: str, outside: Outside, folder: Folder, layers: Layers | None, *, seconds: float) -> Tried:
    """What the command did outside its folder, to the first that is seen of it."""
    (folder.outputs / "list.txt").write_text(f"ffconcat version 1.0\nfile {outside.folder}/other.mp4\n")
    words = shlex.split(outside.aimed(command))
    words = words[1:] if words[0] == "ffmpeg" else words
    limits = Limits(seconds=seconds, grace_seconds=0.2)
    with escapes.effects_of(folder.outputs, outside) as (effects, noticed):
        ended = containment.run(lambda pipe: ffmpeg(*words), folder, layers=layers, limits=limits, stop=noticed)
    beside = {f"file: {path.name}" for path in folder.root.iterdir() if path.name not in ("in", "out", "tmp")}
    return Tried(effects | beside, "\n".join(ended.log))


@pytest.mark.parametrize("name", ESCAPES)
def test_hostile_command_reaches_nothing(name: str, outside: Outside, folder: Folder) -> None:
    found = tried(ESCAPES[name], outside, folder, None, seconds=SECONDS)

    assert found.effects == set()
    assert SECRET not in found.log
    assert not any(SECRET.encode() in path.read_bytes() for path in folder.outputs.rglob("*") if path.is_file())
    assert escapes.inhabitants(folder.outputs) == []


def test_harness_sees_the_escapes_without_the_sandbox(media: Path, tmp_path: Path) -> None:
    def escapes_with(name: str) -> bool:
        folder = furnished(tmp_path / name, media, containment.WITHOUT)
        with escapes.outside() as outside:
            shutil.copy(media / "other.mp4", outside.folder)
            outside.touched()
            return bool(tried(ESCAPES[name], outside, folder, containment.WITHOUT, seconds=ROOM).effects)

    with ThreadPoolExecutor(4) as pool:
        escaped = [name for name, did in zip(ESCAPES, pool.map(escapes_with, ESCAPES), strict=True) if did]
    assert len(escaped) >= SEEN_WITHOUT, sorted(set(ESCAPES) - set(escaped))


# A shell in the place of ffmpeg: what code that took over ffmpeg would try. Each prints "through" when it gets through.
INTRUSIONS = {
    "read a file": "read line <{outside}/secret.txt && echo through >&2",
    "list a folder": 'set -- {outside}/*; [ -e "$1" ] && echo through >&2',
    "write a file": "echo x >{outside}/written && echo through >&2",
    "write into the inputs": "echo x >../in/in.mp4 && echo through >&2",
    "read the worker's environment": 'read line </proc/$PPID/environ; [ -n "$line" ] && echo through >&2',
    "read its own environment": 'read line </proc/self/environ; [ -n "$line" ] && echo through >&2',
    "read a map of the machine": "read line </proc/1/stat && echo through >&2",
    "end the worker": "kill -CONT $PPID && echo through >&2",
    "signal all": "kill -CONT -1 && echo through >&2",
    "start a process": "( : ) && echo through >&2",
    "become another program": "exec /usr/bin/env echo through >&2",
    "become what it wrote": "echo '#!/bin/sh' >x; exec ./x; echo through >&2",
    "make a pipe for another": "exec 9<>/dev/tcp/127.0.0.1/{port} && echo through >&2",
    "raise a limit": "ulimit -n 100000 && echo through >&2",
    "dump core": "ulimit -c unlimited && echo through >&2",
}


@pytest.mark.parametrize("name", INTRUSIONS)
def test_intruder_gets_nowhere(name: str, outside: Outside, folder: Folder) -> None:
    assert not intrudes(name, outside, folder, None)
    assert outside.touched() == set()


def test_intruder_would_get_somewhere_without_the_sandbox(outside: Outside, folder: Folder) -> None:
    # "signal all" would be all of this machine
    through = {
        name for name in INTRUSIONS if name != "signal all" and intrudes(name, outside, folder, containment.WITHOUT)
    }
    assert len(through) >= 8, through


def intrudes(name: str, outside: Outside, folder: Folder, layers: Layers | None) -> bool:
    script = INTRUSIONS[name].format(outside=outside.folder, port=outside.port)
    ended = containment.run(lambda pipe: ["/bin/sh", "-c", script], folder, layers=layers)
    return "through" in "".join(ended.log)


MEDIA_BORNE = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{outside}/other.mp4\n#EXT-X-ENDLIST\n",
    "hls relative": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n../../../../../..{outside}/other.mp4\n",
    "hls network": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n",
    "hls map": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MAP:URI="{outside}/other.mp4"\n#EXTINF:9,\nin.mp4\n',
    "concat": "ffconcat version 1.0\nfile '{outside}/other.mp4'\n",
    "dash": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration='
        '"PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1"><BaseURL>'
        "file://{outside}/other.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "svg": (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">'
        '<image xlink:href="file://{outside}/secret.txt" width="9" height="9"/></svg>'
    ),
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n",
}
OPENLY = ["-protocol_whitelist", "file,http,tcp,udp,rtp,crypto,data,concat,subfile"]
DEMUXERS = {
    "hls": ["-f", "hls", "-allowed_extensions", "ALL", "-extension_picky", "0"],
    "concat": ["-f", "concat", "-safe", "0"],
    "dash": ["-f", "dash"],
}


@pytest.mark.parametrize("name", MEDIA_BORNE)
@pytest.mark.parametrize("named", [False, True])
def test_media_opens_nothing_else(name: str, named: bool, outside: Outside, folder: Folder) -> None:
    # given media under an innocent name, and a command that helps it along
    path = folder.inputs / "i0.mp4"
    path.write_text(MEDIA_BORNE[name].format(outside=outside.folder, port=outside.port))
    help_ = DEMUXERS.get(name.partition(" ")[0], []) if named else []

    with escapes.effects_of(folder.outputs, outside) as (effects, _), containment.prober(folder) as examine:
        run(folder, *OPENLY, *help_, "-i", "../in/i0.mp4", "-c", "copy", "out.mkv", seconds=SECONDS)
        examine(path, "in.mp4")

    assert effects == set()


def test_harness_sees_media_that_open_files_without_the_sandbox(outside: Outside, folder: Folder) -> None:
    path = folder.inputs / "i0.mp4"
    seen = set()
    for name in ("hls", "concat", "dash"):
        path.write_text(MEDIA_BORNE[name].format(outside=outside.folder, port=outside.port))
        help_ = [*OPENLY, *DEMUXERS[name]]
        run(folder, *help_, "-i", "../in/i0.mp4", "-c", "copy", "out.mkv", layers=containment.WITHOUT)
        seen |= {name} if outside.touched() else set()
    assert seen == {"hls", "concat", "dash"}


def test_image_pattern_stays_inside(outside: Outside, folder: Folder) -> None:
    run(folder, "-f", "image2", "-i", f"{outside.folder}/%*", "-f", "image2", f"{outside.folder}/%03d.png")
    run(folder, "-f", "image2", "-pattern_type", "glob", "-i", f"{outside.folder}/*", "out.png")

    assert outside.touched() == set()


FONT = next(iter(sorted(Path("/usr/share/fonts").rglob("*.ttf"))), None)
LEGITIMATE = {
    "x264 with faststart": "-i ../in/in.mp4 -c:v libx264 -c:a aac -movflags +faststart out.mp4",
    "x265": "-i ../in/in.mp4 -c:v libx265 -an out.mp4",
    "vp9 and opus": "-i ../in/in.mp4 -c:v libvpx-vp9 -deadline realtime -c:a libopus out.webm",
    "av1": "-i ../in/in.mp4 -c:v libsvtav1 -preset 12 -an out.mkv",
    "mp3": "-i ../in/in.mp4 -vn -c:a libmp3lame out.mp3",
    "copy": "-i ../in/in.mp4 -c copy out.mkv",
    "subtitles": "-i ../in/in.mp4 -vf subtitles=../in/subs.srt -c:v libx264 out.mp4",
    "overlay": "-i ../in/in.mp4 -i ../in/in2.mp4 -filter_complex [0:v][1:v]overlay out.mp4",
    "hls": "-i ../in/in.mp4 -c copy -f hls -hls_time 1 out.m3u8",
    "hls in folders": "-i ../in/in.mp4 -c copy -f hls -var_stream_map v:0,a:0 v%v/o.m3u8",
    "dash": "-i ../in/in.mp4 -c copy -f dash out.mpd",
    "pictures": "-i ../in/in.mp4 -vf fps=5 out%03d.jpg",
    "first pass": "-i ../in/in.mp4 -c:v libx264 -b:v 100k -pass 1 -passlogfile ../tmp/p -an -f null -",
    "many threads": "-threads 16 -i ../in/in.mp4 -c:v libx264 -threads 16 out.mp4",
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_legitimate_command_works(name: str, folder: Folder) -> None:
    ended = run(folder, *shlex.split(LEGITIMATE[name]))

    assert (ended.exit_code, ended.cut) == (0, None), ended.log


@pytest.mark.skipif(FONT is None, reason="NOT TESTED: this machine has no fonts")
def test_text_is_drawn_with_a_font_of_the_system(folder: Folder) -> None:
    ended = run(folder, "-i", "../in/in.mp4", "-vf", f"drawtext=fontfile={FONT}:text=hello", "out.mp4")

    assert (ended.exit_code, ended.cut) == (0, None), ended.log


# At its pace, so that it takes no more than this machine has while nobody looks.
ENDLESS = ("-re", "-f", "lavfi", "-i", "testsrc=size=1280x720:rate=50")
FOR_EVER = "geq=lum='while(1,0)'"
STUCK = ("-f", "lavfi", "-i", "color=s=16x16", "-vf", FOR_EVER, "-f", "null", "-")
# Says nothing until it has seen all, of which there is no end.
SILENT = ("-readrate", "1", "-stream_loop", "-1", "-i", "../in/clip.mp4", "-vf", "palettegen", "out.png")
MEGABYTE = 1024**2


@pytest.mark.parametrize(
    ("arguments", "limits", "cut"),
    [
        ((*ENDLESS, "-vf", "reverse", "-f", "null", "-"), {"memory_bytes": 300 * MEGABYTE}, Cut.OUT_OF_MEMORY),
        ((*ENDLESS, "-c:v", "rawvideo", "out.nut"), {"folder_bytes": 50 * MEGABYTE}, Cut.TOO_LARGE),
        ((*ENDLESS, "-f", "null", "-"), {"seconds": 1}, Cut.TIMED_OUT),
        (STUCK, {"stall_seconds": 1, "grace_seconds": 0.5}, Cut.STALLED),
        (STUCK, {"seconds": 0.5, "grace_seconds": 0.5}, Cut.TIMED_OUT),
    ],
    ids=["memory", "folder", "wall clock", "stall", "deaf to SIGTERM"],
)
def test_limit_ends_the_program(arguments: tuple[str, ...], limits: dict[str, float], cut: Cut, folder: Folder) -> None:
    furthest: list[str] = []

    def advanced(line: str) -> bool:
        is_news = line.startswith("frame=") and line not in furthest
        furthest.append(line)
        return is_news

    began = time.monotonic()
    ended = containment.run(
        lambda pipe: ffmpeg("-progress", f"pipe:{pipe}", *arguments),
        folder,
        limits=Limits(**{"seconds": ROOM, "folders": (folder.outputs,), **limits}),  # type: ignore[arg-type]
        on_line=advanced,
    )

    assert ended.cut is cut
    assert time.monotonic() - began < ROOM
    assert escapes.inhabitants(folder.outputs) == []


def test_one_file_cannot_grow_past_its_limit(folder: Folder) -> None:
    ended = containment.run(
        lambda pipe: ffmpeg(*ENDLESS, "-c:v", "rawvideo", "out.nut"), folder, max_file_bytes=5 * MEGABYTE
    )

    assert ended.exit_code == -25  # SIGXFSZ, which failure.py explains
    assert (folder.outputs / "out.nut").stat().st_size <= 5 * MEGABYTE


def reads(number: int) -> Callable[[], bool]:
    """Whether it was active since the last call, by a clock that goes on an hour with each."""
    seen, hours = watch.Watch(number, (), active_at=0.0), itertools.count(1)
    return lambda: seen.idle_seconds(3600.0 * next(hours)) == 0


def waits(number: int) -> Callable[[], bool]:
    """The same by what is looked at where the kernel does not tell how much was read."""
    counts = [0]

    def has_waited() -> bool:
        counts.append(watch.waits(number))
        return counts[-1] > counts[-2]

    return has_waited


@pytest.mark.parametrize("sign", [reads, waits])
def test_silent_work_is_no_standstill(sign: Callable[[int], Callable[[], bool]], folder: Folder) -> None:
    with running(with_clip(folder), SILENT) as number:
        is_active = sign(number)
        for _ in range(3):
            time.sleep(0.5)
            is_active()
            seconds_until(is_active, most=ROOM)


@pytest.mark.parametrize("sign", [reads, waits])
def test_standstill_is_seen(sign: Callable[[int], Callable[[], bool]], folder: Folder) -> None:
    def stands_still() -> bool:
        is_active()
        time.sleep(1.5)  # more than twice the time in which the first thread wakes to report
        return not is_active()

    with running(folder, STUCK) as number:
        is_active = sign(number)
        seconds_until(is_active, most=ROOM)
        seconds_until(stands_still, most=ROOM)


@contextlib.contextmanager
def running(folder: Folder, arguments: Sequence[str]) -> Iterator[int]:
    """An ffmpeg that goes on for as long as the context, by its process id."""
    stop = Event()
    limits = Limits(seconds=10 * ROOM, grace_seconds=0.2)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(containment.run, lambda pipe: ffmpeg(*arguments), folder, stop=stop, limits=limits)
        try:
            yield wait_for_ffmpeg(folder)
        finally:
            stop.set()
    assert ended.result().cut is Cut.STOPPED


def with_clip(folder: Folder) -> Folder:
    shutil.copy(footage.CLIP, folder.inputs / "clip.mp4")
    return folder


def test_picture_that_is_a_bomb_is_ended(folder: Folder) -> None:
    (folder.inputs / "i0.png").write_bytes(bomb(16000))

    # what it takes it has until it is ended
    ended = run(folder, "-i", "../in/i0.png", "-vf", FOR_EVER, "out.png", memory_bytes=150 * MEGABYTE)

    assert ended.cut is Cut.OUT_OF_MEMORY


def bomb(side: int) -> bytes:
    """A grey PNG of side x side, a thousandth of its size."""
    packer = zlib.compressobj(1)
    data = b"".join([*(packer.compress(bytes(side + 1)) for _ in range(side)), packer.flush()])
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


WORKER = """
    import sys
    from pathlib import Path
    from support import containment, footage
    from core.worker.sandbox import Folder
    folder = Folder(Path(sys.argv[1]))
    prober = containment.process.start_prober()
    examine = containment.collect.examiner(
        prober, folder.root, containment.sandbox.for_prober(containment.found(), folder)
    )
    print(prober.process.pid, *containment.children(prober.process.pid), flush=True)
    containment.run(
        lambda pipe: [footage.ffmpeg(), "-loglevel", "quiet", "-f", "lavfi", "-i", "testsrc", "-f", "null", "-"], folder
    )
"""


def test_nothing_outlives_a_killed_worker(folder: Folder) -> None:
    """Also under another uid, a change of which makes the kernel forget whom to die with."""
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORKER), str(folder.root)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    probers = [int(number) for number in worker.stdout.readline().split()]
    assert len(probers) == 2
    wait_for_ffmpeg(folder)

    worker.kill()
    worker.wait()
    worker.stdout.close()

    def left() -> list[int]:
        here = escapes.inhabitants(folder.root)
        return [*escapes.inhabitants(folder.outputs), *(one for one in here if one in probers)]

    try:
        seconds_until(lambda: not left(), most=10)
    finally:
        for number in left():
            os.kill(number, signal.SIGKILL)


def test_stop_ends_a_contained_program(folder: Folder) -> None:
    stop = Event()
    stop.set()
    ended = containment.run(lambda pipe: ffmpeg(*ENDLESS, "-f", "null", "-"), folder, stop=stop)
    assert ended.cut is Cut.STOPPED


@pytest.mark.parametrize("rule", ["uid=4294967295", "uid=x", "parent="])
def test_layer_that_cannot_be_had_means_that_nothing_is_run(rule: str, folder: Folder) -> None:
    rules = [rule, *sandbox.for_ffmpeg(containment.found(), "/bin/sh", folder, max_file_bytes=1)]
    with pytest.raises(process.NotStarted):
        process.run(
            lambda pipe: ["/bin/sh", "-c", "echo ran >ran"],
            rules=rules,
            cwd=folder.outputs,
            env={},
            on_line=lambda line: True,
            stop=Event(),
            limits=Limits(seconds=5),
        )
    assert not (folder.outputs / "ran").exists()


def test_both_programs_live_under_every_layer(folder: Folder) -> None:
    # given an ffmpeg that goes on, and a prober that waits
    with running(folder, (*ENDLESS, "-f", "null", "-")) as named, contextlib.closing(process.start_prober()) as prober:
        collect.examiner(prober, folder.root, sandbox.for_prober(containment.found(), folder))

        # then the kernel says of both what they live under
        (child,) = containment.children(prober.process.pid)
        assert [lived(number) for number in (named, child)] == [expected_life()] * 2
        # and ffmpeg, when it has opened what it needs, has no descriptor of ours but its progress
        seconds_until(lambda: (descriptors(named), descriptors(child)) == (4, 3), most=10)


def descriptors(number: int) -> int:
    return len(list(Path(f"/proc/{number}/fd").iterdir()))


def wait_for_ffmpeg(folder: Folder) -> int:
    deadline = time.monotonic() + ROOM
    while time.monotonic() < deadline and may_look():
        for number in escapes.inhabitants(folder.outputs):
            if processes.read(number, "comm").startswith("ffmpeg"):
                return number
        time.sleep(0.02)
    if not may_look():
        pytest.skip("NOT TESTED: we may not look into processes of another uid (CAP_SYS_PTRACE)")
    raise AssertionError("ffmpeg did not start")


def may_look() -> bool:
    status = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    return not sandbox.possible_uid() or bool(int(status, 16) >> 19 & 1)


def lived(number: int) -> dict[str, str]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines())
    limits = Path(f"/proc/{number}/limits").read_text().splitlines()
    core = next(line.split()[4:6] for line in limits if line.startswith("Max core"))
    facts = {
        name: " ".join(status[name].split()) for name in ("Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Seccomp")
    }
    return {**facts, "core": " ".join(core)}


def expected_life() -> dict[str, str]:
    uid, gid = (sandbox.UID, sandbox.UID) if sandbox.possible_uid() else (os.geteuid(), os.getegid())
    return {
        "Uid": f"{uid} {uid} {uid} {uid}",
        "Gid": f"{gid} {gid} {gid} {gid}",
        "Groups": "",
        "CapEff": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "core": "0 0",
    }
