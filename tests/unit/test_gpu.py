"""What is known of the machine's cards, and what follows from it for a command."""

from pathlib import Path

import pytest

from core.ffmpeg import compute, failure, validate
from core.ffmpeg.command import Command
from core.task import Failure, FailureCode
from core.worker import gpu
from core.workers import Gpu

T4 = "Tesla T4"
H100 = "NVIDIA H100 80GB HBM3"
L4 = "NVIDIA L4"


def command(text: str) -> Command:
    return validate.check(text, input_names=("in.mp4",), output_names=("out.mp4",))


H264 = command("-i in.mp4 -c:v h264_nvenc out.mp4")
AV1 = command("-i in.mp4 -c:v av1_nvenc out.mp4")
DECODED = command("-hwaccel cuda -i in.mp4 -c:v libx264 out.mp4")
PLAIN = command("-i in.mp4 -c:v libx264 out.mp4")


@pytest.mark.parametrize(
    ("asked", "cards", "why"),
    [
        (PLAIN, (), None),
        (H264, (), "The command needs an NVIDIA GPU, and this worker has none."),
        (DECODED, (), "The command needs an NVIDIA GPU, and this worker has none."),
        (H264, (T4,), None),
        (H264, ("",), None),
        (H264, (H100,), "The worker's NVIDIA H100 80GB HBM3 has no video encoder."),
        (H264, (H100, T4), None),
        (DECODED, (H100,), None),
        (AV1, (T4,), "The worker's Tesla T4 cannot encode AV1."),
        (AV1, (L4,), None),
        (AV1, (T4, L4), None),
    ],
)
def test_card_is_refused_for_what_it_is_known_not_to_do(
    asked: Command, cards: tuple[str, ...], why: str | None
) -> None:
    assert compute.refusal(asked, cards) == why


def test_cards_are_those_that_the_driver_lists(tmp_path: Path) -> None:
    for number, model in enumerate((T4, L4)):
        folder = tmp_path / "nvidia" / "gpus" / f"0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 24\nGPU UUID: \t GPU-x\n")
    devices = tmp_path / "dev"
    devices.mkdir()

    assert gpu.cards(driver=tmp_path / "nvidia", devices=devices) == ()
    (devices / "nvidiactl").touch()
    assert gpu.cards(driver=tmp_path / "nvidia", devices=devices) == (T4, L4)
    assert gpu.cards(driver=tmp_path / "none", devices=devices) == ("",)


@pytest.mark.parametrize(
    ("code", "log", "refused"),
    [
        (FailureCode.GPU_UNAVAILABLE, [], True),
        (FailureCode.TRANSCODE_FAILED, ["[h264_nvenc] [error] 10 bit encode not supported"], True),
        (FailureCode.TRANSCODE_FAILED, ["[error] Device creation failed: cuda"], True),
        (FailureCode.TRANSCODE_FAILED, ["[h264_nvenc] [warning] odd but fine", "[error] No such filter: 'x'"], False),
        (FailureCode.DISK_FULL, ["[vost#0:0/h264_nvenc] [error] Task finished with error code: -28"], False),
        (FailureCode.MEDIA_INVALID, ["[error] moov atom not found"], False),
    ],
)
def test_refusal_by_the_card_is_told_from_other_failures(code: FailureCode, log: list[str], refused: bool) -> None:
    assert failure.is_refused_by_gpu(Failure.of(code, "It failed.", details={"log": log})) is refused


def test_the_use_of_each_card_is_what_nvidia_smi_says() -> None:
    text = "37, 1024, 15360\n0, 0, 15360\n[N/A], [N/A], 81559\n"
    assert gpu.use(text) == (
        Gpu(use_percent=37.0, memory_used_bytes=1024**3, memory_total_bytes=15 * 1024**3),
        Gpu(use_percent=0.0, memory_used_bytes=0, memory_total_bytes=15 * 1024**3),
        Gpu(memory_total_bytes=81559 * 1024**2),
    )


@pytest.mark.parametrize("text", ["", "\n", "No devices were found\n", "NVIDIA-SMI has failed because\n"])
def test_no_card_is_made_up(text: str) -> None:
    assert gpu.use(text) == ()
