"""How a worker hears that it is to stop, in a process of its own."""

import os
import subprocess
import sys

import pytest

from support.service import PYTHONPATH

# The main thread is told to stop at the moment in which it holds the lock of the event that is to say so.
TOLD_AT_THE_WORST_MOMENT = """
import os, signal, sys, threading
from handlers import batch_worker

def on_call(frame, event, argument):
    if event == "return" and frame.f_code is threading.Condition.__enter__.__code__:
        sys.setprofile(None)
        for _ in range(3):
            os.kill(os.getpid(), signal.{name})

stop = batch_worker.stopping({{}})
sys.setprofile(on_call)
stop.wait(0.0)
assert sys.getprofile() is None, "nobody was told"
print(stop.wait(20.0))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_worker_hears_a_signal_whatever_it_is_just_doing(name: str) -> None:
    code = TOLD_AT_THE_WORST_MOMENT.format(name=name)
    env = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
