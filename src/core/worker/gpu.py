"""Which NVIDIA cards this machine has, as its driver lists them in /proc. Nothing is loaded or started for it."""

from pathlib import Path

DRIVER = Path("/proc/driver/nvidia")
DEVICES = Path("/dev")


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
