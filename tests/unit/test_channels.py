"""Which channels there are by which settings, and the key that one machine signs with where none was set."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from core import wiring
from core.aws.event_bus import EventBusChannel
from core.settings import Settings
from core.task import Task
from core.worker.webhook import WebhookChannel

SECRET = "whsec_" + "c2VjcmV0" * 4
OTHER = "whsec_" + "dGVyY2Vz" * 4


def shown(task: Task) -> str:
    return ""


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, {}),
        ({"WEBHOOK_SECRET": SECRET}, {"webhook": WebhookChannel}),
        (
            {"WEBHOOK_SECRET": f"{SECRET} {OTHER}", "EVENT_BUS": "ends"},
            {"webhook": WebhookChannel, "event": EventBusChannel},
        ),
        ({"EVENT_BUS": "ends"}, {"event": EventBusChannel}),
    ],
)
def test_channels_are_those_that_are_set_up(env: dict[str, str], expected: dict[str, type]) -> None:
    made = wiring.channels(Settings.from_env(env), shown)
    assert {name: type(channel) for name, channel in made.items()} == expected


def test_one_machine_keeps_a_key_of_its_own_to_sign_with(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    made = wiring.signing(settings).webhook_secret
    again = wiring.signing(settings).webhook_secret
    file = tmp_path / "data" / "webhook-secret"
    assert made == again == f"whsec_{base64.b64encode(file.read_bytes()).decode()}"
    assert file.stat().st_mode & 0o777 == 0o600
    assert Settings.from_env({"WEBHOOK_SECRET": made or ""}).webhook_secret == made
    # Another one than that of the links, which callers see the signatures of.
    wiring.local(settings, {})
    assert file.read_bytes() != (tmp_path / "data" / "secret").read_bytes()


def test_a_secret_that_was_set_is_taken(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", webhook_secret=SECRET)
    assert wiring.signing(settings) == settings
    assert not settings.data_dir.exists()


def test_nothing_of_a_channel_is_loaded_before_it_is_made() -> None:
    """The API makes none, and a cold start is not to wait for what it does not use."""
    program = "import sys; from core import wiring; print({'httpx', 'botocore', 'core.worker'} & set(sys.modules))"
    made = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert made.stdout == "set()\n"
