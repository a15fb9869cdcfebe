"""The life of some tasks as a random walk: the real verbs on real stores, in a world where everything goes wrong.

What is simulated is who calls: callers, workers, the dispatcher, receivers of notices, and the clock. Each write is
judged as it happens (watched.py), every task after each step, and at the end, in quiet times, all must come to rest.
"""

import random
from contextlib import suppress
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from core import aftermath, moves, sweep
from core.cancel import cancel
from core.destination import Destination
from core.errors import (
    DispatchDelayed,
    DispatchUnavailable,
    IdempotencyConflict,
    TaskChanged,
    TaskEnded,
    TaskNotFound,
    TaskNotReady,
)
from core.execute import execute
from core.notify import notify
from core.ports import JobState, Sighting
from core.register import Registration, register
from core.task import Failure, FailureCode, Progress, Stage, Status, Task, Timings
from support.invariants import hold
from support.recording import REFUSED, REFUSED_FOR_GOOD
from support.scene import CODES, MOODS, MOST_TASKS, SECRETS, SETTINGS, SHOWS, SKEW, Scene, pick

seconds = st.sampled_from([1, 10, 16, 25, 61, 91, 185, 301])
which = st.integers(0, 7)


class Life(Scene):
    """What may happen in a run: each rule is one thing that somebody does."""

    @initialize()
    def two_tasks_of_which_one_is_taken(self) -> None:
        for place in (None, SHOWS):
            self.register(place)
        self.execute(0)
        self.worker_starts(0, 0)

    # Callers

    @precondition(lambda self: len(self.ids) < MOST_TASKS)
    @rule(place=st.sampled_from([None, SHOWS]))
    def register(self, place: Destination | None) -> None:
        task_id = f"00000000-0000-4000-8000-{len(self.ids):012}"
        answer = register(
            self.store, _wanted(place=place), settings=SETTINGS, task_id=task_id, correlation_id="corr", now=self.now
        )
        self.answered(answer.task)
        self.ids.append(task_id)

    @precondition(lambda self: len(self.ids) < MOST_TASKS)
    @rule(key=st.sampled_from(["one", "two"]), other=st.booleans())
    def register_with_key(self, key: str, other: bool) -> None:
        used = self.keyed.get(key)
        wanted = _wanted(crf=30 if other and used else 23)
        try:
            answer = register(
                self.store, wanted, settings=SETTINGS, task_id="unused", correlation_id="corr", now=self.now,
                idempotency_key=key,
            )  # fmt: skip
        except IdempotencyConflict:
            hold(9, used and other, "a key that was used for the same was refused")
            return
        self.answered(answer.task)
        hold(9, (answer.task.task_id == used and not other) if used else not answer.again, "one key, two tasks")
        if used is None:
            self.keyed[key] = answer.task.task_id
            self.forgotten.discard(answer.task.task_id)
            self.ids = sorted({*self.ids, answer.task.task_id})

    @precondition(lambda self: self.ids)
    @rule(number=which)
    def execute(self, number: int) -> None:
        with suppress(TaskEnded, TaskNotFound, DispatchUnavailable):
            self.answered(execute(self.services, self.id_of(number), now=self.now))

    @precondition(lambda self: self.ids)
    @rule(number=which)
    def execute_twice_at_once(self, number: int) -> None:
        """The second call runs while the first one waits for the dispatcher."""
        task_id, jobs = self.id_of(number), len(self.pool.jobs)
        before = self.pool.first, self.pool.mood
        pending = self.find(task_id)

        def second(_: str) -> None:
            self.pool.mood = "well"
            self.answered(execute(self.services, task_id, now=self.now))

        self.pool.first, self.pool.mood = second, "worker first"
        with suppress(TaskEnded, TaskNotFound):
            self.answered(execute(self.services, task_id, now=self.now))
        self.pool.first, self.pool.mood = before
        if pending and pending.status is Status.PENDING:
            hold(9, len(self.pool.jobs) == jobs + 1, "two calls of execute, and not one job")

    @precondition(lambda self: self.ids)
    @rule(number=which)
    def cancel(self, number: int) -> None:
        with suppress(TaskEnded, TaskNotFound):
            self.answered(cancel(self.services, self.id_of(number), now=self.now))

    @precondition(lambda self: self.ids)
    @rule(number=which)
    def notify_again(self, number: int) -> None:
        with suppress(TaskNotReady, TaskNotFound):
            self.answered(notify(self.services, self.id_of(number), now=self.now))

    # The dispatcher and the receivers

    @rule(mood=st.sampled_from(MOODS))
    def dispatcher_changes(self, mood: str) -> None:
        self.pool.mood = mood

    @rule(failure=st.sampled_from([None, REFUSED, REFUSED_FOR_GOOD, RuntimeError("The sender broke down.")]))
    def receiver_changes(self, failure: Exception | None) -> None:
        self.channels["webhook"].failure = failure

    @precondition(lambda self: self.pool.of(JobState.GONE))
    @rule(number=which)
    def the_same_job_is_started_again(self, number: int) -> None:
        job_id = pick(self.pool.of(JobState.GONE), number)
        if all(worker.job_id != job_id for worker in self.workers):
            self.pool.jobs[job_id].state = JobState.COMING

    @precondition(lambda self: self.workers)
    @rule(number=which)
    def worker_is_taken_for_dead(self, number: int) -> None:
        self.pool.jobs[pick(self.workers, number).job_id].state = JobState.GONE

    # Workers

    @precondition(lambda self: self.pool.of(JobState.COMING))
    @rule(number=which, skew=st.sampled_from([-SKEW, 0, 0, SKEW]))
    def worker_starts(self, number: int, skew: int) -> None:
        self.start(pick(self.pool.of(JobState.COMING), number), timedelta(seconds=skew))

    @precondition(lambda self: self.workers)
    @rule(number=which, percent=st.floats(0, 99.9), stage=st.sampled_from(Stage))
    def worker_reports(self, number: int, percent: float, stage: Stage) -> None:
        worker = pick(self.workers, number)
        self.report(worker, Progress(percent=percent, frame=int(percent)), stage)

    @precondition(lambda self: self.workers)
    @rule(number=which)
    def worker_stores(self, number: int) -> None:
        self.store_output(pick(self.workers, number))

    @precondition(lambda self: any(worker.outputs for worker in self.workers))
    @rule(number=which)
    def worker_completes(self, number: int) -> None:
        self.complete(pick([worker for worker in self.workers if worker.outputs], number))

    @precondition(lambda self: self.workers)
    @rule(number=which, code=st.sampled_from(CODES))
    def worker_fails(self, number: int, code: FailureCode) -> None:
        worker = pick(self.workers, number)
        error = Failure.of(code, "It did not work.")
        after = moves.backoff(worker.task.fence, first=timedelta(seconds=15), chance=random.random())

        def failed(task: Task, timings: Timings) -> Task:
            fence = worker.reporter.fence
            now = self.now + worker.skew
            return moves.fail(task, now=now, fence=fence, error=error, timings=timings, retry_after=after)

        self.settle(worker, failed)

    @precondition(lambda self: self.workers)
    @rule(number=which)
    def worker_is_told_to_stop(self, number: int) -> None:
        worker = pick(self.workers, number)
        now, fence = self.now + worker.skew, worker.reporter.fence
        self.settle(worker, lambda task, _: moves.release(task, now=now, fence=fence))

    @precondition(lambda self: self.workers)
    @rule(number=which, heard=st.booleans())
    def worker_is_killed(self, number: int, heard: bool) -> None:
        worker = pick(self.workers, number)
        self.gone(worker)
        if heard:
            self.look_after(worker.task.task_id, sweep.GONE)

    # The sweep, events, time

    @rule()
    def sweep(self) -> None:
        sweep.sweep(self.services, now=self.now)

    @precondition(lambda self: self.ids)
    @rule(number=which)
    def somebody_reads(self, number: int) -> None:
        if task := self.find(self.id_of(number)):
            self.stale = [task, *self.stale[:3]]

    @precondition(lambda self: self.stale)
    @rule(number=which)
    def two_sweeps_act_on_what_they_read_before(self, number: int) -> None:
        task = pick(self.stale, number)
        for _ in range(2):
            with suppress(TaskChanged, TaskNotFound, DispatchUnavailable, DispatchDelayed):
                sweep.attend(self.services, task, now=self.now)
            with suppress(TaskChanged, TaskNotFound, RuntimeError):
                if not task.status.live:
                    aftermath.attend(self.services, task, now=self.now)

    @precondition(lambda self: self.ids)
    @rule(number=which, state=st.none() | st.sampled_from(JobState))
    def event_comes(self, number: int, state: JobState | None) -> None:
        """Of any state, true or not, twice, for a task that may be over; a false one does no harm either."""
        self.look_after(self.id_of(number), state and Sighting(state))
        self.look_after(self.id_of(number), state and Sighting(state))
        self.look_after("of-somebody-else", Sighting(JobState.RUNNING))

    @rule()
    def aftermath(self) -> None:
        aftermath.sweep(self.services, now=self.now)

    @rule(passed=seconds)
    def time_passes(self, passed: int) -> None:
        self.now += timedelta(seconds=passed)

    @rule(days=st.sampled_from([1, 2, 31]))
    def days_go_by(self, days: int) -> None:
        self.now += timedelta(days=days)

    @rule()
    def service_restarts(self) -> None:
        """On one machine: its workers end with it, and it sets everything going again before it takes more."""
        for worker in list(self.workers):
            self.gone(worker)
        for job in self.pool.jobs.values():
            job.state = JobState.GONE
        with suppress(DispatchUnavailable):
            for task in sweep.reconcile(self.services, now=self.now):
                self.answered(task)


def _wanted(crf: int = 23, *, place: Destination | None = None) -> Registration:
    return Registration(
        command=f"-i input.mp4 -c:v libx264 -crf {crf} output.mp4",
        input_files={"input.mp4": f"https://media.example/input.mp4?signature={SECRETS[0]}"},
        output_files=("output.mp4",),
        callback_url=f"https://callbacks.example/ended?token={SECRETS[1]}",
        destination=place,
    )
