"""What is left to do for a task that no longer goes on: tell those who asked, and clear away what nobody needs.

As in sweep.py, deciding is apart from doing, and any number may run at once. A notice is marked as tried before it is
sent, so that one that kills its sender is sent a bounded number of times; it may arrive twice, and says by its id
that it is the same. Nothing here can hold up a task that lives.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import Enum

from core import each, moves
from core.change import change
from core.errors import Conflict, ServiceError
from core.ports import NotDelivered, Services
from core.task import Notice, Status, Task

log = logging.getLogger(__name__)

# Before the second try of a notice, the third and so on; together somewhat more than a day.
NOTICE_DELAYS: Sequence[timedelta] = (
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=8),
    timedelta(hours=10),
)
PARALLEL = 16  # slow receivers, waited for side by side
_MOST_STEPS = 5


class Step(Enum):
    REST = "rest"  # nothing is to be done now
    NOTIFY = "notify"
    TIDY = "tidy"  # delete what workers have stored that was not published
    PURGE = "purge"  # delete the outputs, whose time is over
    FORGET = "forget"  # delete the record


def decide(task: Task, *, now: datetime) -> Step:
    """The next step for a task that nothing more will happen to by itself."""
    if due_notice(task, now=now):
        return Step.NOTIFY
    due = {Step.TIDY: task.tidy_due_at, Step.PURGE: task.purge_due_at, Step.FORGET: task.forget_due_at}
    return next((step for step, time in due.items() if time and time <= now), Step.REST)


def due_notice(task: Task, *, now: datetime) -> Notice | None:
    return next((notice for notice in task.notices if notice.due_at and notice.due_at <= now), None)


def attend(
    services: Services, task: Task, *, now: datetime, chance: Callable[[], float] = random.random
) -> Task | None:
    """The task after all that could be done for it now; None when its record is gone.

    Raises Conflict or TaskNotFound when somebody else moved it meanwhile; the rest stays due then.
    """
    for _ in range(_MOST_STEPS):
        step = decide(task, now=now)
        if step is Step.REST:
            break
        log.info("aftermath", extra={"action": f"aftermath_{step.value}", "task_id": task.task_id})
        if step is Step.FORGET:
            services.store.forget(task)
            services.objects.delete(services.logs(task))
            # A worker that was frozen for long may have stored something when all was tidied.
            _tidy(services, task)
            return None
        task = _act(services, task, step, now=now, chance=chance)
    return task


def _act(services: Services, task: Task, step: Step, *, now: datetime, chance: Callable[[], float]) -> Task:
    if step is Step.NOTIFY:
        return _notify(services, task, now=now, chance=chance())
    if step is Step.TIDY:
        return services.store.replace(_tidied(services, task, now=now), task)
    services.clear(task)
    return services.store.replace(moves.purged(task, now=now), task)


def _tidied(services: Services, task: Task, *, now: datetime) -> Task:
    """A bucket that lets us delete nothing, perhaps somebody else's, is not to keep us from what else is due."""
    try:
        _tidy(services, task)
    except ServiceError as error:
        log.warning("not tidied", extra={"action": "not_tidied", "task_id": task.task_id}, exc_info=error)
        return moves.untidied(task, now=now)
    return moves.tidied(task)


def _tidy(services: Services, task: Task) -> None:
    """Delete all that is stored for the task and that it does not show."""
    if task.purged_at:
        services.clear(task)
        return
    published = f"{services.folder(task)}/{task.fence}" if task.status is Status.COMPLETED else None
    services.objects_of(task).delete(services.folder(task), keep=published)


def _notify(services: Services, task: Task, *, now: datetime, chance: float) -> Task:
    notice = due_notice(task, now=now)
    assert notice  # so it was decided
    channel, name = services.channels.get(notice.channel), notice.channel
    if channel is None:
        error = f"This service is not set up to send by {name}."
        return services.store.replace(moves.unnotified(task, channel=name, error=error, abandon=True), task)
    if notice.tries > len(NOTICE_DELAYS):  # the last one was never heard of again
        error = notice.error or "The sender ended, each time, before it knew whether it had arrived."
        return services.store.replace(moves.unnotified(task, channel=name, error=error, abandon=True), task)
    last = notice.tries == len(NOTICE_DELAYS)
    delay = NOTICE_DELAYS[min(notice.tries, len(NOTICE_DELAYS) - 1)] * (1 + chance / 4)
    task = services.store.replace(moves.notifying(task, channel=name, next_try_at=now + delay), task)
    try:
        channel.deliver(task)
    except NotDelivered as error:
        said, final = str(error), last or error.final
        log.warning("notice not delivered", extra={"action": "notice", "task_id": task.task_id, "reason": said})
        return _record(
            services, task, name, lambda task: moves.unnotified(task, channel=name, error=said, abandon=final)
        )
    return _record(services, task, name, lambda task: moves.notified(task, now=now, channel=name))


def _record(services: Services, tried: Task, channel: str, move: Callable[[Task], Task]) -> Task:
    """How the try went, written whatever else has become of the task meanwhile.

    Another channel's notice may have been sent, or the outputs purged: neither is a reason to send this one again.
    Raises Conflict when this very notice was begun anew, for then it is no longer about our try.
    """

    def unless_begun_anew(task: Task) -> Task:
        if _notice(task, channel) != _notice(tried, channel):
            raise Conflict
        return move(task)

    return change(services.store, tried.task_id, unless_begun_anew)


def _notice(task: Task, channel: str) -> Notice | None:
    return next((notice for notice in task.notices if notice.channel == channel), None)


def sweep(services: Services, *, now: datetime, limit: int = 200, stopped: Callable[[], bool] = lambda: False) -> int:
    """Attend to what is due, the longest due first, at most `limit` tasks; returns how many of them moved.

    Begins with no further task once `stopped` says so.
    """
    began = time.monotonic()

    def attended(task: Task) -> Task | None:
        if stopped():
            return task
        # Others were waited for first: a notice that is sent late is also due again late.
        late = timedelta(seconds=time.monotonic() - began)
        return attend(services, task, now=now + late)

    return each.moved(services.store.due(now, limit=limit, live=False), attended, parallel=PARALLEL)
