"""One process of this machine at a time makes a thing that is kept; the next one finds it made."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def alone_at(made: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock beside ``made``, which lets go however this process ends. ``waiting`` is called once when
    another process has it.
    """
    with (made.parent / f".{made.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
