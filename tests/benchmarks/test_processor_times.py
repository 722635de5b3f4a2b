"""Processor time of this program and of others, as a benchmark tells it."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.processor_times import read_processor_times
from tests.polling import until


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_the_work_of_a_thread_and_of_children_is_its_own():
    began = read_processor_times()
    spin(0.3)
    after = read_processor_times().since(began)
    assert 0.3 <= after["processor_seconds"] < 1.0
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            before = read_processor_times()

            def grown() -> bool:
                return bool(read_processor_times().own_seconds > before.own_seconds + 0.3)

            until(grown, 30.0, "the work of the child")
        finally:
            child.kill()
    assert after["waited_for_a_core_seconds"] >= 0.0
    assert after["processor_seconds_of_others"] >= 0.0
