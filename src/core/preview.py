"""Validate: what registering would say of a command, and what ffmpeg would be told. Nothing is stored or fetched."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core import destination, urls
from core.destination import Destination
from core.errors import CommandNotAllowed, UrlNotAllowed
from core.ffmpeg import advice, build, compute, fallback, validate
from core.ffmpeg.command import Command
from core.ffmpeg.compute import Compute
from core.register import NO_DEFAULTS, Defaults, Registration, command_text, compute_for, recipe_for, timeout_for

if TYPE_CHECKING:
    from core.presets import Own

PROGRESS_FD = 3  # any open descriptor; the worker's own may be another


UploadFault = Callable[[str], str | None]
"""By an upload's id why it cannot be an input, as the end of a sentence; None when it can."""


def _none(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`command` is None when the command may not run; `violations` are as in CommandNotAllowed."""

    command: str | None
    arguments: tuple[str, ...] = ()
    compute: Compute = "cpu"
    cpu_command: str | None = None  # what runs where no GPU can, if that was asked for
    warnings: tuple[str, ...] = ()
    violations: tuple[Mapping[str, Any], ...] = ()


def preview(
    wanted: Registration,
    *,
    policy: urls.Policy,
    max_output_bytes: int,
    most_seconds: int,
    destinations: Collection[Destination] = (),
    default: Defaults = NO_DEFAULTS,
    upload_fault: UploadFault = _none,
    own_presets: "Own" = None,
) -> Preview:
    """The verdict of register under `policy`, and the arguments of a worker with those limits.

    Raises InvalidArgument where the wishes make no command, or it cannot run on what it is wanted to, or for as long,
    or its outputs may not go where they are wanted.
    """
    destination.check(wanted.destination, destinations)
    timeout_for(wanted, most_seconds=most_seconds)
    text = command_text(wanted, own_presets, default=default)
    bad_urls = tuple(_url_violations(wanted, policy, upload_fault))
    try:
        command = validate.check(text, input_names=wanted.input_files, output_names=wanted.output_files)
    except CommandNotAllowed as refusal:
        return Preview(command=None, violations=(*refusal.details["violations"], *bad_urls))
    if bad_urls:
        return Preview(command=None, violations=bad_urls)
    needs_fallback = wanted.gpu_fallback and compute.needs(command) == "gpu"
    return Preview(
        command=command.text,
        arguments=_arguments(command, wanted.input_files, max_output_bytes=max_output_bytes),
        compute=compute_for(command, wanted),
        cpu_command=fallback.to_cpu(command).text if needs_fallback else None,
        warnings=(*_made_later(wanted, own_presets, default), *advice.warnings(command)),
    )


def _made_later(wanted: Registration, own_presets: "Own", default: Defaults) -> Iterator[str]:
    from core.ffmpeg import recipe  # only here: most commands are no presets

    found = recipe_for(wanted, own_presets, default=default)
    if found and recipe.depends(found):
        yield (
            f"The preset {found.preset} looks at the source: this is its command for one of which nothing is known, "
            "and the worker makes another when it has probed it; the task then shows that."
        )


def _arguments(command: Command, input_files: Mapping[str, str], *, max_output_bytes: int) -> tuple[str, ...]:
    """What the worker passes to ffmpeg."""
    paths = {name: f"../in/{build.local_name(index, name)}" for index, name in enumerate(input_files)}
    return build.build(command, inputs=paths, progress_fd=PROGRESS_FD, max_output_bytes=max_output_bytes)


def _url_violations(
    wanted: Registration, policy: urls.Policy, upload_fault: UploadFault
) -> Iterator[Mapping[str, Any]]:
    for name, url in wanted.input_files.items():
        field, word = f"input_files.{name}", name[:100]
        refused = list(_url_violation(url, field=field, word=word, policy=policy))
        yield from refused
        if not refused and url.startswith(urls.UPLOAD):
            fault = upload_fault(url.removeprefix(urls.UPLOAD))
            if fault:
                yield {"position": None, "token": word, "reason": f"The upload of {field} {fault}"}
    if wanted.callback_url is not None:
        web = policy.web_only
        yield from _url_violation(wanted.callback_url, field="callback_url", word="callback_url", policy=web)


def _url_violation(url: str, *, field: str, word: str, policy: urls.Policy) -> Iterator[Mapping[str, Any]]:
    try:
        urls.check(url, field=field, policy=policy)
    except UrlNotAllowed as refusal:
        yield {"position": None, "token": word, "reason": refusal.message}
