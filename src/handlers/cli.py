"""The command-line client, `ffmpeg-task`: speaks HTTP to the service, and knows nothing of it but its API.

Here are only its commands' names, and how it ends: every fault becomes a sentence, or JSON, and an exit code.
"""

import io
import json
import os
import sys
from collections.abc import Sequence

import click

from handlers.client import commands, config, making, signals, words
from handlers.client.faults import INTERRUPTED, Fault, Interrupted, Unreachable, Usage

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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: not every name of a file is text
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
    except KeyError as lacking:
        said = f"The service's answer has no {lacking}: it is of another version than this command; update the older."
        return _failed(Unreachable(said, code="NOT_THE_SERVICE"), given)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(Fault(f"{where}{error.strerror or error}."), given)
    except Interrupted as interrupted:
        return _interrupted(interrupted, given)


def _run(given: list[str]) -> int:
    flags = {name: _flags(command) for name, command in cli.commands.items()}
    assumed = config.defaults(os.environ, flags)
    ended = cli.main(given, prog_name=config.NAME, standalone_mode=False, default_map=assumed)
    return ended if isinstance(ended, int) else 0


def _flags(command: click.Command) -> dict[str, str]:
    """What the command calls the value of each flag, by what the flag is called where it is typed."""
    options = [one for one in command.params if isinstance(one, click.Option) and one.name != "as_json"]
    return {max(one.opts, key=len).removeprefix("--"): one.name or "" for one in options}


def _failed(fault: Fault, given: Sequence[str]) -> int:
    if "--json" in given:
        _say(json.dumps(fault.shown(), ensure_ascii=False))
    else:
        _say(f"{config.NAME}: {words.fault(fault.message, fault.details)}", err=True)
    return fault.exit_code


def _interrupted(interrupted: Interrupted, given: Sequence[str]) -> int:
    code = INTERRUPTED + interrupted.number
    if "--json" in given:
        error = {"code": "INTERRUPTED", "message": "Interrupted.", "details": interrupted.details}
        _say(json.dumps({"error": error, "exit_code": code}))
    else:
        _say("Interrupted.", err=True)
    return code


def _say(text: str, *, err: bool = False) -> None:
    try:
        click.echo(text, err=err)
    except OSError:  # nobody reads it, nor what Python would still write when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2 if err else 1)


if __name__ == "__main__":
    sys.exit(main())
