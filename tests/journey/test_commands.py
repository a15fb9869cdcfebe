"""The allowed cases to their end on the real ffmpeg, in the containment and the folders that the worker has.

And graphs: whenever the real ffmpeg takes a graph as it was written, it takes what we make of it.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.ffmpeg import build, filters, graph
from core.ffmpeg.validate import check
from core.worker import process
from support import containment, footage
from support.cases import Case, cases

CASES = cases()
NO_CARD = "needs an NVIDIA card, and this machine has none"
FONTS = Path("/usr/share/fonts")

IDENTITY_LUT = "LUT_3D_SIZE 2\n" + "".join(
    f"{r} {g} {b}\n" for b in (0, 1) for g in (0, 1) for r in (0, 1)
)  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files, one for each kind of input, by extension."""
    folder = tmp_path_factory.mktemp("media")
    small = ("-t", "2", "-vf", "scale=320:-2", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-ac", "2")
    footage.run("-i", str(footage.CLIP), *small, str(folder / "a.mp4"))
    footage.run("-i", str(folder / "a.mp4"), "-vn", str(folder / "a.mp3"))
    footage.run("-f", "lavfi", "-i", "color=red:s=64x64:d=0.1", "-frames:v", "1", str(folder / "a.png"))
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    (folder / "a.cube").write_text(IDENTITY_LUT)
    return folder


def source(media: Path, name: str) -> Path:
    if name.endswith(".ttf"):
        return next(iter(sorted(FONTS.rglob("*.ttf"))), media / "none")
    return media / f"a{Path(name).suffix}"


@dataclass(frozen=True, slots=True)
class Ended:
    exit_code: int
    log: str
    files: list[str]


def ran(folder: Path, media: Path, text: str, inputs: Sequence[str], outputs: Sequence[str]) -> Ended:
    """The command, judged, built and run as the worker does it."""
    command = check(text, input_names=inputs, output_names=outputs)
    local = {name: build.local_name(index, name) for index, name in enumerate(inputs)}
    work = containment.made(folder / "task")
    for name in inputs:
        if not source(media, name).exists():
            pytest.skip(f"no file like {name} on this machine")
        shutil.copy(source(media, name), work.inputs / local[name])
    paths = {name: f"../in/{path}" for name, path in local.items()}
    ended = containment.run(
        lambda pipe: [footage.ffmpeg(), *build.build(command, inputs=paths, progress_fd=pipe, max_output_bytes=10**9)],
        work,
        limits=process.Limits(seconds=300),
    )
    assert sorted(path.name for path in work.root.iterdir()) == ["in", "out", "tmp"]
    names = sorted(path.relative_to(work.outputs).as_posix() for path in work.outputs.rglob("*"))
    return Ended(ended.exit_code, "\n".join(ended.log), names)


@pytest.mark.parametrize("case", [case for case in CASES if case.allowed], ids=lambda case: case.id)
def test_an_allowed_command_runs_to_its_end(tmp_path: Path, media: Path, case: Case) -> None:
    if case.gpu:
        pytest.skip(NO_CARD)
    ended = ran(tmp_path, media, case.command, case.inputs, [case.output])
    assert ended.exit_code == 0, ended.log
    assert ended.files
    assert case.output in ended.files or "%" in case.output


@pytest.mark.parametrize(
    ("text", "inputs", "outputs", "files"),
    [
        (
            "-i a.mp4 -vf subtitles=s.srt,lut3d=l.cube -frames:v 3 out.mp4",
            ["a.mp4", "s.srt", "l.cube"],
            ["out.mp4"],
            ["out.mp4"],
        ),
        (
            "-i a.mp4 -i s.srt -map 0 -map 1 -c:v libx264 -preset ultrafast -c:s webvtt -f hls -hls_time 1 -g 25 "
            "-hls_segment_filename s_%03d.ts out.m3u8",
            ["a.mp4", "s.srt"],
            ["out.m3u8"],
            None,
        ),
        (
            "-i a.mp4 -c:v libx264 -preset ultrafast -hls_segment_type fmp4 -hls_fmp4_init_filename i.mp4 out.m3u8",
            ["a.mp4"],
            ["out.m3u8"],
            ["i.mp4", "out.m3u8", "out0.m4s"],
        ),
        (
            "-i a.mp4 -map 0:v -map 0:v -c:v libx264 -preset ultrafast -f hls -var_stream_map 'v:0 v:1' "
            "-master_pl_name main.m3u8 -hls_segment_filename v%v_%d.ts v%v.m3u8",
            ["a.mp4"],
            ["v%v.m3u8"],
            ["main.m3u8", "v0.m3u8", "v0_0.ts", "v1.m3u8", "v1_0.ts"],
        ),
        (
            "-i a.mp4 -c:v libx264 -preset ultrafast -init_seg_name i-$RepresentationID$.m4s out.mpd",
            ["a.mp4"],
            ["out.mpd"],
            None,
        ),
        ("-i a.mp4 -c copy -f segment -segment_time 1 p%d.mp4", ["a.mp4"], ["p%d.mp4"], None),
        ("-i a.mp4 -vf fps=1 t%03d.jpg", ["a.mp4"], ["t%03d.jpg"], ["t001.jpg", "t002.jpg"]),
        ("-i a.mp4 -vf fps=4,scale=80:-2,tile=2x2 -frames:v 1 sheet.png", ["a.mp4"], ["sheet.png"], ["sheet.png"]),
        ("-stream_loop -1 -i a.mp4 -t 5 -c copy out.mp4", ["a.mp4"], ["out.mp4"], ["out.mp4"]),
        (
            "-i a.mp4 -x264opts ref=2:no-deblock -x264-params 'keyint=9:deblock=-1\\:-1' -frames:v 3 o.mp4",
            ["a.mp4"],
            ["o.mp4"],
            ["o.mp4"],
        ),
    ],
)
def test_what_the_product_is_for_runs(
    tmp_path: Path, media: Path, text: str, inputs: list[str], outputs: list[str], files: list[str] | None
) -> None:
    ended = ran(tmp_path, media, text, inputs, outputs)
    assert ended.exit_code == 0, ended.log
    assert ended.files if files is None else ended.files == files


def test_the_output_is_cut_at_the_most_bytes(tmp_path: Path, media: Path) -> None:
    command = check("-stream_loop -1 -i a.mp4 -t 600 -c copy out.mkv", input_names=["a.mp4"], output_names=["out.mkv"])
    paths = {"a.mp4": str(media / "a.mp4")}
    arguments = build.build(command, inputs=paths, progress_fd=1, max_output_bytes=1_000_000)
    subprocess.run([footage.ffmpeg(), *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "out.mkv").stat().st_size < 2_000_000  # of about 9 MB; what is in the queues is still written


# Of what the lists lack: odd but legal ways to write a graph.
GRAPHS = (
    "null",
    " [in] scale = 64 : h=-2 [a] ; [a] null [out] ",
    "sws_flags=lanczos+accurate_rnd;scale=64:64",
    "sc\\ale=w='6''4':h=6\\4",
    "'scale'@'my one'=64:64,scale@b=32:32",
    "crop=in_w/2:in_h/2:0:0,",
    "drawbox=x='if(gt(t,1),10,20)':y=2:w=20:h=20:color=red@0.5:t=fill",
    r"select='eq(n\,0)+eq(n\,2)'",
    "geq=lum='p(X,Y)':cb=128:cr=128",
    "scale=flags=bicubic:w=64:h=64,format=pix_fmts=yuv420p|yuv444p",
    "metadata=add:key=a:value='it'\\\\\\''s, [x]; \\: y'",
    "split[a][b];[a]hflip[c];[b][c]hstack",
    "scale=64:64::",
    "eq=contrast=1.1:enable='between(t,0,1)'",
    # And what ffmpeg refuses: it must refuse ours too, or we refuse it before.
    "scale=64:64]",
    "scale=w=64:64:64:q",
    "nosuch",
    "scale=nosuch=1",
)


@pytest.mark.parametrize("text", GRAPHS)
def test_ffmpeg_takes_our_graph_when_it_takes_theirs(text: str) -> None:
    accepted = takes(text)
    try:
        ours = filters.localised(text, {})
    except graph.GraphError:
        assert not accepted
        return
    assert takes(graph.emit(graph.parse(text))) == accepted
    assert takes(ours) == accepted


def takes(text: str) -> bool:
    source = ("-f", "lavfi", "-i", "testsrc2=s=128x96:r=5:d=1")
    done = subprocess.run(
        [footage.ffmpeg(), "-nostdin", "-loglevel", "error", *source, "-vf", text, "-f", "null", "-"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
