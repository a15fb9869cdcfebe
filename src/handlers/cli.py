"""The command-line client, `ffmpeg-task`: speaks HTTP to the service, and knows nothing of it but its API.

Here are only its commands' names, and how it ends: every fault becomes a sentence, or JSON, and an exit code.
"""

import json
import os
import sys
from collections.abc import Sequence

import click

from handlers.client import commands, config, making, signals, words
from handlers.client.faults import INTERRUPTED, Fault, Interrupted, Usage

COMMANDS = (
    making.run,
    making.batch,
    making.submit,
    making.validate,
    commands.status,
    commands.watch,
    commands.list_tasks,
    commands.result,
    commands.cancel,
    commands.log,
    commands.presets,
    commands.health,
    commands.serve,
    commands.completion,
)


class InOrder(click.Group):
    """Lists its commands as they were added: in the order in which they are met."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Transcode files and URLs with a transcoding service: yours, your team's, or one that is started for the call."""


for command in COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    signals.install()
    try:
        return _run(given)
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message())
        return Usage.exit_code
    except click.ClickException as error:
        usage = error.ctx.get_usage() if isinstance(error, click.UsageError) and error.ctx else ""
        return _failed(Usage(error.format_message(), details={"usage": usage} if usage else {}), given)
    except Fault as fault:
        return _failed(fault, given)
    except Interrupted as interrupted:
        return _interrupted(interrupted.number, given)


def _run(given: list[str]) -> int:
    flags = {name: [one.name or "" for one in command.params] for name, command in cli.commands.items()}
    assumed = config.defaults(config.place(os.environ), flags)
    ended = cli.main(given, prog_name=config.NAME, standalone_mode=False, default_map=assumed)
    return ended if isinstance(ended, int) else 0


def _failed(fault: Fault, given: Sequence[str]) -> int:
    if "--json" in given:
        click.echo(json.dumps(fault.shown(), ensure_ascii=False))
    else:
        click.echo(f"{config.NAME}: {words.fault(fault.message, fault.details)}", err=True)
    return fault.exit_code


def _interrupted(number: int, given: Sequence[str]) -> int:
    code = INTERRUPTED + number
    if "--json" in given:
        shown = {"error": {"code": "INTERRUPTED", "message": "Interrupted.", "details": {}}, "exit_code": code}
        click.echo(json.dumps(shown))
    else:
        click.echo("Interrupted.", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
