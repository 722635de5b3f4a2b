"""What a benchmark starts ends with it, also when it is killed half-way."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scheduler_run import RunFailed, serving

REPOSITORY = Path(__file__).parents[2]
ENDING_SECONDS = 60.0

BENCHMARK = """
import sys
from pathlib import Path
from benchmarks.scheduler_run import serving

port, log = sys.argv[1:]
with serving(["http.server", port, "--bind", "127.0.0.1"], f"http://127.0.0.1:{port}/", Path(log)) as pid:
    print(pid, flush=True)
    sys.stdin.read()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_benchmark_that_is_ended_by_a_signal_leaves_no_server(tmp_path, number):
    benchmark = subprocess.Popen(
        [sys.executable, "-c", BENCHMARK, str(free_port()), str(tmp_path / "server.log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
    )
    try:
        assert benchmark.stdout is not None
        server = os.pidfd_open(int(benchmark.stdout.readline()))
        try:
            benchmark.send_signal(number)
            benchmark.wait(ENDING_SECONDS)
            ended, _, _ = select.select([server], [], [], ENDING_SECONDS)
            assert ended, "the server outlived its benchmark"
        finally:
            os.close(server)
    finally:
        benchmark.kill()
        for stream in (benchmark.stdin, benchmark.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        benchmark.wait()


def test_a_server_that_ends_at_once_is_named_with_the_end_of_its_log(tmp_path):
    with (
        pytest.raises(
            RunFailed, match=r"(?s)server ended with status 1; .*No module named nowhere"
        ) as failed,
        serving(["nowhere"], "http://127.0.0.1:9/", tmp_path / "server.log"),
    ):
        pytest.fail("it never ran")
    assert str(tmp_path / "server.log") in str(failed.value)
    assert "No module named nowhere" in str(failed.value)
