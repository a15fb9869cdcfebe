"""Which filters may be used, and what each text of theirs may say. A filter or a text that is not named here may not.

A number, a flag, a size or a colour names no file, so those options need no word here. The tests hold these tables
against the installed build: each of its filters, and each text option of an allowed one, must be classified.
"""

from collections.abc import Mapping
from enum import Enum

from core.ffmpeg.values import words


class Text(Enum):
    """What the value of a text option is."""

    EXPRESSION = "a formula, or a list of numbers or names: nothing in it is opened"
    WORDS = "names out of a fixed set, with nothing but plain letters"
    FREE = "what is written into the picture or the file"
    FILE = "a file to read: an input of the command"
    SHAPE = "what its pattern in SHAPES lets through"


# Sources that make frames for ever, unless told for how long; by the names of their options that tell it.
SOURCES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        words(
            """
        allrgb allyuv color colorchart colorspectrum gradients haldclutsrc nullsrc pal100bars pal75bars rgbtestsrc
        smptebars smptehdbars testsrc testsrc2 yuvtestsrc zoneplate mptestsrc perlin
        """
        ),
        ("duration", "d"),
    ),
    **dict.fromkeys(["aevalsrc", "anoisesrc", "anullsrc", "sine", "avsynctest"], ("duration", "d")),
    **dict.fromkeys(["cellauto", "life", "mandelbrot", "sierpinski"], ()),  # cannot be told
}

# They keep all that comes in until it ends, so what comes in must end by itself.
GATHERING = words("areverse palettegen reverse showspectrumpic showwavespic")

ALLOWED: frozenset[str] = words(
    """
    a3dscope aap abitscope acompressor acontrast acopy acrossfade acrossover acrusher addroi adeclick adeclip
    adecorrelate adelay adenorm aderivative adrawgraph adrc adynamicequalizer adynamicsmooth aecho aemphasis aeval
    aevalsrc aexciter afade afdelaysrc afftdn afftfilt afir afireqsrc afirsrc aformat afreqshift afwtdn agate
    ahistogram aiir aintegral ainterleave alatency alimiter allpass allrgb allyuv aloop alphaextract alphamerge
    amerge ametadata amix amplify amultiply anequalizer anlmdn anlmf anlms anoisesrc anull anullsink anullsrc apad
    aphasemeter aphaser aphaseshift apsnr apsyclip apulsator aresample areverse arls arnndn asdr asegment aselect
    asetnsamples asetpts asetrate asettb ashowinfo asidedata asisdr asoftclip aspectralstats asplit ass astats
    astreamselect asubboost asubcut asupercut asuperpass asuperstop atadenoise atempo atilt atrim avectorscope
    avgblur avsynctest axcorrelate backgroundkey bandpass bandreject bass bbox bilateral bilateral_cuda biquad
    bitplanenoise blackdetect blackframe blend blockdetect blurdetect bm3d boxblur bwdif bwdif_cuda cas ccrepack
    cellauto channelmap channelsplit chorus chromahold chromakey chromakey_cuda chromanr chromashift ciescope
    codecview color colorbalance colorchannelmixer colorchart colorcontrast colorcorrect colordetect colorhold
    colorize colorkey colorlevels colormap colormatrix colorspace colorspace_cuda colorspectrum colortemperature
    compand compensationdelay concat convolution convolve copy corr crop cropdetect crossfeed crystalizer curves
    datascope dblur dcshift dctdnoiz deband deblock decimate deconvolve dedot deesser deflate deflicker dejudder
    delogo deshake despill detelecine dialoguenhance dilation displace doubleweave drawbox drawgraph drawgrid
    drawtext drmeter dynaudnorm earwax ebur128 edgedetect elbg entropy epx eq equalizer erosion estdif exposure
    extractplanes extrastereo fade fftdnoiz fftfilt field fieldmatch fieldorder fillborders firequalizer flanger
    floodfill format fps framepack framerate framestep freezedetect freezeframes fspp gblur geq gradfun gradients
    grayworld greyedge guided haas haldclut haldclutsrc hdcd headphone hflip highpass highshelf hilbert histeq
    histogram hqdn3d hqx hstack hsvhold hsvkey hue huesaturation hwdownload hwupload hwupload_cuda hysteresis
    identity idet il inflate interlace interleave join kerndeint kirsch lagfun latency lenscorrection libvmaf life
    limitdiff limiter loop loudnorm lowpass lowshelf lumakey lut lut1d lut2 lut3d lutrgb lutyuv mandelbrot
    maskedclamp maskedmax maskedmerge maskedmin maskedthreshold maskfun mcdeint mcompand median mergeplanes
    mestimate metadata midequalizer minterpolate mix monochrome morpho mpdecimate mptestsrc msad multiply negate
    nlmeans noformat noise normalize null nullsink nullsrc oscilloscope overlay overlay_cuda owdenoise pad pad_cuda
    pal100bars pal75bars palettegen paletteuse pan perlin perspective phase photosensitivity pixelize pixscope pp7
    premultiply premultiply_dynamic prewitt pseudocolor psnr pullup qp random readeia608 readvitc remap removegrain
    repeatfields replaygain reverse rgbashift rgbtestsrc roberts rotate rubberband sab scale scale2ref scale_cuda
    scdet scharr scroll segment select selectivecolor separatefields setdar setfield setparams setpts setrange
    setsar settb shear showcqt showcwt showfreqs showinfo showpalette showspatial showspectrum showspectrumpic
    showvolume showwaves showwavespic shuffleframes shufflepixels shuffleplanes sidechaincompress sidechaingate
    sidedata sierpinski signalstats silencedetect silenceremove sinc sine siti smartblur smptebars smptehdbars sobel
    spectrumsynth speechnorm split spp ssim stereo3d stereotools stereowiden streamselect subtitles super2xsai
    superequalizer surround swaprect swapuv tblend telecine testsrc testsrc2 thistogram threshold thumbnail
    thumbnail_cuda tile tiltandshift tiltshelf tinterlace tlut2 tmedian tmidequalizer tmix tonemap tpad transpose
    transpose_cuda treble tremolo trim unpremultiply unsharp untile v360 vaguedenoiser varblur vectorscope vflip
    vfrdet vibrance vibrato vif vignette virtualbass vmafmotion volume volumedetect vstack w3fdif waveform weave xbr
    xcorrelate xfade xmedian xpsnr xstack yadif yadif_cuda yaepblur yuvtestsrc zoneplate zoompan zscale
    """
)

