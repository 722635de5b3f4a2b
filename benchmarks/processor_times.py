"""Who had the processor meanwhile: this program with all it started, or other programs of the machine.

Read from /proc (proc(5)): processor time of every process, and of a thread also the time in which it was
ready to run and waited for a core. A measurement beside other work is slower than one alone, and a nice value
does not prevent that: where the kernel groups tasks by session (CONFIG_SCHED_AUTOGROUP), it counts only
within a session. So a benchmark tells how much of the machine others had.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessorTimes:
    """Seconds since some time in the past: of all programs, of this one with its descendants, and of the
    thread that read it: on a core, and ready to run without one.
    """

    all_seconds: float
    own_seconds: float
    thread_seconds: float
    thread_waited_seconds: float

    def since(self, before: ProcessorTimes) -> dict[str, float]:
        """What passed between two readings of the same thread."""
        everybody = self.all_seconds - before.all_seconds
        own = self.own_seconds - before.own_seconds
        return {
            "processor_seconds": self.thread_seconds - before.thread_seconds,
            "waited_for_a_core_seconds": self.thread_waited_seconds - before.thread_waited_seconds,
            "processor_seconds_of_others": max(0.0, everybody - own),
        }


def read_processor_times() -> ProcessorTimes:
    """Read them now, for the calling thread."""
    user, nice, system, _, _, irq, softirq, *_ = (
        int(ticks) / _TICKS for ticks in (_PROC / "stat").read_text().splitlines()[0].split()[1:]
    )
    ran, waited, _ = (_PROC / f"self/task/{threading.get_native_id()}/schedstat").read_text().split()
    return ProcessorTimes(
        user + nice + system + irq + softirq, _own_seconds(), int(ran) / 1e9, int(waited) / 1e9
    )


def _own_seconds() -> float:
    """Of this process and its living descendants."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        seconds[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    ours = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= found
    return sum(seconds.get(pid, 0.0) for pid in ours)
