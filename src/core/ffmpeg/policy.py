"""Whether one option may stand where it stands, and the form in which it goes on: what has a grammar is written anew.

Allowed by type: numbers, flags, sizes, colours and the like name no file. Text is allowed by name only, and how it is
judged depends on what it is (option_rules.py).
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from core.ffmpeg import dictionaries, formats, graph, names, options, values
from core.ffmpeg.command import Input, Option, Violation, shown, violation
from core.ffmpeg.option_rules import CAPS, DROPPED, MAIN_SWITCHES, RATES, REFUSED, SIZES, TAKES, Takes
from core.ffmpeg.values import words

if TYPE_CHECKING:
    from core.ffmpeg import filters


Side = Literal["global", "input", "output"]

TEXT_TYPES = frozenset({"string", "binary", "dictionary"})
CODEC = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
# Encoders and decoders that open a device by themselves; NVENC and CUVID (NVDEC) are those that the service has.
DEVICE_CODEC = re.compile(r".*_(?:v4l2m2m|vaapi|qsv|vulkan|amf|omx|mf|d3d12va|videotoolbox|mediacodec|rkmpp)")
HW_DEVICE = re.compile(r"cuda(?:=[A-Za-z]\w{0,20})?(?::\d{1,2})?(?:,primary_ctx=[01])?", re.ASCII)
HW_NAME = re.compile(r"\d{1,2}|any|-[12]|[A-Za-z]\w{0,20}", re.ASCII)
HWACCELS = frozenset({"cuda", "nvdec", "auto", "none"})
DIVIDED = frozenset({"framerate", "rc_eq"})  # the only text options of the libraries in which / may be a division
BITSTREAM_FILTERS = words(
    """
    aac_adtstoasc ahx_to_mp2 apv_metadata av1_frame_merge av1_frame_split av1_metadata chomp dca_core dovi_rpu
    dovi_split dts2pts dump_extra dv_error_marker eac3_core eia608_to_smpte436m evc_frame_merge extract_extradata
    filter_units h264_metadata h264_mp4toannexb h264_redundant_pps hapqa_extract hevc_metadata hevc_mp4toannexb imxdump
    lcevc_metadata media100_to_mjpegb mjpeg2jpeg mjpegadump mov2textsub mpeg2_metadata mpeg4_unpack_bframes noise null
    opus_metadata pcm_rechunk pgs_frame_merge prores_metadata remove_extra setts smpte436m_to_eia608 text2movsub
    truehd_core vp9_metadata vp9_raw_reorder vp9_superframe vp9_superframe_split vvc_metadata vvc_mp4toannexb
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    option: Option  # as it goes on
    violations: tuple[Violation, ...] = ()
    files: frozenset[str] = frozenset()  # the inputs that its filters read


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSource:
    text: str  # the graph as it goes on
    violations: tuple[Violation, ...]
    files: frozenset[str]


def judge_source(source: Input, files: Collection[str]) -> JudgedSource:
    """An input that `-f lavfi` makes: its name is a graph."""
    judged = _graph(source.name, files)
    return JudgedSource(
        text=graph.emit(judged.graph) if judged.graph else source.name,
        violations=tuple(violation(source.position, source.name, fault) for fault in judged.faults),
        files=judged.files,
    )


def judge(option: Option, side: Side, files: Collection[str]) -> Judged:
    """`files` are the names of the inputs."""
    if reason := _refusal(option):
        found = violation(option.position, option.flag, f"{shown(option.flag)} is not allowed: {reason}")
        return Judged(option=option, violations=(found,))
    takes, value = TAKES.get(option.name, Takes.PLAIN), option.value
    if value is None:
        return Judged(option=option)
    try:
        text, faults, read = _judged_value(option, takes, value, side=side, files=files)
    except graph.GraphError as error:
        text, faults, read = value, [f"The value of {shown(option.flag)} cannot be read: {error}"], frozenset()
    return Judged(
        option=replace(option, value=text),
        violations=tuple(violation(option.position + 1, value, fault) for fault in faults),
        files=read,
    )


