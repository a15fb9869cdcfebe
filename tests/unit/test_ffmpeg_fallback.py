"""The CPU form of GPU commands: whole commands compared, and each form run by the real ffmpeg."""

import re
import subprocess
from pathlib import Path

import pytest

from core.ffmpeg import build, compute, fallback, validate
from core.ffmpeg.fallback import NoCpuForm
from core.worker import process

FFMPEG = process.find_ffmpeg(None)
IN, OUT = ("in.mp4",), ("out.mp4",)

# A command for the GPU, and the one that stands in for it.
FORMS = {
    "h264": (
        "-hwaccel cuda -hwaccel_output_format cuda -i in.mp4 -vf scale_cuda=1280:720 -c:v h264_nvenc -preset p5 "
        "-rc vbr -cq 23 -b:v 0 -c:a copy out.mp4",
        "-i in.mp4 -vf scale=w=1280:h=720 -c:v libx264 -preset medium -crf 23 -c:a copy out.mp4",
    ),
    "hevc": (
        "-i in.mp4 -c:v hevc_nvenc -preset p4 -tune hq -rc:v vbr -cq:v 26 -spatial-aq 1 -rc-lookahead 20 -tag:v hvc1 "
        "-c:a aac out.mp4",
        "-i in.mp4 -c:v libx265 -preset medium -crf:v 26 -tag:v hvc1 -c:a aac out.mp4",
    ),
    "av1": (
        "-i in.mp4 -c:v av1_nvenc -preset p7 -cq 30 -pix_fmt p010le -tile-rows 2 -multipass fullres out.mp4",
        "-i in.mp4 -c:v libsvtav1 -preset 5 -crf 30 -pix_fmt yuv420p10le out.mp4",
    ),
    "a graph": (
        "-hwaccel cuda -hwaccel_output_format cuda -i in.mp4 -filter_complex "
        "'[0:v]scale_cuda=w=640:h=-2:interp_algo=lanczos:format=nv12,hwdownload,format=nv12,hwupload_cuda[v]' "
        "-map '[v]' -map '0:a?' -c:v h264_nvenc -c:a copy out.mp4",
        "-i in.mp4 -filter_complex '[0:v]scale=w=640:h=-2:flags=lanczos,format=pix_fmts=yuv420p,null,"
        "format=pix_fmts=nv12,null[v]' -map '[v]' -map '0:a?' -c:v libx264 -c:a copy out.mp4",
    ),
    "a decoder": (
        "-c:v h264_cuvid -surfaces 8 -i in.mp4 -vf yadif_cuda=deint=interlaced -c:v h264_nvenc -b:v 2M -maxrate 3M "
        "-bufsize 4M -profile:v high -coder cavlc out.mp4",
        "-i in.mp4 -vf yadif=deint=interlaced -c:v libx264 -b:v 2M -maxrate 3M -bufsize 4M -profile:v high -coder vlc "
        "out.mp4",
    ),
    "lossless": (
        "-i in.mp4 -c:v h264_nvenc -tune lossless -no-scenecut 1 -g 48 -an out.mp4",
        "-i in.mp4 -c:v libx264 -qp 0 -sc_threshold 0 -g 48 -an out.mp4",
    ),
    "ten bits": (
        "-i in.mp4 -c:v hevc_nvenc -highbitdepth 1 -profile:v main10 -tune ull -an out.mp4",
        "-i in.mp4 -c:v libx265 -pix_fmt yuv420p10le -profile:v main10 -tune zerolatency -an out.mp4",
    ),
    "the audio's options are its own": (
        "-i in.mp4 -c:v h264_nvenc -qp 20 -rc constqp -c:a aac -b:a 96k out.mp4",
        "-i in.mp4 -c:v libx264 -qp 20 -c:a aac -b:a 96k out.mp4",
    ),
    "nothing to replace": ("-i in.mp4 -c:v libx264 -crf 20 out.mp4", "-i in.mp4 -c:v libx264 -crf 20 out.mp4"),
}
GPU_ONLY = {
    "-i in.mp4 -vf bilateral_cuda=sigmaS=3 -c:v libx264 out.mp4": "The filter bilateral_cuda has no like on the CPU.",
    "-i in.mp4 -c:v hevc_nvenc -tune lossless out.mp4": "libx265 has no lossless mode that could be asked for in the "
    "same way.",
    "-i in.mp4 -map 0:v -map 0:v -c:v:0 h264_nvenc -c:v:1 libx265 out.mp4": "out.mp4 mixes encoders, whose options "
    "cannot be told apart.",
    "-c:v h264_cuvid -resize 640x360 -i in.mp4 -c:v h264_nvenc out.mp4": "-resize is done by the card's decoder; a "
    "filter would do it on either.",
}


