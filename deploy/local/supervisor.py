"""A small process that owns the servers of one cluster and ends them when its caller is gone.

Run as a script (`python supervisor.py CALLER_PID [FOLDER_TO_REMOVE]`), standard library only. It takes
one JSON command a line on standard input and answers each with one JSON line:

- `{"do": "start", "name": ..., "argv": [...], "log": PATH, "env": {...}}` -> `{"pid": ...}`
- `{"do": "poll"}` -> `{"ended": {name: exit status}}`
- `{"do": "stop", "names": [...], "grace_seconds": ...}` -> `{"ended": {name: exit status}}`
- `{"do": "at_end", "argv": [...]}` -> `{}`; run once, after every server has ended and before it leaves
- `{"do": "quit"}` -> `{}`; then it leaves

Why a process of its own: a parent-death signal set by the caller would be tied to the *thread* that
started the server. Here three things end the servers: end of file on standard input, the caller's pid
file descriptor (it works even where a forked child of the caller still holds the pipe open), and, should
this process itself be killed, PR_SET_PDEATHSIG in each server (this process has one thread). Each server
leads its own process group, so its children go with it. A terminal's Ctrl-C does not reach this session.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1
_ENDING_GRACE_SECONDS = 0.0  # the caller is gone: nobody will look at the data again
_POLL_SECONDS = 0.02
_AT_END_SECONDS = 60.0


def _die_with(supervisor_pid: int, prctl: Any) -> Callable[[], None]:
    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor_pid:  # it ended before the signal was set
            os._exit(1)

    return prepare


class Supervisor:
    """The servers by name, and the commands on them."""

    def __init__(self) -> None:
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._at_end: list[list[str]] = []
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._prepare = _die_with(os.getpid(), prctl)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry one command out."""
        match command.get("do"):
            case "start":
                return self._start(command)
            case "poll":
                return {"ended": self._ended(list(self._servers))}
            case "stop":
                return {"ended": self.stop(command["names"], command["grace_seconds"])}
            case "at_end":
                self._at_end.append(command["argv"])
                return {}
            case other:
                return {"error": f"unknown command {other!r}"}

    def _start(self, command: dict[str, Any]) -> dict[str, Any]:
        name = command["name"]
        running = self._servers.get(name)
        if running is not None:
            if _exit_status(running) is None:
                return {"error": f"{name} is already running (pid {running.pid})"}
            self.stop([name], 0.0)
        try:
            with open(command["log"], "ab") as log:
                self._servers[name] = subprocess.Popen(
                    command["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=command["env"],
                    start_new_session=True,
                    preexec_fn=self._prepare,
                )
        except (OSError, subprocess.SubprocessError) as problem:
            return {"error": f"{name} could not be started: {problem}"}
        return {"pid": self._servers[name].pid}

    def _ended(self, names: list[str]) -> dict[str, int]:
        states = {name: _exit_status(self._servers[name]) for name in names if name in self._servers}
        return {name: status for name, status in states.items() if status is not None}

    def stop(self, names: list[str], grace_seconds: float) -> dict[str, int]:
        """Ask the named servers to end, wait, then kill what is left; their exit statuses."""
        known = [name for name in names if name in self._servers]
        if grace_seconds > 0:
            self._signal(known, signal.SIGTERM)
            deadline = time.monotonic() + grace_seconds
            while len(self._ended(known)) < len(known) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        # Also where the server itself has ended: its group may hold children of its own.
        for name in known:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._servers[name].pid, signal.SIGKILL)
        return {name: self._servers.pop(name).wait() for name in known}

    def stop_all(self) -> None:
        """Kill everything at once, then put in order what the kernel does not."""
        self.stop(list(self._servers), _ENDING_GRACE_SECONDS)
        for argv in self._at_end:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=_AT_END_SECONDS, check=False)
        self._at_end.clear()

    def _signal(self, names: list[str], number: int) -> None:
        for name in names:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._servers[name].pid, number)


def _exit_status(server: subprocess.Popen[bytes]) -> int | None:
    """How the server ended (negative: by that signal), or None. Its pid stays reserved until `stop`."""
    state = os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if state is None:
        return None
    return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status


def _caller_descriptor(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise SystemExit(1) from None  # the caller ended before we looked
    except OSError:
        return None  # a kernel without pidfd: end of file and the parent's pid remain


def serve(caller_pid: int) -> None:
    """Answer commands until the caller quits, closes the pipe or ends."""
    supervisor = Supervisor()
    commands, answers = sys.stdin.fileno(), sys.stdout.buffer
    caller = _caller_descriptor(caller_pid)
    stopping, waker = os.pipe()
    os.set_blocking(waker, False)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(waker, b"."))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = [commands, stopping] + ([caller] if caller is not None else [])
    buffer = b""
    try:
        while True:
            ready, _, _ = select.select(watched, [], [], 1.0)
            if stopping in ready or caller in ready or (caller is None and os.getppid() != caller_pid):
                return
            if commands not in ready:
                continue
            received = os.read(commands, 1 << 16)
            if not received:
                return
            buffer += received
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                command = json.loads(line)
                answer = {} if command.get("do") == "quit" else supervisor.answer(command)
                answers.write(json.dumps(answer).encode() + b"\n")
                answers.flush()
                if command.get("do") == "quit":
                    return
    except BrokenPipeError:
        return
    finally:
        supervisor.stop_all()


def main() -> None:
    """Serve, then remove the folder that was to be thrown away."""
    try:
        serve(int(sys.argv[1]))
    finally:
        if len(sys.argv) > 2:
            shutil.rmtree(sys.argv[2], ignore_errors=True)


if __name__ == "__main__":
    main()
