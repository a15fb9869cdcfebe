"""The private languages of encoders: `-x264-params keyint=50:ref=3` and its kin.

Keys are allowed by name, because many of these encoders read and write files by others (x264 stats, x265 csv ...); the
text is written anew from what was read. A bare key stands for yes in x264opts, which knows no escapes either.
"""

import re
from collections.abc import Iterator, Mapping

from core.ffmpeg import graph, values
from core.ffmpeg.command import shown
from core.ffmpeg.values import words

Pairs = tuple[tuple[str, str | None], ...]

VALUE = re.compile(r"[\w.,+\-():|%=]*(?:\d/\d[\w.,:]*)?", re.ASCII)


X264 = words(
    """
    8x8dct aq-mode aq-strength asm aud avcintra-class avcintra-flavor b-adapt b-bias b-pyramid bff bframes bluray-compat
    cabac chroma-qp-offset chromaloc colormatrix colorprim constrained-intra cplxblur cqm crf crf-max crop-rect
    dct-decimate deadzone-inter deadzone-intra deblock direct fake-interlaced fast-pskip filler force-cfr fps
    frame-packing fullrange intra-refresh interlaced ipratio keyint keyint-min level log log-level lookahead-threads
    mastering-display cll mbtree me me-range merange min-keyint mixed-refs mvrange mvrange-thread nal-hrd nf nr
    open-gop output-csp overscan partitions pbratio pic-struct profile psy psy-rd psnr qblur qcomp qp qpmax qpmin
    qpstep ratetol bitrate rc-lookahead ref scenecut sliced-threads slice-max-mbs slice-max-size slice-min-mbs slices
    slices-max sps-id ssim stitchable subme subq sync-lookahead tff threads transfer trellis vbv-bufsize vbv-init
    vbv-maxrate videoformat weightb weightp alternative-transfer preset tune
    """
)
X265 = words(
    """
    allow-non-conformance amp annexb aq-auto aq-mode aq-motion aq-strength asm atc-sei aud b-adapt b-intra b-pyramid
    bframe-bias bframes bitrate chromaloc cip colormatrix colorprim cbqpoffs crqpoffs cll constrained-intra const-vbv
    copy-pic crf crf-max crf-min ctu cu-lossless cutree deblock display-window dhdr10-opt dynamic-rd dynamic-refine
    early-skip edge-bias eob eos fades fast-intra field fps frame-dup frame-threads gop-lookahead hash hdr hdr-opt
    hdr10 hdr10-opt hevc-aq high-tier hist-scenecut hme hme-range hme-search hrd hrd-concat idr-recovery-sei info
    input-csp interlace intra-refresh ipratio keyint level-idc limit-modes limit-refs limit-sao limit-tu log log-level
    lookahead-slices lookahead-threads lossless lowpass-dct master-display max-ausize-factor max-cll max-luma max-merge
    max-tu-size mcstf me merange min-cu-size min-keyint min-luma min-vbv-fullness max-vbv-fullness multi-pass-opt-rps
    nalu-hrd nr-inter nr-intra open-gop opt-cu-delta-qp opt-qp-pps opt-ref-list-length-pps overscan pbratio pme pmode
    pools preset profile psnr psy-rd psy-rdoq qblur qcomp qg-size qp qp-adaptation-range qpmax qpmin qpstep radl range
    rc-grain rc-lookahead rd rd-refine rdoq rdoq-level rdpenalty rect ref repeat-headers rskip rskip-edge-threshold
    sao sao-non-deblock sar scenecut scenecut-aware-qp scenecut-bias selective-sao signhide single-sei slices
    slow-firstpass splitrd-skip ssim ssim-rd strict-cbr strong-intra-smoothing subme temporal-layers temporal-mvp
    total-frames transfer transpose tskip tskip-fast tune tu-inter-depth tu-intra-depth uhd-bd vbv-bufsize vbv-end
    vbv-end-fr-adj vbv-init vbv-live-multi-pass vbv-maxrate video-signal-type-preset videoformat vui-hrd-info
    vui-timing-info wavefront weightb weightp wpp zone-count
    """
)
SVTAV1 = words(
    """
    ac-bias adaptive-film-grain aq-mode avif bias-pct buf-initial-sz buf-optimal-sz buf-sz chroma-sample-position
    color-format color-primaries color-range content-light crf enable-dg enable-dlf enable-mfmv enable-overlays
    enable-qm enable-restoration enable-stat-report enable-tf enable-variance-boost fast-decode film-grain
    film-grain-denoise fps fps-denom fps-num force-key-frames gop-constraint-rc hierarchical-levels input-depth
    intra-period irefresh-type key-frame-chroma-qindex-offset key-frame-qindex-offset keyint level logical-processors
    lookahead lossless lp luminance-qp-bias mastering-display matrix-coefficients max-qp max-tx-size maxsection-pct
    mbr mbr-overshoot-pct min-qp minsection-pct noise-norm-strength overshoot-pct pin pred-struct preset profile
    psy-rd qm-max qm-min qp qp-scale-compress-strength rc recode-loop resize-denom resize-kf-denom resize-mode
    rtc scd scm sframe-dist sframe-mode sharpness sharp-tx sparse-levels startup-mg-size startup-qp-offset
    superres-denom superres-kf-denom superres-kf-qthres superres-mode superres-qthres tbr tf-strength tier
    tile-columns tile-rows transfer-characteristics tune undershoot-pct use-fixed-qindex-offsets use-q-file
    variance-boost-curve variance-boost-strength variance-octile width height
    """
) - {"use-q-file"}
AOM = words(
    """
    ab-partition aq-mode arnr-maxframes arnr-strength auto-alt-ref cdf-update-mode color-primaries cpu-used cq-level
    deltaq-mode deltaq-strength denoise-block-size denoise-noise-level dist-metric enable-cdef enable-dnl-denoising
    enable-fwd-kf enable-keyframe-filtering enable-qm enable-restoration enable-tpl-model end-usage film-grain-test
    frame-boost frame-parallel full-still-picture-hdr gf-max-pyr-height gf-min-pyr-height kf-max-dist kf-min-dist
    lag-in-frames lossless matrix-coefficients max-gf-interval max-intra-rate max-reference-frames min-gf-interval
    min-q max-q mtu-size num-tile-groups passes qm-max qm-min row-mt sb-size screen-detection-mode sharpness
    static-thresh superres-mode threads tile-columns tile-rows tune tune-content undershoot-pct overshoot-pct usage
    """
)
VVENC = words(
    """
    bitrate fps framerate internal-bitdepth level passes perceptqpa poc0idr preset qp refreshsec refreshtype
    intraperiod threads tier tiles tickspersec verbosity maxbitrate rate-control
    """
)
RAV1E = words(
    "bitrate key_frame_interval low_latency min_quantizer photon_noise quantizer rdo_lookahead_frames"
    " reservoir_frame_delay speed speed_settings.motion.me_range_rdo_aware threads tile_cols tile_rows tiles"
    " tune width height"
)
KVAZAAR = words(
    "preset qp period gop ref rd mv-rdo bitrate threads owf tiles wpp sao deblock signhide me subme"
    " transform-skip intra-rdo-et bipred vaq hash info"
)
TEMPORAL = words("ts_number_layers ts_target_bitrate ts_rate_decimator ts_periodicity ts_layer_id ts_layering_mode")
MUXER = words(
    "movflags mpegts_flags frag_duration frag_size min_frag_duration brand write_tmcd flush_packets"
    " video_track_timescale use_editlist moov_size muxrate pcr_period pat_period sdt_period"
)