# Text options that are formulas, lists of numbers, or weights.
EXPRESSIONS: Mapping[str, str] = {
    "acrossover": "split gain",
    "addroi": "x y w h",
    "adelay": "delays",
    "adrawgraph": "fg1 fg2 fg3 fg4",
    "adrc": "transfer",
    "aecho": "delays decays",
    "aeval": "exprs",
    "aevalsrc": "exprs sample_rate s",
    "afftdn": "band_noise bn",
    "afftfilt": "real imag",
    "afireqsrc": "gains g bands b",
    "afirsrc": "frequency f magnitude m phase p",
    "aiir": "zeros z poles p gains k",
    "ametadata": "expr",
    "amix": "weights",
    "anequalizer": "params",
    "asegment": "timestamps samples",
    "aselect": "expr e",
    "asetpts": "expr",
    "asettb": "expr tb",
    "astreamselect": "map",
    "blend": "c0_expr c1_expr c2_expr c3_expr all_expr",
    "boxblur": "luma_radius lr chroma_radius cr alpha_radius ar",
    "cellauto": "pattern p",
    "chorus": "delays decays speeds depths",
    "compand": "attacks decays points",
    "convolution": "0m 1m 2m 3m",
    "crop": "out_w w out_h h x y",
    "curves": "master m red r green g blue b all",
    "dctdnoiz": "expr e",
    "delogo": "x y w h",
    "detelecine": "pattern",
    "drawbox": "x y width w height h thickness t",
    "drawgraph": "fg1 fg2 fg3 fg4",
    "drawgrid": "x y width w height h thickness t",
    "drawtext": "fontcolor_expr boxborderw fontsize x y alpha",
    "dynaudnorm": "curve v",
    "eq": "contrast brightness saturation gamma gamma_r gamma_g gamma_b gamma_weight",
    "fftfilt": "weight_Y weight_U weight_V",
    "firequalizer": "gain gain_entry",
    "fps": "fps",
    "geq": "lum_expr lum cb_expr cb cr_expr cr alpha_expr a red_expr r green_expr g blue_expr b",
    "hue": "h s H b",
    "libvmaf": "pool",
    "life": "rule",
    "lut": "c0 c1 c2 c3 y u v r g b a",
    "lut2": "c0 c1 c2 c3",
    "lutrgb": "c0 c1 c2 c3 y u v r g b a",
    "lutyuv": "c0 c1 c2 c3 y u v r g b a",
    "mcompand": "args",
    "metadata": "expr",
    "mix": "weights",
    "overlay": "x y",
    "overlay_cuda": "x y",
    "pad": "width w height h x y",
    "pad_cuda": "width w height h x y",
    "pan": "args",
    "perspective": "x0 y0 x1 y1 x2 y2 x3 y3",
    "pseudocolor": "c0 c1 c2 c3",
    "qp": "qp",
    "rotate": "angle a out_w ow out_h oh",
    "scale": "w width h height",
    "scale2ref": "w width h height",
    "scale_cuda": "w h",
    "segment": "timestamps frames",
    "select": "expr e",
    "selectivecolor": "reds yellows greens cyans blues magentas whites neutrals blacks",
    "setdar": "dar ratio r",
    "setpts": "expr",
    "setsar": "sar ratio r",
    "settb": "expr tb",
    "showcqt": "sono_v volume bar_v volume2 tlength fontcolor cscheme",
    "showcwt": "rate r",
    "showspectrum": "fps",
    "showvolume": "c",
    "shuffleframes": "mapping",
    "sine": "samples_per_frame",
    "streamselect": "map",
    "swaprect": "w h x1 y1 x2 y2",
    "tblend": "c0_expr c1_expr c2_expr c3_expr all_expr",
    "telecine": "pattern",
    "tlut2": "c0 c1 c2 c3",
    "tmix": "weights",
    "vignette": "angle a x0 y0",
    "volume": "volume",
    "xfade": "expr",
    "xstack": "layout",
    "zoompan": "zoom z x y d",
    "zscale": "w width h height",
}

