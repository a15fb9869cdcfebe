"""The flags that several commands share, and what they come to.

What takes long to import is imported where it is needed: `--help` needs none of it.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from handlers.client import config
from handlers.client.faults import Unreachable, Usage
from handlers.client.request import FIELDS, Wish
from handlers.client.signals import Stop

if TYPE_CHECKING:
    from handlers.client.api import Api

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Way:
    """How to reach the service, and how to answer."""

    server: str | None
    key: str | None
    aws_region: str | None
    as_json: bool


def show(way: Way, body: Any, text: str) -> None:
    """The answer of a command, on stdout."""
    click.echo(json.dumps(body, ensure_ascii=False) if way.as_json else text)


def of_service(command: F) -> F:
    """--server, --key and --json, as the argument `way`."""

    def called(*, server: str | None, key: str | None, aws_region: str | None, as_json: bool, **given: Any) -> Any:
        way = Way(server=server, key=key, aws_region=aws_region, as_json=as_json)
        return command(way=way, **given)

    called.__doc__, called.__name__ = command.__doc__, command.__name__
    called.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    return _with(
        cast("F", called),
        click.option("--server", envvar=f"{config.PREFIX}_SERVER", help=f"The service [{config.USUAL_SERVER}]."),
        click.option("--key", envvar=f"{config.PREFIX}_KEY", help="Your API key; better in the environment."),
        click.option("--aws-region", envvar=f"{config.PREFIX}_AWS_REGION", help="Sign as AWS does, for this region."),
        click.option("--json", "as_json", is_flag=True, help="Answer with JSON, also when something is wrong."),
    )


def of_transcode(command: F) -> F:
    """What is to be done, as the arguments that `wish` reads."""
    return _with(
        command,
        click.option("--command", help="What you would type after ffmpeg, with the files' names."),
        click.option("--preset", help="A command kept ready; `presets` lists them."),
        click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the preset."),
        click.option("--video-codec", help="h264, hevc, av1, vp9, prores, copy, or an encoder such as libx264."),
        click.option("--crf", help="Constant quality in the encoder's measure."),
        click.option("--video-bitrate", help="Such as 2.5M, in the place of --crf."),
        click.option("--fps", help="25, 30000/1001."),
        click.option("--scale", help="1280x720, or -2:720."),
        click.option("--video-preset", help="ultrafast to veryslow."),
        click.option("--video-profile"),
        click.option("--pixel-format"),
        click.option("--audio-codec", help="aac, opus, mp3, flac, copy, or an encoder such as libopus."),
        click.option("--audio-bitrate", help="Such as 128k."),
        click.option("--channels"),
        click.option("--sample-rate"),
        click.option("--start", help="Seconds, or HH:MM:SS."),
        click.option("--end"),
        click.option("--duration"),
        click.option("--container"),
        click.option("--no-video", is_flag=True),
        click.option("--no-audio", is_flag=True),
        click.option(
            "--extra", multiple=True, metavar="WORD", help="A word of ffmpeg's, before the output; repeatable."
        ),
        click.option("--compute", type=click.Choice(["auto", "gpu", "cpu"])),
        click.option("--gpu-fallback", is_flag=True, help="Run on a CPU where no GPU can."),
        click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="The most that ffmpeg may take."),
        click.option("--callback-url", help="Where the service tells of the end."),
        click.option("--metadata", multiple=True, metavar="NAME=TEXT", help="Words of your own; repeatable."),
    )


def of_progress(command: F) -> F:
    return _with(
        command,
        click.option("-f", "--force", is_flag=True, help="Overwrite files that are there."),
        click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
    )


def wish(given: dict[str, Any]) -> Wish:
    """Take the flags of `of_transcode` out of `given`. Raises Usage."""
    further = {
        "compute": given.pop("compute"),
        "gpu_fallback": given.pop("gpu_fallback") or None,
        "timeout_seconds": given.pop("timeout"),
        "callback_url": given.pop("callback_url"),
        "metadata": _pairs(given.pop("metadata"), "--metadata") or None,
    }
    fields = {place: text for name, place in FIELDS.items() if (text := given.pop(name)) is not None}
    return Wish(
        command=given.pop("command"),
        preset=given.pop("preset"),
        settings=_pairs(given.pop("options"), "-o"),
        fields=fields,
        without=[name for name in ("video", "audio") if given.pop(f"no_{name}")],
        extra=given.pop("extra"),
        further={name: value for name, value in further.items() if value is not None},
    )


def _pairs(given: Sequence[str], flag: str) -> dict[str, str]:
    made = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            hint = " Where the result goes is --output." if flag == "-o" else ""
            raise Usage(f"{flag} {text!r}: give it as NAME=VALUE.{hint}")
        made[name] = value
    return made


@contextmanager
def service(way: Way, *, say: Callable[[str], None] | None = None, own: bool = False) -> Iterator["Api"]:
    """The service that is meant; with `own`, one for this call, where none is named and none runs here."""
    from handlers.client import private

    server = config.base_url(way.server) if way.server else config.USUAL_SERVER
    key = config.fit_key(way.key) if way.key else None
    say = say or (lambda text: None if way.as_json else click.echo(text, err=True))
    with _api(server, key, way.aws_region, say) as api:
        if way.server or not own or _is_there(api):
            yield api
            return
    say("No service runs here: one is started for this call.")
    with private.running(os.environ) as (address, own_key), _api(address, own_key, None, say) as api:
        yield api


def _api(server: str, key: str | None, aws_region: str | None, say: Callable[[str], None]) -> "Api":
    from handlers.client import sign
    from handlers.client.api import Api

    return Api(server, key, say, Stop(), auth=sign.auth(server, aws_region))


def _is_there(api: "Api") -> bool:
    with api.leaving() as brief:
        try:
            brief.health()
        except Unreachable:
            return False
    return True


def _with(command: F, *decorators: Callable[[F], F]) -> F:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
