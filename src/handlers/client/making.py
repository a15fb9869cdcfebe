"""The commands that have something transcoded: run, batch, submit, validate."""

import sys
from collections import Counter
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from handlers.client import flags, words
from handlers.client.faults import DONE, HOPELESS, REFUSED, TASK_FAILED, Fault, Interrupted, Usage
from handlers.client.request import INPUT, OUTPUT, Order, Source, Wish, order, target_for

if TYPE_CHECKING:
    from handlers.client.batch import Item

_FILE = click.Path(readable=False)  # so that shells complete it
_INPUT = click.option(
    "-i", "--input", "inputs", type=_FILE, multiple=True, metavar="[NAME=]FILE|URL", help="What is read; repeatable."
)


def _orders(given: dict[str, Any], inputs: Sequence[str], outputs: Sequence[str]) -> Order:
    return order(flags.wish(given), [Source.read(text) for text in inputs], [Path(text) for text in outputs])


@click.command()
@_INPUT
@click.option("--output", "outputs", type=_FILE, multiple=True, metavar="FILE", help="Where a result goes; repeatable.")
@flags.of_transcode
@flags.of_progress
@flags.of_service
def run(
    *, way: flags.Way, inputs: Sequence[str], outputs: Sequence[str], force: bool, quiet: bool, **given: Any
) -> None:
    """Transcode a file or a URL, and store the result here.

    \b
    ffmpeg-task run -i talk.mov --video-codec libx264 --crf 23 --output talk.mp4
    ffmpeg-task run -i talk.mov --preset web-mp4-720p -o quality=high --output talk.mp4
    ffmpeg-task run -i a.mp4 -i b.srt --command "-i a.mp4 -vf subtitles=b.srt c.mp4" --output c.mp4
    """
    asked = _orders(given, inputs, outputs)
    from handlers.client.progress import board
    from handlers.client.run import carry_out, check_possible

    check_possible([asked], force=force)
    with board(as_json=way.as_json, quiet=quiet) as shown:
        row = shown.row(asked.label)
        with flags.service(way, say=shown.say, own=True) as api:
            done = carry_out(api, asked, row=row, force=force)
        shown.finish(row, "")
    flags.show(way, done.shown(), "\n".join(words.file(path, output) for path, output in done.files))


