"""Which options may be used that carry more than a number, and which may not though they are numbers.

An option of ffmpeg's libraries whose value is a number, a flag, a size, a colour and the like is allowed unless it is
named here. One whose value is text is refused unless it is named here. The tests hold these tables against the
installed build: each text option, and each option of the program itself, must be classified.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from core.ffmpeg.values import words


class Takes(Enum):
    """What the value of an option is, and so how it is judged."""

    PLAIN = "a number, a formula, a name out of ffmpeg's own: no path"
    FREE = "text that is stored as it is"
    NAME = "a file that is written beside the output"
    TEMPLATE = "such a name with $-variables"
    FORMAT = "a container"
    CODEC = "an encoder or a decoder"
    GRAPH = "a filter graph"
    BITSTREAM = "a chain of bitstream filters"
    DICTIONARY = "the private language of an encoder"
    DEVICE = "cuda, or a device made by -init_hw_device"


_FILE: Final = "it writes a file that is not a declared output."
_READS: Final = "it reads a file that is not a declared input."
_GUARD: Final = "the service sets this limit itself."
_LOG: Final = "the service sets the log level itself."
_FLOOD: Final = "it floods the log."
_DEVICE: Final = "it opens a device by a path; -hwaccel cuda needs none."
_NETWORK: Final = "it is for a network, and a command reads and writes files only."
_SLOW: Final = "it makes the worker wait."
_KEYS: Final = "it deals with keys or files of keys."
_CHILD: Final = "it sets options of a further container that are not judged."
_DRESS: Final = "it puts an address or a path into what is written."
_PLUGIN: Final = "it loads code, or opens a device."

# Options of the program itself that take a value, as Takes.PLAIN.
MAIN_PLAIN = words(
    """
    ab ac aframes apad apply_cropping aq ar aspect atag b bits_per_raw_sample canvas_size ch_layout channel_layout
    chroma_intra_matrix content_light copypriorss copytb dframes discard display_rotation disposition drop_changed
    dts_delta_threshold dts_error_threshold enc_time_base filter_buffered_frames filter_complex_threads filter_threads
    force_key_frames fps_mode fpsmax frame_drop_threshold frames fs guess_layout_max inter_matrix intra_matrix isync
    itsoffset itsscale map map_chapters map_metadata mastering_display max_error_rate max_muxing_queue_size muxdelay
    muxing_queue_data_threshold muxpreload pass pix_fmt profile program q qscale r rc_override reinit_filter s
    sample_fmt seek_timestamp shortest_buf_duration ss sseof stag stream_group stream_loop streamid t tag target
    thread_queue_size time_base timecode timestamp to vframes vtag hwaccel_output_format
    """
)
# Options of the program itself that take none, and change nothing but how streams are chosen, copied and timed.
MAIN_SWITCHES = words(
    """
    accurate_seek an auto_conversion_filters autorotate autoscale bitexact copy_unknown copyinkf copyts display_hflip
    display_vflip dn find_stream_info fix_sub_duration fix_sub_duration_heartbeat force_fps ignore_unknown recast_media
    shortest sn start_at_zero vn xerror
    """
)
# The worker sets these itself, whatever the command says. Most commands that people have at hand contain some.
DROPPED: Final = frozenset({"y", "n", "stdin", "hide_banner", "stats", "stats_period", "benchmark", "benchmark_all"})

# What the value is, for options of the program and for text options of its libraries.
TAKES: Mapping[str, Takes] = {
    **dict.fromkeys(MAIN_PLAIN, Takes.PLAIN),
    **dict.fromkeys(("vf", "af", "filter", "filter_complex", "lavfi"), Takes.GRAPH),
    **dict.fromkeys(("c", "codec", "vcodec", "acodec", "scodec", "dcodec"), Takes.CODEC),
    **dict.fromkeys(("init_hw_device", "filter_hw_device", "hwaccel", "hwaccel_device", "gpu"), Takes.DEVICE),
    **dict.fromkeys(("f", "segment_format"), Takes.FORMAT),
    **dict.fromkeys(
        ("passlogfile", "hls_segment_filename", "hls_fmp4_init_filename", "master_pl_name", "segment_list"), Takes.NAME
    ),
    **dict.fromkeys(("hls_master_name", "segment_header_filename"), Takes.NAME),
    **dict.fromkeys(("init_seg_name", "media_seg_name", "single_file_name"), Takes.TEMPLATE),
    "metadata": Takes.FREE,
    "creation_time": Takes.FREE,
    "bsf": Takes.BITSTREAM,
    **dict.fromkeys(
        words(
            """
            x264-params x264opts x265-params svtav1-params aom-params vvenc-params rav1e-params kvazaar-params
            ts-parameters hls_segment_options segment_format_options format_options
            """
        ),
        Takes.DICTIONARY,
    ),
    # Text options of encoders: names of presets and levels, and lists of numbers.
    **dict.fromkeys(
        words("preset profile tune level psy-rd deblock partitions wpredp rc_eq crop resize layer layer_rates vendor"),
        Takes.PLAIN,
    ),
    # Of decoders: how raw or old material is to be understood.
    **dict.fromkeys(words("framerate pixel_format standard sub_charenc palette ifo_palette txt_page"), Takes.PLAIN),
    # Of muxers: brands, hashes, lists of times, streams and their groups.
    **dict.fromkeys(
        words(
            """
            brand hash adaptation_sets var_stream_map cc_stream_map segment_times segment_frames gop_timecode
            override_time_code_rate reference_stream encryption_scheme encryption_key encryption_kid
            """
        ),
        Takes.PLAIN,
    ),
    # The keys of a source that is the user's own, in hexadecimal.
    **dict.fromkeys(words("decryption_key activation_bytes audible_key audible_iv"), Takes.PLAIN),
}

REFUSED: Mapping[str, str] = {
    "progress": "the service reads the progress itself.",
    "loglevel": _LOG,
    "v": _LOG,
    "debug_ts": _FLOOD,
    "dump": _FLOOD,
    "hex": _FLOOD,
    "debug": _FLOOD,
    "fdebug": _FLOOD,
    "report": _FILE,
    "vstats": _FILE,
    "vstats_file": _FILE,
    "vstats_version": "it is of use with -vstats only, which writes a file that is not a declared output.",
    **dict.fromkeys(("stats_enc_pre", "stats_enc_post", "stats_mux_pre"), _FILE),
    **dict.fromkeys(
        ("stats_enc_pre_fmt", "stats_enc_post_fmt", "stats_mux_pre_fmt"),
        "it is of use with a file of statistics only, which is not a declared output.",
    ),
    "print_graphs": "it prints internals into the log.",
    "print_graphs_file": _FILE,
    "print_graphs_format": "it is of use with -print_graphs only.",
    "sdp_file": _FILE,
    "dump_attachment": _FILE,
    "attach": _READS,
    **dict.fromkeys(("pre", "vpre", "apre", "spre", "fpre"), _READS),
    "vaapi_device": _DEVICE,
    "qsv_device": _DEVICE,
    **dict.fromkeys(("protocol_whitelist", "protocol_blacklist", "format_whitelist", "codec_whitelist"), _GUARD),
    **dict.fromkeys(("max_alloc", "max_pixels", "max_samples", "max_streams"), _GUARD),
    "abort_on": "the service decides itself what counts as a failure.",
    "timelimit": "the task's own time limit does this.",
    **dict.fromkeys(("re", "readrate", "readrate_catchup", "readrate_initial_burst"), _SLOW),
    **dict.fromkeys(("cpuflags", "cpucount"), "it is for tests of ffmpeg."),
    # Numbers and flags that open a door.
    **dict.fromkeys(("enable_drefs", "use_absolute_path"), "it lets a file name other files."),
    **dict.fromkeys(("safe", "extension_picky", "auto_convert"), "it weakens a guard of ffmpeg."),
    **dict.fromkeys(("listen", "listen_timeout", "fd", "rtsp_flags", "rtsp_transport"), _NETWORK),
    **dict.fromkeys(("strftime", "strftime_mkdir"), "it names files by the clock."),
    **dict.fromkeys(("pattern_type", "ts_from_file", "export_path_metadata"), "an input is one file."),
    **dict.fromkeys(("hls_enc",), _KEYS),
    **dict.fromkeys(("remove_at_exit",), "it deletes what was written."),
    # Text.
    **dict.fromkeys(("allowed_extensions", "allowed_segment_extensions", "allowed_media_types"), "it weakens a guard."),
    **dict.fromkeys(
        words("aribb24-base-path assetmaps graph graph_file sub_name dumpgraph input_format seg_format_options"),
        _READS,
    ),
    **dict.fromkeys(words("x265-stats"), _FILE),
    **dict.fromkeys(words("load_plugins device font"), _PLUGIN),
    **dict.fromkeys(
        words(
            """
            aa_fixed_key audible_fixed_key cenc_decryption_key cenc_decryption_keys cryptokey decryption_iv
            decryption_keys encryption_iv hls_enc_iv hls_enc_key hls_enc_key_url hls_key_info_file iv key key_file
            key_pem ca_file cafile cert cert_file cert_pem private_key passphrase password secret
            """
        ),
        _KEYS,
    ),
    **dict.fromkeys(
        words(
            """
            authorization block boundary_tag cache_dir cname content_type cookies fec ftp-anonymous-password
            ftp-password ftp-user gateway headers http_opts http_proxy http_user_agent ice_description ice_genre
            ice_name ice_url local_addr local_port localaddr location method post_data protocol_opts
            reconnect_on_http_error referer resource rtmp_app rtmp_conn rtmp_enhanced_codecs rtmp_flashver
            rtmp_pageurl rtmp_playpath rtmp_subscribe rtmp_swfhash rtmp_swfurl rtmp_swfverify rtmp_tcurl
            rtp_muxer_options server smoother srt_streamid srtp_in_params srtp_in_suite srtp_out_params
            srtp_out_suite stream_name user_agent verifyhost
            """
        ),
        _NETWORK,
    ),
    **dict.fromkeys(
        words(
            "fifo_format fifo_options format_opts mpegts_muxer_options hls_vtt_options qsv_params oapv-params"
            " xavs2-params"
        ),
        _CHILD,
    ),
    **dict.fromkeys(
        words("hls_base_url hls_subtitle_path segment_list_entry_prefix utc_timing_url creation_program"), _DRESS
    ),
    **dict.fromkeys(words("display_name window_title name header dump_separator"), "it is for a display or the log."),
}

# The most that a number may be.
CAPS: Mapping[str, float] = {
    **dict.fromkeys(("threads", "filter_threads", "filter_complex_threads"), 16),  # threads are memory
    **dict.fromkeys(("thread_queue_size", "filter_buffered_frames"), 4096),  # packets or frames in memory
    "max_muxing_queue_size": 65536,
    "muxing_queue_data_threshold": 256 * 2**20,
    "rtbufsize": 256 * 2**20,
    "probesize": 256 * 2**20,
    "formatprobesize": 16 * 2**20,
    "analyzeduration": 120e6,
    "max_probe_packets": 10_000,
    "rc-lookahead": 250,
    "rc_lookahead": 250,
    "lag-in-frames": 250,
    "shortest_buf_duration": 60,
    "update": 1,  # one picture that is written again and again
}
RATES = words("r framerate fpsmax")
SIZES = words("s video_size canvas_size")
