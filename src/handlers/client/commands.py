"""The commands about tasks that there are, about the service, and about this command itself."""

import json
import os
from pathlib import Path
from typing import Any

import click

from handlers.client import config, flags, words
from handlers.client.faults import DONE, HOPELESS, TASK_FAILED, UNREACHABLE, Refused, Usage

PAGE = 200  # the most that the service lists at once

_TASK = click.argument("task_id")


@click.command()
@_TASK
@flags.of_service
def status(*, way: flags.Way, task_id: str) -> None:
    """Show how a task is."""
    with flags.service(way) as api:
        task, _ = api.status(task_id)
    flags.show(way, task, words.task(task))


@click.command()
@_TASK
@flags.of_service
def watch(*, way: flags.Way, task_id: str) -> int:
    """Follow a task to its end. Ctrl-C leaves it as it is.

    With --json a line for each change. The exit code is 0 when it has completed, else 1.
    """
    from handlers.client.progress import board
    from handlers.client.run import check_completed
    from handlers.client.watch import follow

    with board(as_json=way.as_json, quiet=False) as shown, flags.service(way, say=shown.say) as api:
        row, before = shown.row(task_id[:8]), None
        for task in follow(api, task_id):
            row.followed(task)
            if way.as_json and task != before:
                click.echo(json.dumps(task, ensure_ascii=False))
            before = task
        shown.finish(row, "")
    if not way.as_json:
        click.echo(words.task(task))
        check_completed(task)
    return DONE if task["status"] == "completed" else TASK_FAILED


@click.command("list")
@click.option("--status", "in_status", help="Only pending, queued, running, completed, failed or canceled ones.")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="The most to list.")
@flags.of_service
def list_tasks(*, way: flags.Way, in_status: str | None, limit: int) -> None:
    """List tasks, the newest first."""
    items: list[Any] = []
    cursor = None
    with flags.service(way) as api:
        while len(items) < limit:
            page = api.tasks(status=in_status, limit=min(PAGE, limit - len(items)), cursor=cursor)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
    flags.show(way, {"items": items}, words.tasks(items) if items else "There are no tasks.")


@click.command()
@_TASK
@click.option(
    "--output",
    type=click.Path(readable=False),
    metavar="FILE",
    help="Where the first output goes; the others go beside it.",
)
@click.option("--link", is_flag=True, help="Print links in the place of fetching.")
@flags.of_progress
@flags.of_service
def result(*, way: flags.Way, task_id: str, output: str | None, link: bool, force: bool, quiet: bool) -> None:
    """Fetch what a task has made, into this folder or to --output."""
    from handlers.client.progress import board
    from handlers.client.run import check_completed, collect

    with board(as_json=way.as_json, quiet=quiet) as shown, flags.service(way, say=shown.say) as api:
        task, _ = api.status(task_id)
        if task["status"] in ("pending", "queued", "running"):
            raise Usage(f"The task is {task['status']}; `ffmpeg-task watch` waits for its end.", code="TASK_NOT_READY")
        check_completed(task)
        if not link:
            row = shown.row(task_id[:8])
            targets = {task["output_files"][0]: Path(output)} if output else {}
            done = collect(api, task, targets, row=row, force=force)
            shown.finish(row, "")
    if link:
        flags.show(way, {"outputs": task["outputs"]}, "\n".join(one["url"] for one in task["outputs"]))
    else:
        flags.show(way, done.shown(), "\n".join(words.file(path, one) for path, one in done.files))


@click.command()
@click.argument("task_ids", nargs=-1, required=True)
@flags.of_service
def cancel(*, way: flags.Way, task_ids: tuple[str, ...]) -> None:
    """Cancel tasks that have not ended."""
    tasks, refused = [], []
    with flags.service(way) as api:
        for task_id in task_ids:
            try:
                tasks.append(api.cancel(task_id))
            except Refused as one:
                if one.code in HOPELESS or len(task_ids) == 1:
                    raise
                refused.append((task_id, one))
    if tasks and not (refused and way.as_json):
        flags.show(way, {"tasks": tasks}, "\n".join(f"{task['task_id']} {task['status']}" for task in tasks))
    if refused:
        said = "\n".join(f"{task_id}: {one.message}" for task_id, one in refused)
        raise Refused(said, code=refused[0][1].code, details={"canceled": [task["task_id"] for task in tasks]})


@click.command()
@_TASK
@flags.of_service
def log(*, way: flags.Way, task_id: str) -> None:
    """Print what ffmpeg said."""
    with flags.service(way) as api:
        text = api.log(task_id)
    flags.show(way, {"task_id": task_id, "log": text}, text.rstrip("\n"))


@click.command()
@flags.of_service
def presets(*, way: flags.Way) -> None:
    """List the presets, with what may be said of each by -o."""
    with flags.service(way, own=True) as api:
        found = api.presets()
    flags.show(way, {"presets": found}, words.presets(found))


@click.command()
@flags.of_service
def health(*, way: flags.Way) -> int:
    """Say whether the service is fit to work."""
    with flags.service(way) as api:
        found = api.health()
    flags.show(way, found, words.health(found))
    return DONE if found["status"] == "healthy" else UNREACHABLE


@click.command()
@click.option("--host", help="Where to listen [127.0.0.1].")
@click.option("--port", help="[8000]; 0 is any free one.")
@click.option("--data-dir", type=click.Path(), help="The tasks and their files [.data].")
def serve(*, host: str | None, port: str | None, data_dir: str | None) -> None:
    """Run the service on this machine, until Ctrl-C.

    The environment has its other settings, as the README lists them.
    """
    from handlers.client import private

    said = {"HOST": host, "PORT": port, "DATA_DIR": data_dir}
    private.serve(os.environ, {name: value for name, value in said.items() if value is not None})


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print what makes a shell complete this command.

    \b
    eval "$(ffmpeg-task completion bash)"
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, config.NAME, f"_{config.PREFIX}_COMPLETE").source())
