"""Options and filters are allowed by their type or by their name; and nothing of the installed build is unjudged."""

import runpy
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from core.errors import CommandNotAllowed
from core.ffmpeg import dictionaries, filter_rules, filters, formats, options
from core.ffmpeg.option_rules import CAPS, DROPPED, MAIN_SWITCHES, RATES, REFUSED, SIZES, TAKES, Takes
from core.ffmpeg.option_table import AV, MAIN
from core.ffmpeg.policy import BITSTREAM_FILTERS, TEXT_TYPES
from core.ffmpeg.validate import check
from support import footage

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed() -> dict[str, str]:
    tool: dict[str, Any] = runpy.run_path(str(ROOT / "tools/filters_table.py"))
    found: dict[str, str] = tool["read"](imageio_ffmpeg.get_ffmpeg_exe())
    made = tool["text"](found)
    assert made == (ROOT / "src/core/ffmpeg/filter_table.py").read_text(), "run `make options`"
    return found


def text_options(described: str) -> set[str]:
    return {option.partition(":")[0].lstrip("+") for option in described.split() if option.endswith(":s")}


def test_every_filter_of_the_build_is_allowed_or_refused_not_both(installed: dict[str, str]) -> None:
    assert {*filter_rules.ALLOWED, *filter_rules.REFUSED} == set(installed)
    assert not filter_rules.ALLOWED & set(filter_rules.REFUSED)


def test_every_text_option_of_an_allowed_filter_is_judged(installed: dict[str, str]) -> None:
    tables = (filter_rules.EXPRESSIONS, filter_rules.WORDS, filter_rules.FREE, filter_rules.FILES)
    for name in filter_rules.ALLOWED:
        judged = [option for table in tables for option in table.get(name, "").split()]
        judged += [o for rows in filter_rules.REFUSED_TEXTS.values() for o in rows.get(name, "").split()]
        judged += [option for of, option in filter_rules.SHAPES if of == name]
        assert sorted(judged) == sorted(text_options(installed[name])), name


def test_every_rule_is_about_a_filter_that_exists(installed: dict[str, str]) -> None:
    tables = (filter_rules.EXPRESSIONS, filter_rules.WORDS, filter_rules.FREE, filter_rules.FILES, filter_rules.SOURCES)
    named = {name for table in (*tables, *filter_rules.REFUSED_TEXTS.values()) for name in table}
    assert named | filter_rules.GATHERING | filters.SIZING <= filter_rules.ALLOWED


def test_every_option_of_the_program_is_judged() -> None:
    classes = {*TAKES, *REFUSED, *DROPPED, *MAIN_SWITCHES}
    assert [name for name, words in MAIN.items() if words != "info" and name not in classes] == []


def test_every_text_option_of_the_libraries_is_judged() -> None:
    texts = {name for name, words in AV.items() if set(words.split()) & TEXT_TYPES} - set(MAIN)
    assert texts - set(TAKES) - set(REFUSED) == set()


def test_every_rule_is_about_an_option_that_exists() -> None:
    assert {*TAKES, *REFUSED, *DROPPED, *MAIN_SWITCHES, *CAPS, *RATES, *SIZES} <= {*MAIN, *AV}
    assert set(TAKES) & set(REFUSED) == set()
    assert {name for name, takes in TAKES.items() if takes is Takes.DICTIONARY} == set(dictionaries.KEYS)


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        ("-demuxers", formats.DEMUXERS),
        ("-muxers", formats.MUXERS | formats.FOLDER_MUXERS),
        ("-bsfs", BITSTREAM_FILTERS),
    ],
)
def test_every_format_that_is_allowed_exists(listing: str, names: frozenset[str]) -> None:
    words = footage.run("-hide_banner", listing).stdout.replace(",", " ").split()
    assert names - set(words) == set()


