"""The CPU form of a command that names NVENC, CUDA filters or CUDA decoding: the same result by other means.

The picture is alike, not the same: quality scales are carried over as numbers, and presets by how hard they try. What
steers the card alone is left out. A command that has no CPU form says why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from core.ffmpeg import compute
from core.ffmpeg import graph as grammar
from core.ffmpeg.command import Command, Input, Option, Output
from core.ffmpeg.graph import Argument, Chain, Filter
from core.ffmpeg.values import words

ENCODERS: Mapping[str, str] = {"h264_nvenc": "libx264", "hevc_nvenc": "libx265", "av1_nvenc": "libsvtav1"}

# How hard each preset of NVENC tries, as x264 and x265 call it, and as SVT-AV1 counts it.
PRESETS: Mapping[str, tuple[str, str]] = {
    "p1": ("veryfast", "12"),
    "p2": ("faster", "11"),
    "p3": ("fast", "10"),
    "p4": ("medium", "8"),
    "p5": ("medium", "7"),
    "p6": ("slow", "6"),
    "p7": ("slower", "5"),
    "fast": ("fast", "10"),
    "medium": ("medium", "8"),
    "slow": ("slow", "6"),
}
DEFAULT_PRESET = "medium"
ON = frozenset({"1", "true"})
# Formats that the card takes and the encoder for the CPU does not, and the nearest that it does.
PIXEL_FORMATS: Mapping[str, str] = {
    "nv12": "yuv420p",
    **dict.fromkeys(("p010le", "p012le", "p016le"), "yuv420p10le"),
    **dict.fromkeys(("nv16", "p210le", "p212le", "p216le"), "yuv422p10le"),
    **dict.fromkeys(("yuv444p10msble", "yuv444p12msble", "yuv444p16le"), "yuv444p10le"),
    # NVENC makes YUV 4:2:0 of them
    **dict.fromkeys(("bgr0", "bgra", "rgb0", "rgba", "gbrp", "x2rgb10le", "x2bgr10le"), "yuv420p"),
    **dict.fromkeys(("gbrp10msble", "gbrp16le"), "yuv420p10le"),
}
X264_PROFILES: Mapping[str, str] = {
    **{name: name for name in ("baseline", "main", "high", "high10", "high422")},
    "high444p": "high444",
    "0": "baseline",
    "1": "main",
    "2": "high",
}
# Options of NVENC that the encoder for the CPU has under the same name, with the same meaning.
_EVERYWHERE = frozenset({"qp", "qmin", "qmax"})
KEPT: Mapping[str, frozenset[str]] = {
    "libx264": _EVERYWHERE
    | {"a53cc", "udu_sei", "aud", "forced-idr", "rc-lookahead", "bluray-compat", "intra-refresh", "level"},
    "libx265": _EVERYWHERE | {"a53cc", "udu_sei", "forced-idr"},
    "libsvtav1": _EVERYWHERE,
}
# Options of NVENC that become something else: see _translated.
CHANGED = frozenset({"preset", "tune", "profile", "cq", "coder", "no-scenecut", "highbitdepth"})
# The others of NVENC's own: they steer the card, or its way of deciding, and the CPU's encoders have their own ways.
DROPPED = words(
    "rc surfaces gpu rgb_mode delay b_adapt spatial-aq temporal-aq zerolatency nonref_p strict_gop aq-strength "
    "init_qpP init_qpB init_qpI qp_cb_offset qp_cr_offset weighted_pred b_ref_mode s12m_tc dpb_size multipass ldkfs "
    "extra_sei single-slice-intra-refresh max_slice_size constrained-encoding cbr_padding tf_level lookahead_level "
    "unidir_b split_encode_mode tier tile-rows tile-columns timing-info"
)
_NVENC = _EVERYWHERE | frozenset().union(*KEPT.values()) | CHANGED | DROPPED
# What is said of the card before it is used.
_DEVICE_OPTIONS = frozenset(
    {"hwaccel", "hwaccel_output_format", "hwaccel_device", "extra_hw_frames", "init_hw_device", "filter_hw_device"}
)
# What cuvid decoders do to the picture; the CPU's decoders do not.
_DECODER_EFFECTS = frozenset({"resize", "crop", "deint", "drop_second_field"})
_DECODER_OPTIONS = frozenset({"gpu", "surfaces"})

# CUDA filters whose options a CPU filter has under the same names, but for those that are listed to be left out.
FILTERS: Mapping[str, tuple[str, frozenset[str]]] = {
    "scale_cuda": ("scale", frozenset({"passthrough", "use_filters", "param"})),
    "overlay_cuda": ("overlay", frozenset()),
    "yadif_cuda": ("yadif", frozenset()),
    "bwdif_cuda": ("bwdif", frozenset()),
    "transpose_cuda": ("transpose", frozenset()),
    "pad_cuda": ("pad", frozenset()),
    "chromakey_cuda": ("chromakey", frozenset()),
    "thumbnail_cuda": ("thumbnail", frozenset()),
}
# Filters that only carry frames to the card and back.
CARRIERS = frozenset({"hwupload_cuda", "hwupload", "hwdownload"})
_SCALERS: Mapping[str, str] = {
    "nearest": "neighbor",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "1": "neighbor",
    "2": "bilinear",
    "3": "bicubic",
    "4": "lanczos",
}


class NoCpuForm(ValueError):
    """The command can run on a GPU only; the message says why, and is for the user."""


def to_cpu(command: Command) -> Command:
    """The command with everything that needs a GPU replaced. Raises NoCpuForm."""
    return Command(
        global_options=tuple(_without_device(command.global_options)),
        inputs=tuple(_input(source) for source in command.inputs),
        outputs=tuple(_output(output) for output in command.outputs),
    )


def _without_device(options: tuple[Option, ...]) -> Iterator[Option]:
    return (_filtered(option) for option in options if option.name not in _DEVICE_OPTIONS)


def _input(source: Input) -> Input:
    options = tuple(_without_device(source.options))
    if not any(_names_codec(option, "_cuvid") for option in options):
        return replace(source, options=options)
    if effect := next((option for option in options if option.name in _DECODER_EFFECTS), None):
        raise NoCpuForm(f"{effect.flag} is done by the card's decoder; a filter would do it on either.")
    kept = (o for o in options if not _names_codec(o, "_cuvid") and o.name not in _DECODER_OPTIONS)
    return replace(source, options=tuple(kept))


def _output(output: Output) -> Output:
    options = tuple(_without_device(output.options))
    named = {option.value for option in options if _is_video_codec(option) and option.value != "copy"}
    encoders = named & ENCODERS.keys()
    if not encoders:
        return replace(output, options=options)
    if len(named) > 1:
        raise NoCpuForm(f"{output.name} mixes encoders, whose options cannot be told apart.")
    encoding = _Encoding(ENCODERS[encoders.pop() or ""], options)
    return replace(output, options=tuple(new for option in options for new in encoding.translated(option)))


@dataclass(frozen=True, slots=True)
class _Encoding:
    """The options of one output, on their way to another encoder."""

    encoder: str
    options: tuple[Option, ...]

    def translated(self, option: Option) -> Iterator[Option]:
        """What stands in the place of `option`: mostly one, none where it is dropped."""
        name, value = option.name, option.value or ""
        if _names_codec(option, "_nvenc"):
            yield replace(option, value=self.encoder)
        elif name == "pix_fmt":
            if value != "cuda":
                yield replace(option, value=self._pixels(value))
        elif name == "b" and self._has("cq") and _is_video(option):
            return  # a quality was asked for, and NVENC takes a bit rate of 0 as that
        elif name in CHANGED:
            yield from self._changed(option, name, value)
        elif name not in _NVENC or name in KEPT[self.encoder] or not _is_video(option):
            yield option

    def _changed(self, option: Option, name: str, value: str) -> Iterator[Option]:
        if name == "preset":
            yield replace(option, value=PRESETS.get(value, PRESETS[DEFAULT_PRESET])[self.encoder == "libsvtav1"])
        elif name == "cq" and value not in ("0", "0.0"):  # which is "automatic"
            yield replace(option, name="crf")
        elif name == "tune":
            yield from self._tuned(option, value)
        elif name == "profile":
            yield from self._profiled(option, value)
        elif name == "highbitdepth" and value in ON and not self._has("pix_fmt"):
            yield replace(option, name="pix_fmt", value="yuv420p10le")
        elif self.encoder == "libx264":
            yield from self._of_x264(option, name, value)
        elif self.encoder == "libx265" and name == "no-scenecut" and value in ON:
            yield replace(option, name="x265-params", value="scenecut=0:open-gop=0")

    def _of_x264(self, option: Option, name: str, value: str) -> Iterator[Option]:
        if name == "coder":
            yield replace(option, value="vlc" if value in ("vlc", "cavlc", "2") else "cabac")
        elif name == "no-scenecut" and value in ON:
            yield replace(option, name="sc_threshold", value="0")

    def _tuned(self, option: Option, value: str) -> Iterator[Option]:
        if value in ("lossless", "4"):
            if self.encoder != "libx264":
                raise NoCpuForm(f"{self.encoder} has no lossless mode that could be asked for in the same way.")
            yield replace(option, name="qp", value="0")
        elif value in ("ll", "ull", "2", "3") and self.encoder != "libsvtav1":
            yield replace(option, value="zerolatency")

    def _profiled(self, option: Option, value: str) -> Iterator[Option]:
        if self.encoder == "libx264" and value in X264_PROFILES:
            yield replace(option, value=X264_PROFILES[value])
        elif self.encoder == "libx265" and value in ("main", "main10"):
            yield option

    def _pixels(self, value: str) -> str:
        near = PIXEL_FORMATS.get(value, value)
        if self.encoder == "libsvtav1":  # has 4:2:0 only
            return "yuv420p10le" if "10" in near else "yuv420p"
        return near

    def _has(self, name: str) -> bool:
        return any(option.name == name for option in self.options)


def _is_video_codec(option: Option) -> bool:
    return option.name in compute.CODEC_OPTIONS and _is_video(option)


def _is_video(option: Option) -> bool:
    return (option.specifier or "v").startswith("v")


def _names_codec(option: Option, ending: str) -> bool:
    return option.name in compute.CODEC_OPTIONS and (option.value or "").endswith(ending)


def _filtered(option: Option) -> Option:
    if option.name not in compute.GRAPH_OPTIONS or option.value is None:
        return option
    from core.ffmpeg import filters  # only here: its tables take longer to load than all else

    graph = filters.with_names(option.value)
    chains = tuple(Chain(tuple(new for one in chain.filters for new in _on_cpu(one))) for chain in graph.chains)
    return replace(option, value=grammar.emit(replace(graph, chains=chains)))


def _on_cpu(one: Filter) -> Iterator[Filter]:
    """The filter, or what does the same on the CPU; labels stay where they are."""
    if one.name in CARRIERS:
        yield Filter(name="null", inputs=one.inputs, outputs=one.outputs)
    elif one.name == "colorspace_cuda":
        given = (Argument(a.value, "out_range") for a in one.arguments if a.name == "range")
        yield replace(one, name="scale", arguments=tuple(given))
    elif one.name not in FILTERS:
        if one.name.endswith("_cuda"):
            raise NoCpuForm(f"The filter {one.name} has no like on the CPU.")
        yield one
    else:
        yield from _scaled(one) if one.name == "scale_cuda" else [_renamed(one)]


def _renamed(one: Filter) -> Filter:
    name, left_out = FILTERS[one.name]
    return replace(one, name=name, arguments=tuple(a for a in one.arguments if a.name not in left_out))


def _scaled(one: Filter) -> Iterator[Filter]:
    """scale_cuda also chooses the scaler by a name of its own, and converts the pixel format."""
    scale = _renamed(one)
    pixels = scale.named("format")
    given = tuple(
        Argument(_SCALERS.get(a.value, "bicubic"), "flags") if a.name == "interp_algo" else a
        for a in scale.arguments
        if a.name != "format"
    )
    if pixels is None:
        yield replace(scale, arguments=given)
        return
    near = Argument(PIXEL_FORMATS.get(pixels, pixels), "pix_fmts")
    yield replace(scale, arguments=given, outputs=())
    yield Filter(name="format", outputs=scale.outputs, arguments=(near,))