# Dictionaries that are not here are refused.
KEYS: Mapping[str, frozenset[str]] = {
    "x264-params": X264,
    "x264opts": X264,
    "x265-params": X265,
    "svtav1-params": SVTAV1,
    "aom-params": AOM,
    "vvenc-params": VVENC,
    "rav1e-params": RAV1E,
    "kvazaar-params": KVAZAAR,
    "ts-parameters": TEMPORAL,
    "hls_segment_options": MUXER,
    "segment_format_options": MUXER,
    "format_options": MUXER,
}

CAPS: Mapping[str, float] = {
    **dict.fromkeys(("threads", "lookahead-threads", "frame-threads", "pools", "lp", "owf"), values.MOST_THREADS),
    "logical-processors": values.MOST_THREADS,
    "rc-lookahead": 250,  # each is a picture in memory
    "sync-lookahead": 250,
    "lookahead": 250,
    "lag-in-frames": 250,
    "rdo_lookahead_frames": 250,
    "ref": 16,
    "bframes": 16,
    "fps": values.MOST_FRAMES_PER_SECOND,
    "framerate": values.MOST_FRAMES_PER_SECOND,
}


def parse(option: str, text: str) -> Pairs:
    """The keys and values in order. Raises GraphError when the encoder would not read it."""
    return tuple(_bare_pairs(text) if option == "x264opts" else _pairs(text))


def emit(option: str, pairs: Pairs) -> str:
    """A text that parses to the same pairs."""
    if option == "x264opts":
        return ":".join(key if value is None else f"{key}={value}" for key, value in pairs)
    return graph.emit_arguments(tuple(graph.Argument(value or "", key) for key, value in pairs))


def faults(option: str, pairs: Pairs) -> Iterator[str]:
    """What is wrong with the pairs, each as a sentence."""
    for key, value in pairs:
        if key.replace("_", "-").removeprefix("no-") not in KEYS[option] and key not in KEYS[option]:
            yield f"-{option} has the key {shown(key)}, which is not allowed."
        elif fault := _value_fault(key.replace("_", "-"), value or ""):
            yield f"-{option}: the value of {key} {fault}"


def _value_fault(key: str, value: str) -> str | None:
    if not VALUE.fullmatch(value):
        return "has characters that no value here has."
    if key == "pools" and not value.isdecimal() and value != "none":
        return "must be one number of threads."
    most = CAPS.get(key) or CAPS.get(key.replace("-", "_"))
    return values.fault(value) or (values.most_fault(values.rate(value), most) if most else None)


def _pairs(text: str) -> Iterator[tuple[str, str | None]]:
    at = 0
    while at < len(text):
        key, at = graph.token(text, at, "=")
        if not key or at >= len(text):
            raise graph.GraphError(f"{shown(key)} has no value.")
        value, at = graph.token(text, at + 1, ":")
        at += 1
        yield key, value


def _bare_pairs(text: str) -> Iterator[tuple[str, str | None]]:
    for part in filter(None, text.split(":")):
        key, equals, value = part.partition("=")
        yield key, value if equals else None