def verdict(text: str, *inputs: str, output: str = "out.mp4") -> list[str]:
    try:
        check(text, input_names=inputs, output_names=[output])
    except CommandNotAllowed as refusal:
        return [violation["reason"] for violation in refusal.details["violations"]]
    return []


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("-i a.mp4 -vf subtitles=s.srt:force_style='FontName=DejaVu Sans' out.mp4", ["a.mp4", "s.srt"]),
        ("-i a.mp4 -vf lut3d=l.cube,drawtext=f.ttf:text=/etc/passwd out.mp4", ["a.mp4", "l.cube", "f.ttf"]),
        ("-i a.mp4 -vf drawtext=textfile=t.txt:fontfile=f.ttf out.mp4", ["a.mp4", "t.txt", "f.ttf"]),
        ("-i a.mp4 -af arnndn=n.rnnn out.mp4", ["a.mp4", "n.rnnn"]),
        ("-f lavfi -i testsrc2=d=2 out.mp4", []),
        ("-f lavfi -i testsrc2 -t 2 out.mp4", []),
        ("-f lavfi -t 2 -i testsrc2 -vf reverse out.mp4", []),
        ("-f lavfi -i anullsrc -i a.mp4 -shortest out.mp4", ["a.mp4"]),
        ("-loop 1 -i p.png -i a.mp3 -shortest out.mp4", ["p.png", "a.mp3"]),
        ("-stream_loop -1 -i a.mp4 -t 60 out.mp4", ["a.mp4"]),
        ("-i a.mp4 -filter_complex color=black[b];[b][0:v]overlay=shortest=1 out.mp4", ["a.mp4"]),
        ("-i a.mp4 -c:v libx264 -x264-params 'keyint=50:deblock=-1\\:-1:no-mbtree=1' out.mp4", ["a.mp4"]),
        ("-i a.mp4 -c:v libx264 -x264opts keyint=50:no-deblock:ref=3 out.mp4", ["a.mp4"]),
        (
            "-i a.mp4 -c:v libx265 -x265-params 'master-display=G(1,2)B(3,4)R(5,6)WP(7,8)L(9,1):max-cll=1,2' out.mp4",
            ["a.mp4"],
        ),
        ("-hwaccel cuda -hwaccel_device 0 -i a.mp4 -c:v h264_nvenc -gpu 0 -rc vbr out.mp4", ["a.mp4"]),
        ("-init_hw_device cuda=gpu:0 -filter_hw_device gpu -i a.mp4 -vf hwupload_cuda out.mp4", ["a.mp4"]),
        ("-i a.mp4 -bsf:v setts=ts='if(eq(N\\,0)\\,0\\,PTS)' -c copy out.mp4", ["a.mp4"]),
        ("-i a.mp4 -r ntsc -threads auto -vf fps=source_fps*2 out.mp4", ["a.mp4"]),
        ("-f rawvideo -video_size 64x64 -framerate 30000/1001 -pixel_format rgb24 -i a.rgb out.mp4", ["a.rgb"]),
    ],
)
def test_a_legitimate_command_is_allowed(text: str, inputs: list[str]) -> None:
    assert verdict(text, *inputs) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "-i a.mp4 -vf lut3d=l.cube out.mp4",
            "The option file of the filter lut3d names the file l.cube, which is not in input_files.",
        ),
        (
            "-i a.mp4 -vf drawtext=/etc/f.ttf out.mp4",
            "The option fontfile of the filter drawtext names the file /etc/f.ttf, which is not in input_files.",
        ),
        (
            "-i a.mp4 -vf drawtext=/text=x out.mp4",
            "The filter drawtext is given the option /text: a slash reads the value from a file.",
        ),
        ("-i a.mp4 -vf nosuch out.mp4", "There is no filter nosuch that may be used."),
        ("-i a.mp4 -vf scale=nosuch=1 out.mp4", "The filter scale has no option nosuch."),
        ("-i a.mp4 -vf hflip=1 out.mp4", "The filter hflip has more values without a name than it has options."),
        ("-i a.mp4 -vf scale=[ out.mp4", "The filter graph cannot be read: a label is empty."),
        (
            "-i a.mp4 -filter_complex [a;movie=x]hflip out.mp4",
            "The label a;movie=x of the filter hflip has characters that no label needs.",
        ),
        (
            "-i a.mp4 -vf deshake=filename=x out.mp4",
            "The option filename of the filter deshake is not allowed: it writes a file that is not a declared output.",
        ),
        (
            "-i a.mp4 -map concat:a out.mp4",
            "The value of -map, concat:a, looks like a path or a URL, which it cannot be.",
        ),
        (
            "-i a.mp4 -c:v libx264 -preset u:file:x out.mp4",
            "The value of -preset, u:file:x, looks like a path or a URL, which it cannot be.",
        ),
        (
            r"-hwaccel_output_format '\cuda' -i a.mp4 out.mp4",
            r"The value of -hwaccel_output_format, \cuda, looks like a path or a URL, which it cannot be.",
        ),
        (
            "-i a.mp4 -vf crop=1:x=/etc out.mp4",
            "The option x of the filter crop looks like a path or a URL, which it cannot be.",
        ),
        ("-threads 9*99 -i a.mp4 out.mp4", "The value of -threads, 9*99, must be a plain number."),
        (
            "-i a.mp4 -r 1000*1000 out.mp4",
            "The value of -r, 1000*1000, must be a plain rate, such as 25 or 30000/1001.",
        ),
        ("-i a.mp4 -vf split=8*99 out.mp4", "The option outputs of the filter split must be a plain number."),
        ("-i a.mp4 -vf fps=241 out.mp4", "The option fps of the filter fps is more than 240, which is the most."),
        (
            r"-i a.mp4 -vf 'gblur=sigma=wh ile (1\,1)' out.mp4",
            "The option sigma of the filter gblur has while(), which may never end.",
        ),
        ("-i a.mp4 -x264opts stats=x out.mp4", "-x264opts has the key stats, which is not allowed."),
        ("-i a.mp4 -x265-params csv=x out.mp4", "-x265-params has the key csv, which is not allowed."),
        (
            "-i a.mp4 -x264-params threads=99 out.mp4",
            "-x264-params: the value of threads is more than 16, which is the most.",
        ),
        ("-i a.mp4 -x264-params keyint out.mp4", "The value of -x264-params cannot be read: keyint has no value."),
        (
            "-i a.mp4 -qsv_params a=b out.mp4",
            "-qsv_params is not allowed: it sets options of a further container that are not judged.",
        ),
        ("-i a.mp4 -crf while(1,0) out.mp4", "The value of -crf, while(1,0), has while(), which may never end."),
        (
            "-i a.mp4 -c:v h264_vaapi out.mp4",
            "The value of -c:v, h264_vaapi, needs a device that the service does not have; "
            "those of NVIDIA end in _nvenc and _cuvid.",
        ),
        ("-i a.mp4 -preset /etc/x out.mp4", "The value of -preset, /etc/x, has a slash, which it cannot have."),
        (
            "-i a.mp4 -s 10000x10000 out.mp4",
            "The value of -s, 10000x10000, is larger than the 67108864 pixels, or the 16384 on one side, "
            "that a picture may have.",
        ),
        ("-f hls -i a.mp4 out.mp4", "The value of -f, hls, is no format that an input may be read as."),
        ("-i a.mp4 -f tee out.mp4", "The value of -f, tee, is no format that an output may be written in."),
        ("-i a.mp4 -bsf:v trace_headers out.mp4", "There is no bitstream filter trace_headers that may be used."),
        (
            "-i a.mp4 -rtmp_live 1 out.mp4",
            "-rtmp_live is not allowed: it is for a network or a disc, and a command reads and writes files only.",
        ),
        ("-i a.mp4 -update 2 out.mp4", "The value of -update, 2, is more than 1, which is the most."),
        (
            "-i a.mp4 -af apad out.mp4",
            "A filter of -af never ends: end it, or the output, with -t, -to, -frames:v, -fs or -shortest.",
        ),
        (
            "-i a.mp4 -f lavfi -i testsrc -vf reverse -t 1 out.mp4",
            "The source testsrc never ends, and a filter keeps all of it until its end: put -t in front of it.",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, reason: str) -> None:
    assert verdict(text, "a.mp4") == [reason]


