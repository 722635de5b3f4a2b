"""The planner's end of the solver process: submit a problem, be told when there is an answer or none.

One request at a time. A process that has not answered a little after the deadline is killed, as is one that
sent what cannot be read; the next request starts a fresh one, after a pause that doubles while it keeps
failing. ``submit`` never blocks: a thread writes and reads.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol, cast

import msgspec

from scheduler.packing.plan_problem import PlanAnswer, PlanProblem
from scheduler.planner.solver import SolveReply, SolveRequest, write_frame

log = logging.getLogger(__name__)

GRACE_SECONDS = 0.75
START_SECONDS = 10.0
"""What a fresh process may need to load before its first answer: its first request may take that much
longer.
"""
_LONGEST_PAUSE_SECONDS = 60.0
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024

Done = Callable[[PlanAnswer | None], None]


class Solver(Protocol):
    """What the planner needs of a solver."""

    def submit(self, problem: PlanProblem, seconds: float, done: Done) -> bool:
        """Start solving; False where that is not possible now. ``done`` is called once, from another
        thread.
        """
        ...

    def stop(self) -> None:
        """End it."""
        ...


class SolverProcess:
    """A solver in a child process."""

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-m", "scheduler.planner.solver"),
        clock: Callable[[], float] = time.monotonic,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._start_seconds = start_seconds
        self._command, self._clock = list(command), clock
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: queue.SimpleQueue[tuple[SolveRequest, Done] | None] = queue.SimpleQueue()
        self._busy = threading.Event()
        self._lock = threading.Lock()
        self._stopping = False
        self._warm = False
        self._number = 0
        self._failures = 0
        self._not_before = 0.0
        self._decoder = msgspec.msgpack.Decoder(SolveReply)
        self._thread = threading.Thread(target=self._run, name="plan-solver", daemon=True)

    def start(self) -> None:
        """Start the thread and the process, so that the first plan need not wait for it to load."""
        self._ensure()
        self._thread.start()

    def submit(self, problem: PlanProblem, seconds: float, done: Done) -> bool:
        """See ``Solver``."""
        if self._busy.is_set() or self._stopping or self._clock() < self._not_before:
            return False
        self._busy.set()
        self._number += 1
        self._requests.put((SolveRequest(self._number, seconds, problem), done))
        return True

    def stop(self) -> None:
        """End the process and the thread; an answer under way is given up."""
        with self._lock:
            self._stopping = True
        self._requests.put(None)
        self._kill()
        if self._thread.is_alive():
            self._thread.join(10.0)

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _run(self) -> None:
        while (item := self._requests.get()) is not None:
            request, done = item
            answer: PlanAnswer | None = None
            try:
                answer = self._solve(request)
                self._failures = 0
            except (OSError, ValueError, msgspec.DecodeError) as problem:
                if not self._stopping:
                    self._failures += 1
                    pause = min(2.0 ** (self._failures - 1), _LONGEST_PAUSE_SECONDS)
                    self._not_before = self._clock() + pause
                    log.warning(
                        "plan solver: %s; the plan by price is used, next try in %g s", problem, pause
                    )
                self._kill()
            finally:
                self._busy.clear()
                done(answer)

    def _solve(self, request: SolveRequest) -> PlanAnswer | None:
        self._ensure()
        process, fresh = self._process, not self._warm
        if process is None or process.stdin is None:
            raise ValueError("the solver is being stopped")
        until = self._clock() + request.seconds + GRACE_SECONDS + (self._start_seconds if fresh else 0.0)
        write_frame(cast(BinaryIO, process.stdin), msgspec.msgpack.encode(request))
        size = struct.unpack("<I", self._read(process, 4, until))[0]
        if size > _LARGEST_ANSWER_BYTES:
            raise ValueError(f"an answer of {size} bytes, expected at most {_LARGEST_ANSWER_BYTES}")
        reply = self._decoder.decode(self._read(process, size, until))
        if reply.number != request.number:
            raise ValueError(f"answer {reply.number} to request {request.number}")
        self._warm = True
        if reply.error:
            log.warning("plan solver: %s; the plan by price is used", reply.error)
        return reply.answer

    def _read(self, process: subprocess.Popen[bytes], size: int, until: float) -> bytes:
        assert process.stdout is not None
        parts, missing = [], size
        while missing:
            left = until - self._clock()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError("no answer by the deadline")
            part = process.stdout.raw.read(missing)  # type: ignore[attr-defined]
            if not part:
                raise ValueError(f"the process ended (status {process.poll()})")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _ensure(self) -> None:
        """Start the process where there is none."""
        if self.pid is not None:
            return
        self._kill()
        with self._lock:
            if self._stopping:
                raise ValueError("the solver is being stopped")
            self._warm = False
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _kill(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
