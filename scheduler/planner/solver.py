"""The solver process: plans in on standard input, answers out on standard output.

    python -m scheduler.planner.solver

CP-SAT and the LPs run here and not in the controller: a crash, a hang or a gigabyte of columns must not touch
what nominates and scales. Frames are a 4-byte little-endian length and msgpack. The process runs at a low
priority, and ends when its input ends or its parent is gone, also in the middle of a solve. Nothing else is
read or written; errors go to standard error and to the answer.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from typing import BinaryIO

import msgspec

from scheduler.packing.plan_check import violations
from scheduler.packing.plan_problem import PlanAnswer, PlanProblem
from scheduler.packing.plan_solve import solve_plan

NICENESS = 10
_LOOK_FOR_PARENT_SECONDS = 0.5


class SolveRequest(msgspec.Struct, frozen=True):
    """One plan to make within ``seconds``."""

    number: int
    seconds: float
    problem: PlanProblem


class SolveReply(msgspec.Struct, frozen=True):
    """The plan, or why there is none."""

    number: int
    answer: PlanAnswer | None = None
    error: str = ""


def write_frame(stream: BinaryIO, body: bytes) -> None:
    """Write one frame."""
    stream.write(struct.pack("<I", len(body)) + body)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read one frame; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = struct.unpack("<I", head)[0]
    body = stream.read(size)
    return body if len(body) == size else None


def reply_to(request: SolveRequest) -> SolveReply:
    """Solve one request; a plan that breaks a rule is an error, never an answer."""
    try:
        answer = solve_plan(request.problem, request.seconds, time.monotonic)
        broken = violations(request.problem, answer.placing)
    except Exception as error:  # noqa: BLE001 - told to the other side, which has a plan of its own
        return SolveReply(request.number, error=f"{type(error).__name__}: {error}")
    if broken:
        return SolveReply(request.number, error=f"the plan breaks a rule: {broken[0]}")
    return SolveReply(request.number, answer)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_SECONDS)
    os._exit(0)


def main() -> int:
    """Serve until the input ends."""
    os.nice(NICENESS)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    decoder = msgspec.msgpack.Decoder(SolveRequest)
    while (body := read_frame(sys.stdin.buffer)) is not None:
        try:
            write_frame(sys.stdout.buffer, msgspec.msgpack.encode(reply_to(decoder.decode(body))))
        except BrokenPipeError:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