# Text options that name channels, formats, colours or scalers of ffmpeg.
WORDS: Mapping[str, str] = {
    "abitscope": "colors",
    "adrawgraph": "m1 m2 m3 m4",
    "adrc": "channels",
    "aeval": "channel_layout c",
    "aevalsrc": "channel_layout c",
    "allpass": "channels c",
    "anequalizer": "colors",
    "aphasemeter": "mpc",
    "asubboost": "channels",
    "bandpass": "channels c",
    "bandreject": "channels c",
    "bass": "channels c",
    "biquad": "channels c",
    "channelmap": "map",
    "channelsplit": "channels",
    "drawbox": "color c box_source",
    "drawgraph": "m1 m2 m3 m4",
    "drawgrid": "color c",
    "drawtext": "font text_source",
    "dynaudnorm": "channels h",
    "equalizer": "channels c",
    "format": "pix_fmts color_spaces color_ranges alpha_modes",
    "headphone": "map",
    "highpass": "channels c",
    "highshelf": "channels c",
    "hwupload": "derive_device",
    "join": "map",
    "libvmaf": "log_fmt",
    "lowpass": "channels c",
    "lowshelf": "channels c",
    "noformat": "pix_fmts color_spaces color_ranges alpha_modes",
    "rotate": "fillcolor c",
    "scale": "flags size s",
    "scale2ref": "flags size s",
    "shear": "fillcolor c",
    "showcqt": "font",
    "showfreqs": "colors channels",
    "showwaves": "colors",
    "showwavespic": "colors",
    "speechnorm": "channels h",
    "subtitles": "charenc",
    "tiltshelf": "channels c",
    "tinterlace": "flags",
    "treble": "channels c",
    "v360": "in_forder out_forder in_frot out_frot rorder",
    "xstack": "fill",
    "zscale": "size s",
}

