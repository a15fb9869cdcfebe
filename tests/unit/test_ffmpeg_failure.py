"""What ffmpeg 9.0.2 really wrote when it failed becomes a code, a sentence and a remedy, with nothing of ours in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ffmpeg.failure import explain, scrub
from core.task import Failure, FailureCode

NAMES = {"../in/i0.mp4": "my film.mp4", "../in/i1": "b", "../in/i10": "c"}

BAD_INPUT = [
    "[in#0 @ 0x5576694520c0] [error] moov atom not found",
    "[in#0 @ 0x557669451d40] [error] Error opening input: Invalid data found when processing input",
    "[error] Error opening input file file:../in/i0.mp4.",
    "[fatal] Error opening input files: Invalid data found when processing input",
]

T = FailureCode.TRANSCODE_FAILED


def test_explain_names_the_input_that_is_no_media() -> None:
    assert explain(exit_code=183, log=BAD_INPUT, names=NAMES) == Failure(
        code=FailureCode.MEDIA_INVALID,
        message="my film.mp4 is not a media file that ffmpeg can read, or it is cut off or damaged.",
        retryable=False,
        details={
            "exit_code": 183,
            "log": [
                "[in#0] [error] moov atom not found",
                "[in#0] [error] Error opening input: Invalid data found when processing input",
                "[error] Error opening input file my film.mp4.",
                "[fatal] Error opening input files: Invalid data found when processing input",
            ],
        },
    )


@pytest.mark.parametrize(
    ("log", "code", "message"),
    [
        (["[vost#0:0 @ 0x55] [fatal] Unknown encoder 'libx26'"], T, "There is no encoder named libx26 in this ffmpeg."),
        (["[fatal] Unknown decoder 'foo'"], T, "There is no decoder named foo in this ffmpeg."),
        (
            ["[AVFilterGraph @ 0x55] [error] No such filter: 'skale'"],
            T,
            "There is no filter named skale in this ffmpeg.",
        ),
        (
            [
                "[AVFilterGraph @ 0x5610394a9a40] [error] No option name near '2:2'",
                "[AVFilterGraph @ 0x5610394a9a40] [error] Error parsing a filter description around: ",
                "[AVFilterGraph @ 0x5610394a9a40] [error] Error parsing filterchain 'skale=2:2' around: ",
            ],
            T,
            "The filter chain skale=2:2 cannot be read: "
            "it names a filter that does not exist, or an option has no name.",
        ),
        (
            ["[fc#-1 @ 0x55] [error] Error applying option 'foo' to filter 'scale': Option not found"],
            T,
            "A filter was given the option foo, which it does not have.",
        ),
        (
            [
                "[fatal] Stream map '' matches no streams.",
                "To ignore this, add a trailing '?' to the map.",
                "[error] Failed to set value '0:s' for option 'map': Invalid argument",
            ],
            T,
            "-map 0:s matches no stream of the input. "
            "End it in a question mark (-map 0:s?) if the stream may be missing.",
        ),
        (
            [
                "[h264_nvenc @ 0x56096ea19d40] [error] Cannot load libcuda.so.1",
                "[vost#0:0/h264_nvenc @ 0x56] [enc:h264_nvenc @ 0x56] [error] Error while opening encoder - maybe "
                "incorrect parameters such as bit_rate, rate, width or height.",
            ],
            FailureCode.GPU_UNAVAILABLE,
            "The command needs an NVIDIA GPU, and this worker has none that can do it. libx264 and libx265 need none.",
        ),
        (
            [
                "[h264_nvenc @ 0x56096ea19d40] [warning] 10 bit encode not supported",
                "[h264_nvenc @ 0x56096ea19d40] [error] No capable devices found",
            ],
            T,
            "The encoder cannot take a 10-bit source: add -pix_fmt yuv420p, or use hevc_nvenc.",
        ),
        (
            ["[libx264 @ 0x56448d4e3180] [error] width not divisible by 2 (101x101)"],
            T,
            "The encoder needs even dimensions: width not divisible by 2 (101x101). "
            "Let ffmpeg compute one with -2, as in scale=1280:-2.",
        ),
        (
            ["[libx265 @ 0x55d037580480] [error] Image size is too small (2x2)."],
            T,
            "The encoder takes no picture as small as 2x2. Scale it up first, as in scale=16:16, or use libx264 or "
            "libsvtav1.",
        ),
        (
            ["[Parsed_bwdif_0 @ 0x7f8038001fc0] [error] Video of less than 3 columns or lines is not supported"],
            T,
            "A picture of less than 3 columns or lines cannot be deinterlaced. Scale it up first, as in scale=16:16, "
            "or leave out the deinterlacer, which is part of most presets.",
        ),
        (
            ["[Parsed_bwdif_0 @ 0x7f01] [error] Video with planes less than 3 columns or 4 lines is not supported"],
            T,
            "A picture of less than 3 columns or 4 lines cannot be deinterlaced. Scale it up first, as in "
            "scale=16:16, or leave out the deinterlacer, which is part of most presets.",
        ),
        (
            [
                "Svt[error]: The maximum allowed frame rate is 240 fps",
                "[libsvtav1 @ 0x56] [error] Error setting encoder parameters: bad parameter (0x80001005)",
            ],
            T,
            "The encoder takes at most 240 frames a second, and the source has more: add -fpsmax 240, or -r with less.",
        ),
        (
            [
                "[libsvtav1 @ 0x55cbaf32d540] [error] TU size > 8 raw frame size.",
                "[vost#0:0/libsvtav1 @ 0x55] [error] Task finished with error code: -12 (Cannot allocate memory)",
            ],
            T,
            "libsvtav1 cannot encode so small a picture: let it have two pixels on each side, as in scale=2:2, or "
            "more.",
        ),
        (
            ["[out#0/matroska @ 0x56] [error] Error writing trailer: No space left on device"],
            FailureCode.DISK_FULL,
            "The disk is full: the output is larger than the room for it.",
        ),
        (
            ["[vf#0:0 @ 0x56] [error] Error while filtering: Cannot allocate memory"],
            FailureCode.OUT_OF_MEMORY,
            "Memory ran out. Ask for smaller frames, fewer outputs at once, or a faster preset.",
        ),
        (
            [
                "[webm @ 0x55] [error] Only VP8 or VP9 or AV1 video and Vorbis or Opus audio and WebVTT subtitles are "
                "supported for WebM."
            ],
            T,
            "A WebM file cannot hold these codecs, only VP8 or VP9 or AV1 video and Vorbis or Opus audio and "
            "WebVTT subtitles.",
        ),
        (
            ["[mp4 @ 0x55] [error] Could not find tag for codec prores in stream #0, codec not currently supported"],
            T,
            "The output's container cannot hold prores. Choose another codec, or mkv, which holds most.",
        ),
        (
            ["[out#0/mp4 @ 0x55] [error] Output file does not contain any stream"],
            T,
            "The output would have no stream: "
            "the inputs have none of the kind it takes, or -vn, -an or -map left none.",
        ),
        (
            [
                "[vf#0:0 @ 0x5649] [warning] No filtered frames for output stream, trying to initialize anyway.",
                "[libwebp encoder @ 0x5649] [error] WebPAnimEncoderAssemble() failed with error: 1",
                "[vost#0:0/libwebp_anim @ 0x5649] [error] Task finished with error code: -12 (Cannot allocate memory)",
            ],
            T,
            "No picture or sound of the input came to the output: -ss and -t may ask for what is beyond its end, or a "
            "filter lets nothing pass.",
        ),
        (
            ["[AVFormatContext @ 0x56] [error] Unable to choose an output format for 'file:./a.xyz'; use a standard"],
            T,
            "No format is known by the extension of a.xyz. Use a standard one, or name the format with -f.",
        ),
        (
            ["[warning] odd", "[error] Invalid duration for option t: abc", "[fatal] Error opening output files: x"],
            T,
            "ffmpeg failed: Invalid duration for option t: abc",
        ),
        (
            [
                "[libx264 @ 0x56247a54cd40] [Eval @ 0x7ffe] [error] Undefined constant or missing '(' in 'abc'",
                '[libx264 @ 0x56247a54cd40] [error] Unable to parse "b" option value "abc"',
            ],
            T,
            'ffmpeg failed: Unable to parse "b" option value "abc"',
        ),
        (["something odd", ""], T, "ffmpeg failed: something odd"),
        ([], T, "ffmpeg failed with exit code 1 and no message."),
    ],
)
def test_explain_gives_a_sentence_to_act_on(log: list[str], code: FailureCode, message: str) -> None:
    found = explain(exit_code=1, log=log, names=NAMES)
    assert (found.code, found.message) == (code, message)


@pytest.mark.parametrize(
    ("exit_code", "code", "message"),
    [
        (
            -9,
            FailureCode.OUT_OF_MEMORY,
            "ffmpeg was killed by the system (SIGKILL) and not by us, which nearly always means that memory ran out.",
        ),
        (-11, T, "ffmpeg crashed (SIGSEGV); the source or the options make it do something that it cannot."),
        (-25, T, "The output grew past the size that one file may have."),
        (-15, FailureCode.INTERNAL_ERROR, "ffmpeg was stopped by SIGTERM."),
        (-99, FailureCode.INTERNAL_ERROR, "ffmpeg was stopped by signal 99."),
    ],
)
def test_explain_tells_a_signal(exit_code: int, code: FailureCode, message: str) -> None:
    found = explain(exit_code=exit_code, log=BAD_INPUT, names=NAMES)
    assert (found.code, found.message) == (code, message)


def test_explain_bounds_the_log_and_folds_repetitions() -> None:
    log = [*("[mp3float @ 0x5] [error] Header missing",) * 500, *(f"[error] {n} {'x' * 900}" for n in range(100))]
    shown = explain(exit_code=69, log=log, names={}).details["log"]
    assert (len(shown), sum(len(line) + 1 for line in shown) <= 8192) == (16, True)
    assert shown[-1] == f"[error] 99 {'x' * 489}"
    assert explain(exit_code=69, log=log[:500], names={}).details["log"] == [
        "[mp3float] [error] Header missing (500 times)"
    ]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Error opening input file file:../in/i0.mp4.", "Error opening input file my film.mp4."),
        ("../in/i10 and ../in/i1", "c and b"),
        ("Unable to open /srv/data/tasks/1/in/x.srt", "Unable to open (path)"),
        ("'file:/etc/passwd': denied", "'(path)': denied"),
        ("movie=/etc/passwd,null", "movie=(path),null"),
        ("out to 'file:./out.mp4' and ../tmp/ffmpeg2pass-0.log", "out to 'out.mp4' and ffmpeg2pass-0.log"),
        ("GET https://u:p@h.example/a.ts?sig=abc&x=1 failed", "GET https://h.example/a.ts?... failed"),
        (
            "x=(W-w)/2 at 30000/1001 tbr, 1205 kb/s, (avc1 / 0x31)",
            "x=(W-w)/2 at 30000/1001 tbr, 1205 kb/s, (avc1 / 0x31)",
        ),
        ("\x1b[31mred\x07", " [31mred"),
    ],
)
def test_scrub_leaves_neither_paths_nor_secrets(line: str, shown: str) -> None:
    assert scrub(line, NAMES) == shown


def test_scrub_takes_no_time_for_a_line_made_to_take_long() -> None:
    assert len(scrub("a://" * 1_000_000, NAMES)) <= 500


@given(st.lists(st.text()), st.integers(min_value=-64, max_value=255))
def test_explain_never_raises(log: list[str], exit_code: int) -> None:
    explain(exit_code=exit_code, log=log, names=NAMES)
