"""Validate: what registering would say of a command, and what ffmpeg would be told. Nothing is stored or fetched."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core import urls
from core.errors import CommandNotAllowed, UrlNotAllowed
from core.ffmpeg import advice, build, compute, fallback, validate
from core.ffmpeg.command import Command
from core.ffmpeg.compute import Compute
from core.register import Registration, command_text, compute_for, recipe_for, timeout_for

if TYPE_CHECKING:
    from core.presets import Own

PROGRESS_FD = 3  # any open descriptor; the worker's own may be another


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
    own_presets: "Own" = None,
) -> Preview:
    """The verdict of register under `policy`, and the arguments of a worker with those limits.

    Raises InvalidArgument where the wishes make no command, or it cannot run on what it is wanted to, or for as long.
    """
    timeout_for(wanted, most_seconds=most_seconds)
    text = command_text(wanted, own_presets)
    bad_urls = tuple(_url_violations(wanted, policy))
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
        warnings=(*_made_later(wanted, own_presets), *advice.warnings(command)),
    )


def _made_later(wanted: Registration, own_presets: "Own") -> Iterator[str]:
    if found := recipe_for(wanted, own_presets):
        yield (
            f"The preset {found.preset} looks at the source: this is its command for one of which nothing is known, "
            "and the worker makes another when it has probed it; the task then shows that."
        )


def _arguments(command: Command, input_files: Mapping[str, str], *, max_output_bytes: int) -> tuple[str, ...]:
    """What the worker passes to ffmpeg."""
    paths = {name: f"../in/{build.local_name(index, name)}" for index, name in enumerate(input_files)}
    return build.build(command, inputs=paths, progress_fd=PROGRESS_FD, max_output_bytes=max_output_bytes)


def _url_violations(wanted: Registration, policy: urls.Policy) -> Iterator[Mapping[str, Any]]:
    for name, url in wanted.input_files.items():
        yield from _url_violation(url, field=f"input_files.{name}", word=name[:100], policy=policy)
    if wanted.callback_url is not None:
        no_buckets = replace(policy, buckets=())
        yield from _url_violation(wanted.callback_url, field="callback_url", word="callback_url", policy=no_buckets)


def _url_violation(url: str, *, field: str, word: str, policy: urls.Policy) -> Iterator[Mapping[str, Any]]:
    try:
        urls.check(url, field=field, policy=policy)
    except UrlNotAllowed as refusal:
        yield {"position": None, "token": word, "reason": refusal.message}
