"""What waits while a round computes: one interpreter runs one thread at a time.

Python code that runs beside a round takes its time from it, and more than it uses: each time the round waits
for anything, another thread has the interpreter first, for 5 ms at a time. So the direct scrape, the slow
questions and the loops of minutes (``cluster.periodic.Gate``) begin nothing while a round runs, and the
garbage collector (25 to 60 ms at a thousand workloads) comes after it. A round that waits for others, such as
a Prometheus that is away, holds the scrape no longer than ``LONGEST_HOLD_SECONDS`` of it a phase.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol


class Held(Protocol):
    """Something that can begin nothing for a while; ``hold`` may be repeated to prolong it."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


class Undisturbed:
    """A context manager around a round, used by its thread."""

    def __init__(self, beside: Sequence[Held]) -> None:
        self._beside = beside
        self._collects = True

    def hold(self) -> None:
        """Again from here on: a hold ends by itself."""
        for one in self._beside:
            one.hold()

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()
        self.hold()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._beside:
            one.release()
        if self._collects:
            gc.enable()
