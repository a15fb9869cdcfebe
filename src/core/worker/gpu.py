"""Which NVIDIA cards this machine has, as its driver lists them in /proc, and what nvidia-smi says of their use.

Nothing is loaded or started here.
"""

from pathlib import Path

from core.workers import Gpu

DRIVER = Path("/proc/driver/nvidia")
DEVICES = Path("/dev")
# What nvidia-smi is asked for: percent, MiB, MiB. It says [N/A] for what a card does not tell.
ASKED = ("utilization.gpu", "memory.used", "memory.total")


def cards(*, driver: Path = DRIVER, devices: Path = DEVICES) -> tuple[str, ...]:
    """The model of each card, "" where the driver does not tell; empty without cards, or with none that can be used."""
    if not (devices / "nvidiactl").exists():  # a container that was not given them
        return ()
    listed = sorted(driver.glob("gpus/*/information"))
    return tuple(_model(path) for path in listed) or ("",)


def _model(information: Path) -> str:
    try:
        lines = information.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "")


def use(text: str) -> tuple[Gpu, ...]:
    """The cards, from nvidia-smi's answer, a line each; a line of another kind is no card."""
    rows = ([cell.strip() for cell in line.split(",")] for line in text.splitlines())
    return tuple(_card(*row) for row in rows if len(row) == len(ASKED))


def _card(use: str, memory_used: str, memory_total: str) -> Gpu:
    return Gpu(
        use_percent=_number(use), memory_used_bytes=_mebibytes(memory_used), memory_total_bytes=_mebibytes(memory_total)
    )


def _number(text: str) -> float | None:
    return float(text) if text.isdigit() else None


def _mebibytes(text: str) -> int | None:
    return int(text) * 1024**2 if text.isdigit() else None
