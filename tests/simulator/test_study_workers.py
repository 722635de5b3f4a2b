"""Workers of a study end with the process that made them, also when it is killed half-way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ENDING_SECONDS = 60.0

STUDY = """
import os
import threading
from concurrent.futures import wait

from simulator.workers import workers


def job():
    return os.getpid()


def endless():
    threading.Event().wait()


if __name__ == "__main__":
    with workers(2) as pool:
        print(pool.submit(job).result(), flush=True)
        wait([pool.submit(endless)])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_study_that_is_killed(tmp_path, number):
    script = tmp_path / "study.py"
    script.write_text(STUDY)
    study = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert study.stdout is not None
        worker = os.pidfd_open(int(study.stdout.readline()))
        try:
            study.send_signal(number)
            study.wait(ENDING_SECONDS)
            ended, _, _ = select.select([worker], [], [], ENDING_SECONDS)
            assert ended, "a worker outlived its study"
        finally:
            os.close(worker)
    finally:
        study.kill()
        study.wait()
        if study.stdout is not None:
            study.stdout.close()
