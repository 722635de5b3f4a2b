"""Processes that share the work of a study. They end with the process that made them, whatever ends it.

A worker waits for its next job at a pipe whose other end it holds open itself, so that it would never learn
that nobody is left to send one: a thread in each waits for the maker's end instead.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


def workers(processes: int) -> ProcessPoolExecutor:
    """A pool of so many processes, started anew and not forked: threads and locks stay where they are."""
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_maker)


def _end_with_maker() -> None:
    threading.Thread(target=_wait_for_maker, name="maker", daemon=True).start()


def _wait_for_maker() -> None:
    maker = parent_process()
    if maker is not None:
        maker.join()
        os._exit(1)