# Text options that are drawn or stored as they are.
FREE: Mapping[str, str] = {
    "ametadata": "key value",
    "drawtext": "text timecode",
    "metadata": "key value",
    "subtitles": "force_style",
}

# Text options that name a file to read: legal when it is an input of the command.
FILES: Mapping[str, str] = {
    "arnndn": "model m",
    "ass": "filename f",
    "curves": "psfile",
    "drawtext": "fontfile textfile",
    "lut1d": "file",
    "lut3d": "file",
    "selectivecolor": "psfile",
    "showcqt": "fontfile",
    "subtitles": "filename f",
}

# libvmaf can be told to read a model from a file and to write pictures; only its built-in parts are open.
SHAPES: Mapping[tuple[str, str], str] = {
    ("libvmaf", "model"): r"version=[\w.]+",
    ("libvmaf", "feature"): r"(?:name=\w+\|?)+",
}

# Text options of allowed filters that may not be used.
REFUSED_TEXTS: Mapping[str, Mapping[str, str]] = {
    "it writes a file that is not a declared output.": {
        "ametadata": "file",
        "curves": "plot",
        "deshake": "filename",
        "firequalizer": "dumpfile",
        "libvmaf": "log_path",
        "loudnorm": "stats_file",
        "metadata": "file",
        "paletteuse": "debug_kdtree",
        "psnr": "stats_file f",
        "ssim": "stats_file f",
        "vmafmotion": "stats_file",
        "xpsnr": "stats_file f",
    },
    "it reads a file or a folder that is no input.": {
        "ass": "fontsdir",
        "cellauto": "filename f",
        "life": "filename f",
        "showcqt": "axisfile",
        "subtitles": "fontsdir",
    },
}

# Filters that may not be used, and why.
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        words(
            """
        amovie cover_rect fieldhint find_rect fsync movie nnedi removelogo signature ssim360 vidstabdetect
        vidstabtransform
        """
        ),
        "it opens files that are not declared.",
    ),
    **dict.fromkeys(
        words(
            """
        frei0r frei0r_src libplacebo lv2 openclsrc program_opencl
        """
        ),
        "it loads code from a file.",
    ),
    **dict.fromkeys(
        words(
            """
        asendcmd azmq sendcmd zmq
        """
        ),
        "it changes other filters while they run.",
    ),
    **dict.fromkeys(
        words(
            """
        avgblur_opencl avgblur_vulkan blackdetect_vulkan blend_vulkan boxblur_opencl bwdif_vulkan chromaber_vulkan
        color_vulkan colorkey_opencl convolution_opencl deinterlace_qsv deinterlace_vaapi denoise_vaapi
        deshake_opencl dilation_opencl drawbox_vaapi erosion_opencl flip_vulkan gblur_vulkan hflip_vulkan hstack_qsv
        hstack_vaapi hwmap interlace_vulkan lcevc nlmeans_opencl nlmeans_vulkan overlay_opencl overlay_qsv
        overlay_vaapi overlay_vulkan pad_opencl pad_vaapi prewitt_opencl procamp_vaapi remap_opencl roberts_opencl
        scale_qsv scale_vaapi scale_vulkan scdet_vulkan sharpness_vaapi sobel_opencl sr_amf tonemap_opencl
        tonemap_vaapi transpose_opencl transpose_vaapi transpose_vulkan unsharp_opencl v360_vulkan vflip_vulkan
        vpp_amf vpp_qsv vsrc_amf vstack_qsv vstack_vaapi xfade_opencl xfade_vulkan xstack_qsv xstack_vaapi
        """
        ),
        "it needs a device that the service does not have; CUDA filters are allowed.",
    ),
    **dict.fromkeys(
        words(
            """
        acue arealtime cue realtime
        """
        ),
        "it waits for the clock, and a worker is not to wait.",
    ),
    **dict.fromkeys(
        words(
            """
        abench abuffer abuffersink agraphmonitor aperms bench buffer buffersink feedback graphmonitor perms
        pixdesctest uspp
        """
        ),
        "it is for the tests or the insides of ffmpeg.",
    ),
}
