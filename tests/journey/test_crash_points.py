"""Processes killed with SIGKILL at named points on one machine: each task ends all the same, once.

support/crashing.py has the points, support/crash_cases.py what is to be after each. The cases run side by side, a few
at a time, each with a folder of its own; a test asks for the result of its case.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from core import aftermath, sweep, wiring
from core.ports import Services
from core.register import Registration
from core.settings import Settings
from support import crashing, leftovers, service
from support.crash_cases import (
    AT_ONCE,
    BY_THE_API,
    BY_THE_WORKER,
    EVER,
    MUCH_LATER,
    POINTS,
    Result,
    check,
    check_notice,
    crash,
    noticed,
    registration,
    serving_a_clip,
    wait_until_downloading,
)
from support.source_server import SourceServer


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceServer]:
    with serving_a_clip(tmp_path_factory.mktemp("media")) as server:
        yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    folder: Path
    source: SourceServer

    def run(self, point: str) -> Result:
        wanted = registration(self.source, point)
        services = wiring.services(Settings.from_env({"DATA_DIR": str(self.folder / "data")}), {})
        crashes = crash(self.folder, ["claimed", "lost"] if point == "lost" else [point])
        program = ("-m", "support.crashing", "service")
        with service.running(self.folder / "data", program=program, **crashes) as crashing_service:
            task_id = self._until_the_crash(crashing_service, services, wanted, point)
            if point in BY_THE_WORKER and point != "before the claim":
                crashing_service.ended(task_id)
        with service.running(self.folder / "data") as restarted:
            if point == "registered":
                restarted.execute(task_id)
            restarted.ended(task_id)
            now = datetime.now(UTC)
            task = services.store.get(task_id)
            aftermath.sweep(services, now=now + MUCH_LATER)
        with contextlib.suppress(AssertionError):  # what is left in the end is for the check to tell
            leftovers.seconds_until(lambda: not self._left(), most=60)
        left = leftovers.processes(self.folder)
        sweep.reconcile(services, now=now)
        later = services.store.get(task_id)
        services.store.close()  # type: ignore[attr-defined]
        return Result(
            reached=crashing.reached(self.folder / "reached"),
            task=task,
            later=later,
            objects=leftovers.objects(self.folder / "data"),
            logs=leftovers.logs(self.folder / "data"),
            processes=left,
            scratch=leftovers.scratch(self.folder / "data" / "scratch"),
        )

    def _left(self) -> bool:
        """Whether something is, or is on its way out."""
        return bool(leftovers.processes(self.folder) or leftovers.scratch(self.folder / "data" / "scratch"))

    def _until_the_crash(self, running: service.Service, services: Services, wanted: Registration, point: str) -> str:
        """Returns when the process that is to die has died, with the id of the task."""
        if point == "registered":
            with contextlib.suppress(httpx.TransportError):
                running.register(wanted.command, wanted.input_files, *wanted.output_files)
            running.process.wait(60)
            (task,) = services.store.due(EVER, limit=10, live=False)
            return task.task_id
        task_id = running.register(wanted.command, wanted.input_files, *wanted.output_files, execute=False)
        with contextlib.suppress(httpx.TransportError):
            running.execute(task_id)
        if point in ("downloading", "canceled"):
            pid = wait_until_downloading(services.store, self.source, task_id, wanted.input_files["in.mp4"])
            if point == "downloading":
                os.kill(pid, signal.SIGKILL)
            else:
                with contextlib.suppress(httpx.TransportError):
                    running.cancel(task_id)
        if point in (*BY_THE_API, "canceled", "lost"):
            running.process.wait(60)
        elif point != "downloading":
            leftovers.seconds_until(lambda: crashing.reached(self.folder / "reached"), most=60)
        return task_id


@pytest.fixture(scope="module")
def here(source: SourceServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Future[Result]]]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        futures = {
            point: threads.submit(Case(folder=tmp_path_factory.mktemp("case"), source=source).run, point)
            for point in POINTS
        }
        # Between two tests pytest changes the environment, which these threads read.
        wait(futures.values())
        yield futures.__getitem__


@pytest.mark.parametrize("point", POINTS)
def test_task_ends_once_on_one_machine_after_a_crash_at(here: Callable[[str], Future[Result]], point: str) -> None:
    check(here(point).result(), point)


def test_notice_is_sent_after_a_crash_before_it_was_on_one_machine(tmp_path: Path) -> None:
    env = {"DATA_DIR": str(tmp_path / "data")}
    services = wiring.services(Settings.from_env(env), {})
    check_notice(*noticed(services, env, tmp_path))
    services.store.close()  # type: ignore[attr-defined]