@pytest.mark.parametrize(("gpu", "cpu"), FORMS.values(), ids=FORMS)
def test_cpu_form_is_the_same_command_by_other_means(gpu: str, cpu: str) -> None:
    command = validate.check(gpu, input_names=IN, output_names=OUT)
    wanted = validate.check(cpu, input_names=IN, output_names=OUT)

    form = fallback.to_cpu(command)

    assert form.text == wanted.text
    assert compute.needs(form) == "cpu"
    assert validate.check(form.text, input_names=IN, output_names=OUT).text == form.text


@pytest.mark.parametrize(("gpu", "cpu"), FORMS.values(), ids=FORMS)
def test_cpu_form_runs(gpu: str, cpu: str, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    source = "testsrc2=size=320x240:rate=25:duration=0.4"
    make = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", source, "-f", "lavfi", "-i", "sine=duration=0.4"]
    subprocess.run([*make, "-c:v", "libx264", tmp_path / "i0.mp4"], check=True)
    form = fallback.to_cpu(validate.check(gpu, input_names=IN, output_names=OUT))

    arguments = build.build(form, inputs={"in.mp4": "../i0.mp4"}, progress_fd=1, max_output_bytes=10**8)
    done = subprocess.run([FFMPEG, *arguments], cwd=tmp_path / "o", capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o" / "out.mp4").stat().st_size > 1000


@pytest.mark.parametrize(("gpu", "why"), GPU_ONLY.items())
def test_command_without_a_cpu_form_says_why(gpu: str, why: str) -> None:
    command = validate.check(gpu, input_names=IN, output_names=OUT)

    with pytest.raises(NoCpuForm) as refused:
        fallback.to_cpu(command)

    assert str(refused.value) == why


@pytest.mark.parametrize("encoder", fallback.ENCODERS)
def test_every_option_of_the_cards_encoders_has_its_place(encoder: str) -> None:
    shown = subprocess.run([FFMPEG, "-hide_banner", "-h", f"encoder={encoder}"], capture_output=True, text=True).stdout
    options = set(re.findall(r"^  -(\S+)", shown, re.MULTILINE))

    assert len(options) > 20
    assert options <= fallback.CHANGED | fallback.DROPPED | set().union(*fallback.KEPT.values())


def test_what_is_kept_exists_under_that_name() -> None:
    generic = {"qmin", "qmax"}
    for encoder, kept in fallback.KEPT.items():
        shown = subprocess.run([FFMPEG, "-hide_banner", "-h", f"encoder={encoder}"], capture_output=True, text=True)
        assert kept - generic <= set(re.findall(r"^  -(\S+)", shown.stdout, re.MULTILINE))


def test_every_filter_of_the_card_is_replaced_or_refused() -> None:
    listed = subprocess.run([FFMPEG, "-hide_banner", "-filters"], capture_output=True, text=True).stdout
    cuda = set(re.findall(r"\b(\w+_cuda)\b", listed))

    assert cuda - fallback.FILTERS.keys() - fallback.CARRIERS == {"bilateral_cuda", "colorspace_cuda"}
