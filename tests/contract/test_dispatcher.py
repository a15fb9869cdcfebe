"""What ports.Dispatcher promises, on both twins; below, what each of them has of its own."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Queue

import boto3
import pytest

from core.aws.dispatcher import BatchDispatcher, Place, task_of
from core.errors import DispatchUnavailable
from core.load import Pool
from core.local.dispatcher import CANNOT_START, LocalDispatcher
from core.ports import Dispatcher, JobState, Sighting
from core.task import Task
from support import moto_server, processes
from support.builders import a_task
from support.moto_server import Moto

WAIT = 60.0  # seconds; only a failing test waits that long
LONG = 600.0  # far longer than any test waits


def a_pool(
    code: str = "", *, on_exit: Callable[[str, int], object] = lambda *_: None, **changes: object
) -> LocalDispatcher:
    """A pool whose workers are Python processes that run `code`."""
    options = {"command": (sys.executable, "-S", "-c", code), "env": {}, "max_concurrent": 2, "grace_seconds": 5}
    return LocalDispatcher(on_exit=on_exit, **{**options, **changes})  # type: ignore[arg-type]


SLEEPS = f"import time; time.sleep({LONG})"


@contextmanager
def started(pool: LocalDispatcher) -> Iterator[LocalDispatcher]:
    with closing(pool):
        pool.start()
        yield pool


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    state = processes.read(pid, "stat").rpartition(")")[2].split()
    return state[:1] not in ([], ["Z"])


@pytest.fixture(params=["local", "aws"])
def dispatcher(request: pytest.FixtureRequest) -> Iterator[Dispatcher]:
    if request.param == "aws":
        request.getfixturevalue("aws")
        yield BatchDispatcher(moto_server.places())
        return
    with started(a_pool()) as pool:
        yield pool


@pytest.fixture(params=["local", "aws"])
def refusing(request: pytest.FixtureRequest) -> Dispatcher:
    if request.param == "aws":
        request.getfixturevalue("aws")
        return BatchDispatcher(moto_server.places(queue="no-such-queue"))
    pool = a_pool()
    pool.close()
    return pool


def test_submit_returns_a_job_of_its_own_for_each_task(dispatcher: Dispatcher) -> None:
    jobs = [dispatcher.submit(a_task()) for _ in range(5)]
    assert len(set(jobs)) == 5
    assert all(jobs)


def test_submit_of_the_same_task_again_does_no_harm(dispatcher: Dispatcher) -> None:
    task = a_task()
    assert dispatcher.submit(task)
    assert dispatcher.submit(task)


def test_a_dispatcher_that_cannot_take_a_task_says_so(refusing: Dispatcher) -> None:
    with pytest.raises(DispatchUnavailable):
        refusing.submit(a_task())
    with pytest.raises(DispatchUnavailable):
        refusing.check()


def test_check_says_what_is_in_use(dispatcher: Dispatcher) -> None:
    assert dispatcher.check() in ("AWS Batch", "2 workers, 0 running, 0 waiting")


def test_a_pool_that_grows_starts_what_waits(tmp_path: Path) -> None:
    with started(a_pool(SLEEPS, max_concurrent=1)) as pool:
        for _ in range(5):
            pool.submit(a_task())
        until(lambda: pool.load() == Pool(size=1, running=1, waiting=4))
        pool.resize(4)
        until(lambda: pool.load() == Pool(size=4, running=4, waiting=1))


def test_a_pool_that_shrinks_lets_finish_what_runs_and_starts_no_more_than_it_may() -> None:
    tasks = [a_task() for _ in range(5)]
    with started(a_pool(SLEEPS, max_concurrent=3)) as pool:
        for task in tasks:
            pool.submit(task)
        until(lambda: pool.load().running == 3)
        pool.resize(1)
        for left in (2, 1):
            pool.stop(tasks[2 - left])
            until(lambda left=left: pool.load() == Pool(size=1, running=left, waiting=2))  # type: ignore[misc]
            time.sleep(0.3)
            assert pool.load() == Pool(size=1, running=left, waiting=2)
        pool.stop(tasks[2])
        until(lambda: pool.load() == Pool(size=1, running=1, waiting=1))
        pool.resize(2)
        until(lambda: pool.load() == Pool(size=2, running=2, waiting=0))


def test_a_pool_may_be_resized_before_it_is_started_and_after_it_is_closed() -> None:
    pool = a_pool(max_concurrent=1)
    pool.resize(2)
    with started(pool):
        assert pool.check() == "2 workers, 0 running, 0 waiting"
    pool.resize(3)
    until(lambda: "worker" not in {thread.name for thread in threading.enumerate()})


def test_idle_workers_leave_a_pool_that_shrinks() -> None:
    with started(a_pool(max_concurrent=8)) as pool:
        pool.resize(1)
        until(lambda: sum(thread.name == "worker" for thread in threading.enumerate()) == 1)
        pool.submit(a_task())
        until(lambda: pool.load() == Pool(size=1, running=0, waiting=0))


def test_stop_of_a_job_that_is_over_or_unknown_is_no_error(dispatcher: Dispatcher) -> None:
    task = a_task()
    dispatcher.stop(task)
    dispatcher.stop(replace(task, job_id="9c2f6d4e-0000-4000-8000-000000000000"))
    submitted = replace(task, job_id=dispatcher.submit(task))
    until(lambda: dispatcher.look([submitted])[task.task_id].state is JobState.GONE)
    dispatcher.stop(submitted)


def test_look_knows_nothing_of_a_task_that_was_never_submitted(dispatcher: Dispatcher) -> None:
    known, unknown = a_task(), a_task()
    known = replace(known, job_id=dispatcher.submit(known))
    seen = dispatcher.look([known, unknown])
    assert set(seen) == {known.task_id, unknown.task_id}
    assert seen[unknown.task_id] == Sighting(JobState.GONE)


# One machine


def test_pool_runs_each_task_in_order_with_its_environment(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "names = 'TASK_ID', 'CORRELATION_ID', 'PARENT_PID', 'EXTRA'\n"
        "print(*(os.environ[name] for name in names), file=open(os.environ['OUT'], 'a'))"
    )
    out, ended = tmp_path / "out", Queue[tuple[str, int]]()
    tasks = [a_task(correlation_id=f"corr-{number}") for number in range(5)]
    pool = a_pool(code, env={"EXTRA": "x", "OUT": str(out)}, max_concurrent=1, on_exit=lambda *end: ended.put(end))
    for task in tasks:
        pool.submit(task)
    assert pool.check() == "1 workers, 0 running, 5 waiting"
    with started(pool):
        assert [ended.get(timeout=WAIT) for _ in tasks] == [(task.task_id, 0) for task in tasks]
    assert out.read_text().splitlines() == [f"{t.task_id} {t.correlation_id} {os.getpid()} x" for t in tasks]


def test_pool_gives_workers_no_other_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    code = "import os; open(os.environ['OUT'],'w').write(' '.join(sorted(os.environ)))"
    ended = Queue[int]()
    with started(a_pool(code, env={"OUT": str(tmp_path / "out")}, on_exit=lambda _, code: ended.put(code))) as pool:
        pool.submit(a_task())
        assert ended.get(timeout=WAIT) == 0
    names = set((tmp_path / "out").read_text().split()) - {"LC_CTYPE"}  # which Python itself may set
    assert names == {"CORRELATION_ID", "JOB_ID", "OUT", "PARENT_PID", "TASK_ID"}


def test_pool_runs_at_most_so_many_at_once(tmp_path: Path) -> None:
    # given workers that count each other, and stay until they may go
    code = (
        "import os, pathlib, time\n"
        "here = pathlib.Path(os.environ['DIR'], os.environ['TASK_ID'])\n"
        "here.touch(); n = len(list(here.parent.iterdir()))\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.01)\n"
        "time.sleep(0.1); here.unlink(); raise SystemExit(n)"
    )
    ended, go, folder = Queue[int](), tmp_path / "go", tmp_path / "there"
    folder.mkdir()
    env = {"DIR": str(folder), "GO": str(go)}
    with started(a_pool(code, env=env, max_concurrent=3, on_exit=lambda _, n: ended.put(n))) as pool:
        for _ in range(9):
            pool.submit(a_task())
        until(lambda: len(list(folder.iterdir())) == 3)
        assert pool.load() == Pool(size=3, running=3, waiting=6)
        go.touch()
        at_once = [ended.get(timeout=WAIT) for _ in range(9)]
    assert max(at_once) == 3
    assert min(at_once) >= 1


def test_pool_queues_a_task_once(tmp_path: Path) -> None:
    ended = Queue[str]()
    task, other = a_task(), a_task()
    pool = a_pool(on_exit=lambda task_id, _: ended.put(task_id))
    assert pool.submit(task) == pool.submit(task) != pool.submit(other)
    with started(pool):
        assert {ended.get(timeout=WAIT), ended.get(timeout=WAIT)} == {task.task_id, other.task_id}
        until(lambda: pool.check() == "2 workers, 0 running, 0 waiting")
    assert ended.empty()


def test_pool_never_has_two_workers_for_one_task(tmp_path: Path) -> None:
    """Not even while `on_exit` decides what the end of the first one means."""
    code = "import os, time; os.mkdir(os.environ['DIR']); time.sleep(0.1); os.rmdir(os.environ['DIR'])"
    ended, task = Queue[int](), a_task()

    def on_exit(_: str, code: int) -> None:
        (tmp_path / "held").mkdir()
        time.sleep(0.1)
        (tmp_path / "held").rmdir()
        ended.put(code)

    with started(a_pool(code, env={"DIR": str(tmp_path / "held")}, max_concurrent=3, on_exit=on_exit)) as pool:
        for _ in range(3):
            pool.submit(task)
            until(lambda: pool.check().endswith(" 0 waiting"))
        assert [ended.get(timeout=WAIT) for _ in range(3)] == [0, 0, 0]


def test_pool_survives_what_its_workers_and_its_callback_do() -> None:
    code = (
        "import os, signal\n"
        "if os.environ['TASK_ID'] == 'killed': os.kill(os.getpid(), signal.SIGKILL)\n"
        "raise SystemExit(3)"
    )
    ended = Queue[tuple[str, int]]()

    def on_exit(task_id: str, code: int) -> None:
        ended.put((task_id, code))
        raise RuntimeError("the callback fails")

    with started(a_pool(code, max_concurrent=1, on_exit=on_exit)) as pool:
        for task_id in ("killed", "exits", "killed"):
            until(lambda: pool.check().endswith(" 0 waiting"))
            pool.submit(a_task(task_id=task_id))
            assert ended.get(timeout=WAIT) == (task_id, -signal.SIGKILL if task_id == "killed" else 3)


def test_pool_reports_a_worker_that_cannot_be_started(tmp_path: Path) -> None:
    ended = Queue[tuple[str, int]]()
    with started(a_pool(command=(str(tmp_path / "none"),), on_exit=lambda *end: ended.put(end))) as pool:
        task = a_task()
        pool.submit(task)
        assert ended.get(timeout=WAIT) == (task.task_id, CANNOT_START)
        until(lambda: pool.check() == "2 workers, 0 running, 0 waiting")


def test_pool_takes_a_task_again_from_its_callback() -> None:
    ended, task = Queue[int](), a_task()

    def on_exit(_: str, code: int) -> None:
        ended.put(code)
        if ended.qsize() < 3:
            pool.submit(task)

    pool = a_pool(on_exit=on_exit)
    with started(pool):
        pool.submit(task)
        until(lambda: ended.qsize() == 3)
        until(lambda: pool.check() == "2 workers, 0 running, 0 waiting")


SLEEPER = """
import os, signal, subprocess, sys, time
if os.environ["TASK_ID"].startswith("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
child = subprocess.Popen(["sleep", "100"])
path = os.environ["DIR"] + "/" + os.environ["TASK_ID"]
with open(path, "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(path, path + ".ready")
time.sleep(100)
"""


def sleepers(folder: Path, number: int) -> list[int]:
    """The processes of so many of them, and of their children, once all are there."""
    until(lambda: len(list(folder.glob("*.ready"))) == number)
    pids = [int(pid) for file in folder.glob("*.ready") for pid in file.read_text().split()]
    assert all(alive(pid) for pid in pids)
    return pids


# The time for an orderly end is far longer than it takes; a stubborn worker has little, and uses all of it.
@pytest.mark.parametrize(
    ("worker", "grace_seconds", "code"), [("orderly", LONG, 9), ("stubborn", 0.5, -signal.SIGKILL)]
)
def test_pool_that_closes_leaves_no_process(tmp_path: Path, worker: str, grace_seconds: float, code: int) -> None:
    ended: dict[str, int] = {}
    env = {"DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    pool = a_pool(SLEEPER, env=env, max_concurrent=1, on_exit=ended.__setitem__, grace_seconds=grace_seconds)
    pool.start()
    for task_id in (worker, "waiting"):
        pool.submit(a_task(task_id=task_id))
    pids = sleepers(tmp_path, 1)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began > 0.4 or worker == "orderly"
    assert ended == {worker: code}
    until(lambda: not any(alive(pid) for pid in pids))
    pool.close()


def test_pool_stops_a_running_job_politely(tmp_path: Path) -> None:
    ended: dict[str, int] = {}
    env = {"DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    orderly, stubborn = a_task(task_id="orderly"), a_task(task_id="stubborn")
    with started(a_pool(SLEEPER, env=env, on_exit=ended.__setitem__, grace_seconds=LONG)) as pool:
        for task in (stubborn, orderly):
            pool.submit(task)
        sleepers(tmp_path, 2)
        running = Sighting(JobState.RUNNING)
        assert pool.look([orderly, stubborn]) == {"orderly": running, "stubborn": running}

        for task in (stubborn, orderly):
            pool.stop(task)  # which does not wait for the end

        until(lambda: pool.look([orderly])["orderly"] == Sighting(JobState.GONE))
        until(lambda: ended == {"orderly": 9})
        assert pool.look([stubborn])["stubborn"] == running
        os.kill(int((tmp_path / "stubborn.ready").read_text().split()[0]), signal.SIGKILL)


def test_pool_stops_a_running_job_firmly_when_it_does_not_end(tmp_path: Path) -> None:
    ended: dict[str, int] = {}
    env = {"DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    task = a_task(task_id="stubborn")
    with started(a_pool(SLEEPER, env=env, on_exit=ended.__setitem__, grace_seconds=0.5)) as pool:
        pool.submit(task)
        pids = sleepers(tmp_path, 1)
        began = time.monotonic()
        pool.stop(task)
        until(lambda: ended == {"stubborn": -signal.SIGKILL})
        assert time.monotonic() - began > 0.4
        until(lambda: not any(alive(pid) for pid in pids))
        until(lambda: pool.look([task])["stubborn"] == Sighting(JobState.GONE))


def test_pool_takes_a_stopped_job_out_of_its_queue(tmp_path: Path) -> None:
    ended = Queue[str]()
    waiting, other = a_task(), a_task()
    pool = a_pool(on_exit=lambda task_id, _: ended.put(task_id))
    for task in (waiting, other):
        pool.submit(task)
    assert pool.look([waiting])[waiting.task_id] == Sighting(JobState.COMING)
    pool.stop(waiting)
    assert pool.look([waiting])[waiting.task_id] == Sighting(JobState.GONE)
    with started(pool):
        assert ended.get(timeout=WAIT) == other.task_id
        until(lambda: pool.check() == "2 workers, 0 running, 0 waiting")
    assert ended.empty()


def test_pool_looks_for_no_worker_that_has_ended() -> None:
    """Also when its end is still being handled: whoever handles it asks."""
    seen, task = Queue[Sighting](), a_task()
    pool = a_pool(on_exit=lambda *_: seen.put(pool.look([task])[task.task_id]))
    with started(pool):
        pool.submit(task)
        assert seen.get(timeout=WAIT) == Sighting(JobState.GONE)


def timers() -> set[threading.Timer]:
    return {thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)}


def test_pool_that_stops_one_job_leaves_its_successor_alone(tmp_path: Path) -> None:
    """The firm signal comes later; by then another worker may have the task."""
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "open(os.environ['OUT'], 'a').write('x')\n"
        "while not os.path.exists(os.environ['OUT'] + '.end'): time.sleep(0.01)"
    )
    ended, task, out = Queue[int](), a_task(), tmp_path / "out"
    env = {"OUT": str(out)}
    with started(a_pool(code, env=env, on_exit=lambda _, code: ended.put(code), grace_seconds=LONG)) as pool:
        pool.submit(task)
        until(lambda: out.exists() and out.read_text() == "x")
        before = timers()
        pool.stop(task)
        (later,) = timers() - before
        pool.submit(task)
        until(lambda: out.read_text() == "xx")

        later.cancel()
        later.function(*later.args, **later.kwargs)  # now, rather than when its time has come

        assert pool.look([task])[task.task_id] == Sighting(JobState.RUNNING)
        Path(f"{out}.end").touch()
        assert [ended.get(timeout=WAIT), ended.get(timeout=WAIT)] == [9, 0]


def test_pool_ends_what_a_worker_leaves_behind(tmp_path: Path) -> None:
    code = "import os, subprocess; open(os.environ['OUT'], 'w').write(str(subprocess.Popen(['sleep', '100']).pid))"
    ended, out = Queue[int](), tmp_path / "pid"
    env = {"OUT": str(out), "PATH": os.environ["PATH"]}
    with started(a_pool(code, env=env, on_exit=lambda _, code: ended.put(code))) as pool:
        pool.submit(a_task())
        assert ended.get(timeout=WAIT) == 0
        until(lambda: not alive(int(out.read_text())))


def test_pool_that_was_never_started_closes(tmp_path: Path) -> None:
    pool = a_pool()
    pool.submit(a_task())
    pool.close()


# AWS


def test_batch_job_has_the_task_in_its_environment(aws: Moto) -> None:
    task: Task = a_task()
    job_id = BatchDispatcher(moto_server.places()).submit(task)
    (job,) = boto3.client("batch").describe_jobs(jobs=[job_id])["jobs"]
    assert job["jobName"] == f"task-{task.task_id}"
    assert job["jobQueue"].endswith(f"job-queue/{moto_server.QUEUE}")
    assert tuple(job["container"]["command"]) == moto_server.COMMAND
    env = {pair["name"]: pair["value"] for pair in job["container"]["environment"]}
    del env["AWS_BATCH_JOB_ID"]  # AWS Batch's own
    assert env == {**moto_server.SETTINGS, "TASK_ID": task.task_id, "CORRELATION_ID": task.correlation_id}


def test_batch_refuses_with_the_cause_when_nobody_answers(aws: Moto) -> None:
    with pytest.raises(DispatchUnavailable) as caught:
        BatchDispatcher(moto_server.places(definition="no-such-definition")).submit(a_task())
    assert caught.value.__cause__ is not None


def test_batch_is_not_ready_with_a_queue_that_takes_no_jobs(aws: Moto) -> None:
    boto3.client("batch").update_job_queue(jobQueue=moto_server.QUEUE, state="DISABLED")
    with pytest.raises(DispatchUnavailable):
        BatchDispatcher(moto_server.places()).check()


def test_batch_job_goes_to_the_queue_for_what_it_computes_on(aws: Moto) -> None:
    aws.create_queue("cpu-only")
    places = {**moto_server.places(), "cpu": Place("cpu-only", moto_server.DEFINITION)}
    batch = BatchDispatcher(places)

    ids = [batch.submit(a_task(compute=compute)) for compute in ("gpu", "cpu")]

    jobs = {job["jobId"]: job for job in boto3.client("batch").describe_jobs(jobs=ids)["jobs"]}
    assert [jobs[job_id]["jobQueue"].rpartition("/")[2] for job_id in ids] == [moto_server.QUEUE, "cpu-only"]
    assert batch.check() == "AWS Batch"
    boto3.client("batch").update_job_queue(jobQueue="cpu-only", state="DISABLED")
    with pytest.raises(DispatchUnavailable):
        batch.check()


def test_batch_job_that_has_ended_is_gone_and_can_be_stopped(aws: Moto) -> None:
    batch = BatchDispatcher(moto_server.places())
    task = a_task()
    task = replace(task, job_id=batch.submit(task))  # moto's jobs end at once
    assert batch.look([task])[task.task_id].state is JobState.GONE
    batch.stop(task)
    batch.stop(replace(task, job_id="unknown"))


def test_batch_job_tells_its_task_by_its_name(aws: Moto) -> None:
    task = a_task()
    job_id = BatchDispatcher(moto_server.places()).submit(task)
    (job,) = boto3.client("batch").describe_jobs(jobs=[job_id])["jobs"]
    assert task_of(job["jobName"]) == task.task_id
