"""Start and stop the servers of one cluster through their supervisor (see `supervisor.py`).

Each server writes to `<folder>/<name>.log`. Whatever becomes of this process, its servers end with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_LOG_TAIL_LINES = 20
_LOG_TAIL_BYTES = 16_384
_LEAVE_SECONDS = 90.0  # longer than what is due at the end may take


class ServerFailed(RuntimeError):
    """A server could not be started, ended early or was not ready in time; the message has its last lines."""


class Processes:
    """The servers of one cluster. Safe to use from several threads."""

    def __init__(self, log_folder: Path, remove_folder: Path | None = None) -> None:
        """`remove_folder` is deleted when the servers are gone, also if this process ends by a signal."""
        log_folder.mkdir(parents=True, exist_ok=True)
        self._logs = log_folder
        self._lock = threading.Lock()
        self._pids: dict[str, int] = {}
        removed = [str(remove_folder)] if remove_folder is not None else []
        # -I and -S: it needs the standard library alone, and starts in half the time.
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR), str(os.getpid()), *removed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pids(self) -> Mapping[str, int]:
        """Process id of every server that was started and not stopped."""
        return dict(self._pids)

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor."""
        return self._supervisor.pid

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """Start a server and return its process id. Raises ServerFailed when it cannot be run."""
        environment = dict(os.environ if env is None else env)
        answer = self._ask(
            {"do": "start", "name": name, "argv": list(argv), "log": str(self.log(name)), "env": environment}
        )
        self._pids[name] = int(answer["pid"])
        return self._pids[name]

    def check(self, names: Sequence[str] | None = None) -> None:
        """Raise ServerFailed, with the end of its log, if one of the servers (None: any) has ended."""
        ended = self._ask({"do": "poll"})["ended"]
        for name, status in ended.items():
            if names is None or name in names:
                raise ServerFailed(f"{name} ended with status {status}; {self.log_tail(name)}")

    def stop(self, names: Sequence[str], grace_seconds: float) -> None:
        """End servers: ask, wait up to `grace_seconds`, kill. Unknown names are passed over."""
        self._ask({"do": "stop", "names": list(names), "grace_seconds": grace_seconds})
        for name in names:
            self._pids.pop(name, None)

    def at_end(self, argv: Sequence[str]) -> None:
        """Have a program run when every server has ended, also where this process was killed before."""
        self._ask({"do": "at_end", "argv": list(argv)})

    def close(self) -> None:
        """End whatever still runs, and the supervisor. May be called twice."""
        with self._lock:
            if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
                with contextlib.suppress(BrokenPipeError):  # it was killed: a command may be left unsent
                    self._supervisor.stdin.close()
            try:
                self._supervisor.wait(_LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
            if self._supervisor.stdout is not None:
                self._supervisor.stdout.close()
            self._pids.clear()

    def log(self, name: str) -> Path:
        """The log file of a server."""
        return self._logs / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """The last lines of a server's log, ready to be put into an error message."""
        path = self.log(name)
        try:
            with path.open("rb") as handle:
                handle.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
                lines = handle.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        except OSError as problem:
            return f"its log {path} cannot be read: {problem.strerror}"
        return "\n".join([f"the end of {path}:", *(f"    {line}" for line in lines)])

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            stdin, stdout = self._supervisor.stdin, self._supervisor.stdout
            if stdin is None or stdout is None or stdin.closed:
                raise ServerFailed(f"cannot {command['do']}: the cluster has been stopped")
            try:
                stdin.write(json.dumps(command).encode() + b"\n")
                stdin.flush()
                line = stdout.readline()
            except BrokenPipeError:
                line = b""
        if not line:
            raise ServerFailed(
                f"the supervisor of the cluster's processes (pid {self._supervisor.pid}) has ended, and they "
                f"with it; start the cluster anew"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ServerFailed(answer["error"])
        return answer
