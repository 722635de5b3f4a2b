"""Servers start, are watched, and end with whoever started them, however that one ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.processes import Processes, ServerFailed

REPOSITORY = Path(__file__).parents[2]
ENDING_SECONDS = 60.0

CALLER = """
import os, sys
from pathlib import Path
from deploy.local.processes import Processes

folder = Path(sys.argv[1])
processes = Processes(folder / "logs", folder)
pids = [processes.start(name, ["sleep", "600"]) for name in ("one", "two")]
family = "sleep 601 & echo $! > " + str(folder / "child") + "; wait"
pids.append(processes.start("family", ["sh", "-c", family]))
while not (folder / "child").exists() or not (folder / "child").read_text().strip():
    pass
pids.append(int((folder / "child").read_text()))
if sys.argv[2] == "forked":
    if os.fork() == 0:  # a child that inherits the pipe to the supervisor and outlives the caller
        sys.stdin.read()
        os._exit(0)
print(processes.supervisor_pid, *pids, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def caller(folder: Path, kind: str = "plain") -> Iterator[tuple[subprocess.Popen[str], int, list[int]]]:
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(folder), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stdout is not None
        supervisor, *pids = (int(pid) for pid in process.stdout.readline().split())
        yield process, supervisor, pids
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.wait()


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + ENDING_SECONDS
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                ended, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
                assert ended, f"process {pid} still runs"
            finally:
                os.close(descriptor)


@pytest.mark.parametrize("kind", ["plain", "forked"])
def test_servers_and_their_children_end_when_the_caller_is_killed(tmp_path, kind):
    folder = tmp_path / "cluster"
    with caller(folder, kind) as (process, supervisor, pids):
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        process.send_signal(signal.SIGKILL)
        wait_until_gone([*pids, supervisor])
    assert not folder.exists()


def test_servers_end_when_the_caller_leaves_without_stopping_them(tmp_path):
    with caller(tmp_path / "cluster") as (process, supervisor, pids):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(ENDING_SECONDS) == 0
        wait_until_gone([*pids, supervisor])


def test_servers_end_even_when_their_supervisor_is_killed(tmp_path):
    with caller(tmp_path / "cluster") as (_, supervisor, pids):
        os.kill(supervisor, signal.SIGKILL)
        wait_until_gone(pids[:3])
        os.kill(
            pids[3], signal.SIGKILL
        )  # a server's own child is out of reach then: no server of ours has one


@pytest.fixture
def processes(tmp_path):
    running = Processes(tmp_path / "logs")
    yield running
    running.close()


def wait_until_ended(processes: Processes) -> None:
    deadline = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < deadline:
        processes.check()
    pytest.fail("the server did not end")


def test_an_early_end_is_reported_with_the_last_lines_of_the_log(processes):
    processes.start("brief", ["sh", "-c", "echo reading configuration; echo no such port >&2; exit 7"])
    with pytest.raises(
        ServerFailed, match=r"brief ended with status 7; the end of .*brief\.log:\n(.|\n)*no such port"
    ):
        wait_until_ended(processes)


def test_a_program_that_cannot_be_run_is_reported(processes):
    with pytest.raises(ServerFailed, match=r"missing could not be started.*No such file"):
        processes.start("missing", ["/nonexistent/program"])


def test_a_name_is_used_once_at_a_time_and_again_after_its_end(processes):
    first = processes.start("server", ["sleep", "600"])
    with pytest.raises(ServerFailed, match="already running"):
        processes.start("server", ["sleep", "600"])
    processes.stop(["server"], 5.0)
    assert not Path(f"/proc/{first}").exists()
    assert processes.start("server", ["sleep", "600"]) != first


def test_a_server_that_ignores_the_request_to_end_is_killed(processes, tmp_path):
    ready = tmp_path / "ready"
    pid = processes.start(
        "stubborn", ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done"]
    )
    deadline = time.monotonic() + ENDING_SECONDS
    while not ready.exists():
        assert time.monotonic() < deadline
    processes.stop(["stubborn"], 0.2)
    assert not Path(f"/proc/{pid}").exists()


def test_using_stopped_processes_is_refused(tmp_path):
    processes = Processes(tmp_path / "logs")
    processes.close()
    processes.close()
    with pytest.raises(ServerFailed, match="has been stopped"):
        processes.start("late", ["sleep", "600"])


def test_a_lost_supervisor_is_reported(processes):
    os.kill(processes.supervisor_pid, signal.SIGKILL)
    wait_until_gone([processes.supervisor_pid])
    with pytest.raises(ServerFailed, match="has ended, and they with it"):
        processes.start("late", ["sleep", "600"])


def test_what_is_due_at_the_end_is_done_when_every_server_has_ended(tmp_path):
    processes = Processes(tmp_path / "logs")
    pid = processes.start("server", ["sleep", "600"])
    mark = tmp_path / "mark"
    look = f"if kill -0 {pid} 2>/dev/null; then echo early; else echo ended; fi > {mark}"
    processes.at_end(["/nonexistent/program"])  # one that fails keeps nobody from theirs
    processes.at_end(["sh", "-c", look])
    processes.close()
    assert mark.read_text() == "ended\n"


def test_what_is_due_at_the_end_is_done_for_a_killed_caller_too(tmp_path):
    mark = tmp_path / "mark"
    script = (
        "import sys\nfrom pathlib import Path\nfrom deploy.local.processes import Processes\n"
        f"processes = Processes(Path({str(tmp_path / 'logs')!r}))\n"
        f"processes.at_end(['touch', {str(mark)!r}])\n"
        "print(processes.supervisor_pid, flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        supervisor = int(process.stdout.readline())
        process.kill()
    wait_until_gone([supervisor])
    assert mark.exists()
