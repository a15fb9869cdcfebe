"""Why ffmpeg failed: its exit status and its log become a code, a sentence and what to do about it.

The log holds whatever hostile media make ffmpeg print, and local paths; what is shown of it is scrubbed and bounded.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from signal import Signals

from core.task import Failure, FailureCode

MAX_LINES = 30
MAX_BYTES = 8 * 1024
MAX_LINE = 500

POINTER = re.compile(r" @ 0x[0-9a-f]+")
LEVELS = re.compile(r"^(?:\[[^\]]*\] )*(?=\[(?:error|fatal|panic)\] )")
SECRETS = (
    (re.compile(r"(\w://)[^/\s@'\"]+@"), r"\1"),  # user and password
    (re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]*"), r"\1?..."),
)
OUR_FOLDERS = re.compile(r"(?:file:)?(?:\.\./(?:in|out|tmp)|(?<![.\w])\.)/")
# Not the second slash of a URL, and not a division: those follow a word, a bracket or another slash.
ABSOLUTE = re.compile(r"(?:file:)?(?<![\w/.)\]])/(?!/)[^\s'\",;|)\]]+")


@dataclass(frozen=True, slots=True)
class Known:
    """A message that ffmpeg is known to end with. In `sentence`, {0} is what the first group of `pattern` found."""

    pattern: re.Pattern[str]
    code: FailureCode
    sentence: str


def _known(pattern: str, code: FailureCode, sentence: str) -> Known:
    return Known(re.compile(pattern, re.MULTILINE), code, sentence)


_FAILED = FailureCode.TRANSCODE_FAILED

# The first that is found anywhere in the log wins: causes stand before what follows from them.
KNOWN: tuple[Known, ...] = (
    _known(
        r"No space left on device",
        FailureCode.DISK_FULL,
        "The disk is full: the output is larger than the room for it.",
    ),
    _known(
        r"OpenEncodeSessionEx failed",  # which says "out of memory" of its own sessions, too
        FailureCode.GPU_UNAVAILABLE,
        "The worker's GPU takes no further encoding session; it has a limit of them.",
    ),
    _known(
        r"No filtered frames for output stream",  # after which some encoders say that memory ran out
        _FAILED,
        "No picture or sound of the input came to the output: -ss and -t may ask for what is beyond its end, or a "
        "filter lets nothing pass.",
    ),
    _known(
        r"TU size > 8 raw frame size",  # likewise
        _FAILED,
        "libsvtav1 cannot encode so small a picture: let it have two pixels on each side, as in scale=2:2, or more.",
    ),
    _known(
        r"Cannot allocate memory|[Oo]ut of memory",
        FailureCode.OUT_OF_MEMORY,
        "Memory ran out. Ask for smaller frames, fewer outputs at once, or a faster preset.",
    ),
    _known(
        r"10 bit encode not supported",
        _FAILED,
        "The encoder cannot take a 10-bit source: add -pix_fmt yuv420p, or use hevc_nvenc.",
    ),
    _known(
        r"Cannot load (lib(?:cuda|nvcuvid|nvidia-encode)\.so\.1)|CUDA_ERROR_NO_DEVICE|No capable devices found",
        FailureCode.GPU_UNAVAILABLE,
        "The command needs an NVIDIA GPU, and this worker has none that can do it. libx264 and libx265 need none.",
    ),
    _known(
        r"Driver does not support the required nvenc API version",
        FailureCode.GPU_UNAVAILABLE,
        "The worker's NVIDIA driver is older than this ffmpeg needs.",
    ),
    _known(r"Unknown encoder '([^']*)'", _FAILED, "There is no encoder named {0} in this ffmpeg."),
    _known(r"Unknown decoder '([^']*)'", _FAILED, "There is no decoder named {0} in this ffmpeg."),
    _known(r"No such filter: '([^']*)'", _FAILED, "There is no filter named {0} in this ffmpeg."),
    _known(
        r"No option name near '[^']*'\n(?:.*\n)*?.*Error parsing filterchain '([^']*)'",
        _FAILED,
        "The filter chain {0} cannot be read: it names a filter that does not exist, or an option has no name.",
    ),
    _known(
        r"Error applying option '([^']*)' to filter '[^']*': Option not found",
        _FAILED,
        "A filter was given the option {0}, which it does not have.",
    ),
    _known(r"Unrecognized option '([^']*)'", _FAILED, "There is no option named {0} in this ffmpeg."),
    _known(
        r"Stream map '[^']*' matches no streams(?:.*\n)*?.*Failed to set value '([^']*)' for option 'map'",
        _FAILED,
        "-map {0} matches no stream of the input. End it in a question mark (-map {0}?) if the stream may be missing.",
    ),
    _known(
        r"Invalid input file index: (\d+)",
        _FAILED,
        "-map names the input number {0}, which does not exist; the first is 0.",
    ),
    _known(
        r"Stream specifier '([^']*)' in filtergraph description .* matches no streams",
        _FAILED,
        "The filter graph asks for the stream {0}, which the input does not have.",
    ),
    _known(
        r"^.*?((?:width|height) not divisible by 2 \(\d+x\d+\))",
        _FAILED,
        "The encoder needs even dimensions: {0}. Let ffmpeg compute one with -2, as in scale=1280:-2.",
    ),
    _known(
        r"Image size is too small \((\d+x\d+)\)",
        _FAILED,
        "The encoder takes no picture as small as {0}. Scale it up first, as in scale=16:16, or use libx264 or "
        "libsvtav1.",
    ),
    _known(
        r"Video (?:of|with planes) less than (\d+ columns or (?:\d+ )?lines) is not supported",
        _FAILED,
        "A picture of less than {0} cannot be deinterlaced. Scale it up first, as in scale=16:16, or leave out the "
        "deinterlacer, which is part of most presets.",
    ),
    _known(
        r"The maximum allowed frame rate is (\d+) fps",
        _FAILED,
        "The encoder takes at most {0} frames a second, and the source has more: add -fpsmax {0}, or -r with less.",
    ),
    _known(
        r"Filtering and streamcopy cannot be used together",
        _FAILED,
        "A stream is both copied and filtered. Drop the filter, or give the stream an encoder instead of copy.",
    ),
    _known(r"Only (VP8 or .*) are supported for WebM", _FAILED, "A WebM file cannot hold these codecs, only {0}."),
    _known(
        r"Could not find tag for codec (\S+) in stream",
        _FAILED,
        "The output's container cannot hold {0}. Choose another codec, or mkv, which holds most.",
    ),
    _known(
        r"Could not write header \(incorrect codec parameters",
        _FAILED,
        "The output's container cannot hold one of the streams. Choose other codecs, or mkv, which holds most.",
    ),
    _known(
        r"Output file does not contain any stream",
        _FAILED,
        "The output would have no stream: the inputs have none of the kind it takes, or -vn, -an or -map left none.",
    ),
    _known(
        r"Unable to choose an output format for '(?:file:)?(?:\./)?([^']*)'",
        _FAILED,
        "No format is known by the extension of {0}. Use a standard one, or name the format with -f.",
    ),
    _known(
        r"Requested output format '([^']*)' is not known",
        _FAILED,
        "There is no output format named {0} in this ffmpeg.",
    ),
    _known(
        r"Cannot write more than one file with the same name",
        _FAILED,
        "More than one picture would be written to one file. Use a pattern (thumb_%03d.jpg), or -frames:v 1 -update 1.",
    ),
    _known(
        r"Error opening input file (.+)\.\n(?:.*\n)*?.*Error opening input files: Invalid data found",
        FailureCode.MEDIA_INVALID,
        "{0} is not a media file that ffmpeg can read, or it is cut off or damaged.",
    ),
    _known(
        r"moov atom not found|Error opening input: Invalid data found",
        FailureCode.MEDIA_INVALID,
        "An input is not a media file that ffmpeg can read, or it is cut off or damaged.",
    ),
)

# What ffmpeg says when something else went wrong before.
CONSEQUENCES = re.compile(
    r"Error opening (?:input|output) file|Task finished with error|Terminating thread|Could not open encoder before EOF"
    r"|Error sending frames|Error while opening encoder|Nothing was written into output|Error selecting an encoder"
    r"|Undefined constant or missing|Error parsing options for|Error initializing filters|Conversion failed"
)

# An error that the card, its driver or its encoder reports.
GPU_ERROR = re.compile(r"(?=.*\[(?:error|fatal|panic)\]).*(?:nvenc|nvcuvid|cuda|cuvid)", re.IGNORECASE)

CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"})


def explain(*, exit_code: int, log: Sequence[str], names: Mapping[str, str]) -> Failure:
    """The failure to record for an ffmpeg that ended with `exit_code` (negative: killed by that signal).

    `log` is the end of what it wrote to stderr, line by line. `names` has the user's name of each input by its
    path in the command (`../in/i0.mp4`).
    """
    lines = [scrub(line, names) for line in log]
    code, message = _signalled(-exit_code) if exit_code < 0 else _reason(lines, exit_code)
    return Failure.of(code, message, details={"exit_code": exit_code, "log": _last_words(lines)})


def is_refused_by_gpu(failed: Failure) -> bool:
    """Whether it failed because the card cannot, or is not there, so that the CPU may well do it."""
    log = failed.details.get("log", ())
    told = any(GPU_ERROR.match(line) and not CONSEQUENCES.search(line) for line in log)
    return told or failed.code is FailureCode.GPU_UNAVAILABLE


def scrub(line: str, names: Mapping[str, str]) -> str:
    """The line as it may be shown: the user's names instead of local paths, no other path, no secret of a URL."""
    # Cut before the patterns see it, because their time grows with the square of a line of nothing but "a://a://".
    line = POINTER.sub("", line[: 4 * MAX_LINE])
    line = "".join(c if c.isprintable() else " " for c in line).rstrip()
    # Longest first: ../in/i1 is the beginning of ../in/i10.
    for path, name in sorted(names.items(), key=lambda item: -len(item[0])):
        line = line.replace(f"file:{path}", name).replace(path, name)
    for secret, instead in SECRETS:
        line = secret.sub(instead, line)
    return ABSOLUTE.sub("(path)", OUR_FOLDERS.sub("", line))[:MAX_LINE]