def _refusal(option: Option) -> str | None:
    """Why an option may not be used at all, whatever its value."""
    kind = options.find(option.name)
    if reason := REFUSED.get(option.name):
        return reason
    if fault := values.fault(option.specifier or ""):
        return f"its stream specifier {fault}"
    if kind is None or option.name in DROPPED or option.name in TAKES or option.name in MAIN_SWITCHES:
        return None
    if kind.protocols_only:
        return "it is for a network or a disc, and a command reads and writes files only."
    return "nobody has judged what it may do." if not kind.types or kind.types & TEXT_TYPES else None


def _judged_value(
    option: Option, takes: Takes, value: str, *, side: Side, files: Collection[str]
) -> tuple[str, list[str], frozenset[str]]:
    """The value as it goes on, what is wrong with it, and the inputs it reads. Raises GraphError."""
    if takes is Takes.GRAPH:
        judged = _graph(value, files)
        return graph.emit(judged.graph) if judged.graph else value, list(judged.faults), judged.files
    if takes is Takes.DICTIONARY:
        pairs = dictionaries.parse(option.name, value)
        return dictionaries.emit(option.name, pairs), list(dictionaries.faults(option.name, pairs)), frozenset()
    if takes is Takes.BITSTREAM:
        chain = graph.parse(value)
        return graph.emit(chain), list(_bitstream_faults(chain)), frozenset()
    fault = _fault(option, takes, value, side)
    return value, [f"The value of {shown(option.flag)}, {shown(value)}, {fault}"] if fault else [], frozenset()


def _graph(text: str, files: Collection[str]) -> "filters.Judged":
    from core.ffmpeg import filters  # only here: its tables take longer to load than all else

    return filters.judge(text, files)


def _fault(option: Option, takes: Takes, value: str, side: Side) -> str | None:
    if takes is Takes.FREE:
        return None
    if takes in (Takes.NAME, Takes.TEMPLATE):
        return names.fault(value, "output")
    if takes is Takes.FORMAT:
        return _format_fault(option.name, value, side)
    if takes is Takes.CODEC:
        return _codec_fault(value)
    if takes is Takes.DEVICE:
        return _device_fault(option.name, value)
    return _plain_fault(option.name, value)


def _plain_fault(name: str, value: str) -> str | None:
    kind = options.find(name)
    if kind and kind.types & TEXT_TYPES and name not in DIVIDED and ("/" in value or "\\" in value):
        return "has a slash, which it cannot have."
    most = CAPS.get(name)
    return (
        values.fault(value)
        or (values.size_fault(value) if name in SIZES else None)
        or (values.rate_fault(value) if name in RATES else None)
        or (values.count_fault(value, most) if most else None)
    )


def _format_fault(name: str, value: str, side: Side) -> str | None:
    if name == "segment_format":
        return None if value in formats.MUXERS else "is no format that a segment may be written in."
    if side == "input":
        return None if value == "lavfi" else formats.demuxer_fault(value)
    return formats.muxer_fault(value)


def _codec_fault(value: str) -> str | None:
    if not CODEC.fullmatch(value):
        return "is not the name of a codec."
    if DEVICE_CODEC.fullmatch(value):
        return "needs a device that the service does not have; those of NVIDIA end in _nvenc and _cuvid."
    return None


def _device_fault(name: str, value: str) -> str | None:
    if name == "hwaccel":
        return None if value in HWACCELS else "may be cuda, auto or none only."
    if name == "init_hw_device":
        return None if HW_DEVICE.fullmatch(value) else "may be cuda only."
    return None if HW_NAME.fullmatch(value) else "may be the number or the name of a device only."


def _bitstream_faults(chain: graph.Graph) -> Iterator[str]:
    for one in chain.filters():
        if one.name not in BITSTREAM_FILTERS or one.inputs or one.outputs or one.instance is not None:
            yield f"There is no bitstream filter {shown(one.name)} that may be used."
        for argument in one.arguments:
            if fault := values.fault(argument.name or "") or values.fault(argument.value):
                yield f"The option {shown(argument.name or '')} of the bitstream filter {shown(one.name)} {fault}"
    if len(chain.chains) > 1 or chain.sws_flags is not None:
        yield "Bitstream filters are a list, separated by commas."