def test_all_that_is_wrong_in_a_graph_is_reported_at_its_word() -> None:
    with pytest.raises(CommandNotAllowed) as raised:
        check("-i a.mp4 -vf movie=x,scale=q=1 out.mp4", input_names=["a.mp4"], output_names=["out.mp4"])
    assert raised.value.details["violations"] == [
        {
            "position": 3,
            "token": "movie=x,scale=q=1",
            "reason": "The filter movie is not allowed: it opens files that are not declared.",
        },
        {"position": 3, "token": "movie=x,scale=q=1", "reason": "The filter scale has no option q."},
    ]


def test_a_file_that_only_a_filter_reads_is_used() -> None:
    assert verdict("-i a.mp4 -vf ass=s.ass out.mp4", "a.mp4", "s.ass") == []
    assert verdict("-i a.mp4 out.mp4", "a.mp4", "s.ass") == [
        "The input file s.ass is not used by the command: it has no -i for it."
    ]


def test_an_output_that_writes_several_files_keeps_them_beside_it() -> None:
    hls = "-i a.mp4 -f hls -hls_segment_filename {} out.m3u8"
    assert verdict(hls.format("s_%03d.ts"), "a.mp4", output="out.m3u8") == []
    for name in ("/tmp/s_%d.ts", "../s_%d.ts", "a/b_%d.ts", "http://h/s_%d.ts"):
        assert verdict(hls.format(name), "a.mp4", output="out.m3u8") != []
    dash = "-i a.mp4 -media_seg_name {} out.mpd"
    assert verdict(dash.format("c-$RepresentationID$-$Number%05d$.m4s"), "a.mp4", output="out.mpd") == []
    assert verdict(dash.format("../$Number$.m4s"), "a.mp4", output="out.mpd") != []
    variants = "-i a.mp4 -var_stream_map {} -hls_segment_filename v%v_%d.ts v%v.m3u8"
    assert verdict(variants.format("'v:0,a:0,name:hd'"), "a.mp4", output="v%v.m3u8") == []
    assert verdict(variants.format("'v:0,name:../../x'"), "a.mp4", output="v%v.m3u8") != []


def test_options_find_knows_what_only_protocols_have() -> None:
    found = options.find("rtmp_live")
    assert found is not None
    assert found.protocols_only
