"""The containers that may be read and written.

A demuxer that follows names inside a file (playlists, manifests, scripts), a capture device and what speaks to a
network are not among them; ffmpeg is told so too, by -format_whitelist, because it looks at the bytes and not at names.
"""

from core.ffmpeg.values import words

# Left out on purpose: concat hls dash imf webm_dash_manifest vobsub (open further files), sdp rtp rtsp sap (network),
# lavfi (judged by itself), svg_pipe (may name files), avisynth (code), dvdvideo (a disc), and all devices; and, as
# nobody will miss them, the formats of old games.
DEMUXERS = words(
    """
    aac aax ac3 ac4 aiff alaw amr amrnb amrwb ape apng aptx aptx_hd apv asf ass ast au av1 avi avs2 avs3 bmp_pipe caf
    cavsvideo codec2 cri_pipe data daud dds_pipe dfpwm dirac dnxhd dpx_pipe dsf dss dts dtshd dv dvbsub dvbtxt eac3
    evc exr_pipe f32be f32le f64be f64le ffmetadata fits flac flv g722 g723_1 g726 g726le g729 gem_pipe gif gif_pipe
    gsm gxf h261 h263 h264 hdr_pipe hevc iamf ico iff ilbc image2 ircam ivf ivr j2k_pipe jpeg_pipe jpegls_pipe
    jpegxl_anim jpegxl_pipe jpegxs_pipe lc3 live_flv loas lrc m4v matroska webm microdvd mjpeg mjpeg_2000 mlp mmf mov
    mp4 m4a 3gp 3g2 mj2 mp3 mpc mpc8 mpeg mpegts mpegvideo mpl2 mpsub mulaw mv mxf nistsphere nut nuv obu ogg oma
    pam_pipe pbm_pipe pcx_pipe pfm_pipe pgm_pipe pgmyuv_pipe pgx_pipe phm_pipe photocd_pipe pictor_pipe pjs png_pipe
    ppm_pipe psd_pipe qcp qdraw_pipe qoa qoi_pipe rawvideo realtext rka rm s16be s16le s24be s24le s32be s32le s8 sami
    sbc sbg scc sgi_pipe sox spdif srt stl subviewer subviewer1 sunrast_pipe sup swf tak tedcaptions tiff_pipe truehd
    tta ty u16be u16le u24be u24le u32be u32le u8 v210 v210x vag vbn_pipe vc1 vc1test voc vplayer vqf vvc w64 wav
    wavarc webp_anim webp_pipe webvtt wtv wv xbm_pipe xmv xpm_pipe xwd_pipe yuv4mpegpipe
    """
)

MUXERS = words(
    """
    3g2 3gp ac3 ac4 adts adx aea aiff alaw amr amv apng aptx aptx_hd apv asf asf_stream ass ast au avi avif avs2 avs3
    bit caf cavsvideo chromaprint codec2 codec2raw crc data daud dfpwm dirac dnxhd dts dv dvd eac3 evc f32be f32le f4v
    f64be f64le ffmetadata filmstrip fits flac flv framecrc framehash framemd5 g722 g723_1 g726 g726le gif gsm gxf h261
    h263 h264 hash hevc iamf ico ilbc image2pipe ipod ircam ismv ivf jacosub latm lc3 lrc m4v matroska mcc md5 microdvd
    mjpeg mkvtimestamp_v2 mlp mmf mov mp2 mp3 mp4 mpeg mpeg1video mpeg2video mpegts mpjpeg mulaw mxf mxf_d10 mxf_opatom
    nut obu oga ogg ogv oma opus psp rawvideo rcwt rm roq rso s16be s16le s24be s24le s32be s32le s8 sbc scc smjpeg sox
    spdif spx srt streamhash sup svcd swf truehd tta ttml u16be u16le u24be u24le u32be u32le u8 vc1 vc1test vcd vidc
    vob voc vvc w64 wav webm webp webvtt wsaud wtv wv yuv4mpegpipe
    """
)
# They write several files: all in the output's folder, as the names that they are given are plain names.
FOLDER_MUXERS = words("hls dash segment stream_segment ssegment image2")

# The extensions that choose one of these muxers when there is no -f.
EXTENSIONS = words(
    """
    264 265 266 302 3g2 3gp aac ac3 ac4 adts adx afc aif aifc aiff al amr amv apng aptx aptxhd apv asf ass ast au aud
    avi avif avs2 avs3 bit bmp bmp2 c2 caf cavs daud dfpwm dnxhd dnxhr dpx drc dts dv dvd eac3 ec3 evc exr f4v ffmeta
    fits flac flm flv g722 gif gsm gxf h261 h263 h264 h265 h266 hdr hevc iamf ico im1 im24 im8 isma ismv ivf j2c j2k
    jls jp2 jpeg jpg js jss jxl jxs latm lbc lc3 ljpg loas lrc m1v m2a m2t m2ts m2v m3u8 m4a m4b m4v mcc mjpeg mjpg
    mka mks mkv mk3d mlp mmf mov mp2 mp3 mp4 mpa mpd mpeg mpg msbc mts mxf nut obu oga ogg ogv oma opus pam pbm pcx pfm
    pgm pgmyuv phm pix png ppm psp qoi ra ras rcv rco rgb rm roq rs rso sb sbc scc sf sgi sox spdif spx srt ssa sub
    sun sunras sup sw swf tco tga thd tif tiff ts tta ttml tun ub ul uw vag vbn vc1 vc2 vob voc vtt vvc w64 wav wbmp
    webm webp wma wmv wtv wv xbm xface xwd y y4m yuv
    """
)

# An input keeps its extension on disk, save these: ffmpeg goes by them to formats that name further files.
UNSAFE_EXTENSIONS = words("svg svgz m3u8 m3u mpd ism sdp idx avs ffconcat concat txt xml")

WHITELIST = ",".join(sorted(DEMUXERS))


def demuxer_fault(name: str) -> str | None:
    """Why an input may not be read as `name`, as the end of a sentence."""
    return None if name in DEMUXERS else "is no format that an input may be read as."


def muxer_fault(name: str) -> str | None:
    return None if name in MUXERS or name in FOLDER_MUXERS else "is no format that an output may be written in."


def extension_fault(extension: str) -> str | None:
    return None if extension.lower() in EXTENSIONS else "tells no format that may be written: use another, or -f."