def _reason(lines: Sequence[str], exit_code: int) -> tuple[FailureCode, str]:
    text = "\n".join(lines)
    for known in KNOWN:
        if found := known.pattern.search(text):
            return known.code, known.sentence.format(*found.groups())
    telling = _telling(lines)
    return (
        _FAILED,
        f"ffmpeg failed: {telling}" if telling else f"ffmpeg failed with exit code {exit_code} and no message.",
    )


def _telling(lines: Sequence[str]) -> str | None:
    """The first error that is not the consequence of another; else the last thing that was said."""
    errors = (LEVELS.sub("", line) for line in lines if LEVELS.match(line))
    cause = next((line.partition("] ")[2] for line in errors if not CONSEQUENCES.search(line)), None)
    return cause or next((line for line in reversed(lines) if line), None)


def _signalled(number: int) -> tuple[FailureCode, str]:
    name = Signals(number).name if number in {s.value for s in Signals} else f"signal {number}"
    if name == "SIGKILL":
        return FailureCode.OUT_OF_MEMORY, (
            "ffmpeg was killed by the system (SIGKILL) and not by us, which nearly always means that memory ran out."
        )
    if name == "SIGXFSZ":
        return _FAILED, "The output grew past the size that one file may have."
    if name in CRASHES:
        return _FAILED, f"ffmpeg crashed ({name}); the source or the options make it do something that it cannot."
    return FailureCode.INTERNAL_ERROR, f"ffmpeg was stopped by {name}."


def _last_words(lines: Sequence[str]) -> list[str]:
    """The last lines, repetitions folded, in at most 30 lines and 8 kB."""
    folded = [line if (times := len(list(same))) == 1 else f"{line} ({times} times)" for line, same in groupby(lines)]
    kept: list[str] = []
    room = MAX_BYTES
    for line in reversed(folded[-MAX_LINES:]):
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.insert(0, line)
    return kept