@click.command()
@click.argument("sources", type=_FILE, nargs=-1, metavar="[FILE|URL|GLOB]...")
@click.option(
    "--list", "list_file", type=_FILE, metavar="FILE", help="A file with one of these on each line; - is stdin."
)
@click.option(
    "--output", "pattern", type=_FILE, required=True, metavar="PATTERN", help="Such as 'out/{stem}.mp4'; also {number}."
)
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="How many at a time.")
@click.option("--skip-existing", is_flag=True, help="Leave out those whose result is there.")
@flags.of_transcode
@flags.of_progress
@flags.of_service
def batch(
    *,
    way: flags.Way,
    sources: Sequence[str],
    list_file: str | None,
    pattern: str,
    jobs: int,
    skip_existing: bool,
    force: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Transcode many, several at a time, each to a file of its own.

    A --command has {input} and {output} in the place of the names.

    \b
    ffmpeg-task batch 'talks/*.mov' --output 'web/{stem}.mp4' --preset web-mp4-720p --jobs 4
    """
    wish = flags.wish(given)
    orders = _many(wish, [*sources, *_listed(list_file)], pattern)
    wanted = [one for one in orders if not (skip_existing and all(path.exists() for path in one.targets.values()))]
    from handlers.client.batch import carry_out_all
    from handlers.client.progress import board
    from handlers.client.run import check_possible

    check_possible(wanted, force=force)
    items: list[Item] = []
    if wanted:
        with board(as_json=way.as_json, quiet=quiet) as shown, flags.service(way, say=shown.say, own=True) as api:
            items = carry_out_all(api, wanted, at_once=jobs, board=shown, force=force, told=_line)
    return _sum_up(way, items, skipped=len(orders) - len(wanted))


@click.command()
@click.argument("sources", type=_FILE, nargs=-1, metavar="[FILE|URL|GLOB]...")
@_INPUT
@click.option(
    "--list", "list_file", type=_FILE, metavar="FILE", help="A file with one source on each line; - is stdin."
)
@click.option(
    "--output", "outputs", type=_FILE, multiple=True, required=True, metavar="NAME", help="The results' names."
)
@flags.of_transcode
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@flags.of_service
def submit(
    *,
    way: flags.Way,
    sources: Sequence[str],
    inputs: Sequence[str],
    list_file: str | None,
    outputs: Sequence[str],
    quiet: bool,
    **given: Any,
) -> None:
    """Hand over tasks, and print their ids without waiting.

    With -i one task, as `run` has it; else one for each source, as `batch` has it.
    """
    many = [*sources, *_listed(list_file)]
    if bool(many) == bool(inputs) or (many and len(outputs) != 1):
        raise Usage("Give the inputs of one task with -i, or sources and one --output pattern.")
    orders = _many(flags.wish(given), many, outputs[0]) if many else [_orders(given, inputs, outputs)]
    from handlers.client.progress import board
    from handlers.client.run import begin, check_inputs

    for one in orders:
        check_inputs(one)
    tasks = []
    with board(as_json=way.as_json, quiet=quiet) as shown, flags.service(way, say=shown.say) as api:
        try:
            for one in orders:
                row = shown.row(one.label)
                tasks.append(begin(api, one, row=row))
                shown.finish(row, tasks[-1]["task_id"])
        except (Fault, Interrupted) as ended:
            if len(orders) > 1:
                ended.details["submitted"] = [task["task_id"] for task in tasks]
            raise
    if way.as_json:
        flags.show(way, {"tasks": tasks}, "")


@click.command()
@_INPUT
@click.option("--output", "outputs", type=_FILE, multiple=True, metavar="NAME", help="A result's name; repeatable.")
@flags.of_transcode
@flags.of_service
def validate(*, way: flags.Way, inputs: Sequence[str], outputs: Sequence[str], **given: Any) -> int:
    """Say what ffmpeg would be told, or all that is wrong; nothing is sent or run.

    Takes what `run` takes. A file here need not be there yet.
    """
    asked = _orders(given, inputs, outputs)
    with flags.service(way, own=True) as api:
        found = api.validate(asked.registration(asked.stand_ins()))
    flags.show(way, found, words.preview(found))
    return DONE if found["valid"] else REFUSED


def _many(wish: Wish, texts: Sequence[str], pattern: str) -> list[Order]:
    if wish.command is not None and not (INPUT in wish.command and OUTPUT in wish.command):
        raise Usage("For many, a --command has {input} and {output} in the place of the files' names.")
    sources = [source for text in texts for source in _found(text)]
    if not sources:
        raise Usage("There is nothing to do: name files, URLs or patterns, or a --list of them.")
    orders = [
        order(wish, [source], [target_for(pattern, source, number)]) for number, source in enumerate(sources, start=1)
    ]
    targets = [target for one in orders for target in one.targets.values()]
    if twice := [str(target) for target, count in Counter(targets).items() if count > 1]:
        raise Usage(f"Two results would be {min(twice)}; put {{stem}} or {{number}} into --output.")
    return orders


def _found(text: str) -> list[Source]:
    if has_magic(text) and "://" not in text and not Path(text).exists():
        matching = sorted(glob(text, recursive=True))  # noqa: PTH207 - the pattern may be absolute
        if not matching:
            raise Usage(f"No file matches {text!r}.")
        return [Source.read(path) for path in matching if Path(path).is_file()]
    return [Source.read(text)]


def _listed(file: str | None) -> list[str]:
    if file is None:
        return []
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Usage(f"--list {file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _line(item: "Item") -> str:
    if item.done:
        return "\n".join(f"ok      {words.file(path, output)}" for path, output in item.done.files)
    return f"failed  {item.order.label}: {item.fault}"


def _sum_up(way: flags.Way, items: "Sequence[Item]", *, skipped: int) -> int:
    states = [item.status for item in items]
    counts = {name: states.count(name) for name in ("completed", "failed", "not begun")} | {"skipped": skipped}
    said = [", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"]
    said += [f"  {item.order.label}: {item.fault}" for item in items if item.fault]
    body = {"items": [item.shown() for item in items], **{name.replace(" ", "_"): n for name, n in counts.items()}}
    flags.show(way, body, "\n".join(said))
    if len(states) == states.count("completed"):
        return DONE
    lost = next((item.fault.exit_code for item in items if item.fault and item.fault.code in HOPELESS), TASK_FAILED)
    return lost if "not begun" in states else TASK_FAILED
