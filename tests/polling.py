"""Waiting in tests: look again and again until something holds, and fail by name when it never does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Waiting longer costs only where a test fails, so a busy machine gets four times what an idle one needs.
PATIENCE = 4.0
LONGEST_SECONDS = 120.0  # a test itself may take 300 s
SOON_SECONDS = 60.0  # for what waits by itself (an event, a join, an answer): a moment, however busy we are


def patient(seconds: float) -> float:
    """How long to wait for what takes up to ``seconds`` on an idle machine."""
    return max(seconds, min(PATIENCE * seconds, LONGEST_SECONDS))


def until(condition: Callable[[], T], seconds: float, what: str, *, every_seconds: float = 0.05) -> T:
    """The first true answer of ``condition``, which comes within ``seconds`` on an idle machine.

    Fails when there is none in `patient` time. An error of ``condition`` is no answer: it is raised, so that
    a wrong question is not taken for a slow one.
    """
    deadline = time.monotonic() + patient(seconds)
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {patient(seconds):g} s")
        pause(every_seconds)
    return found


def throughout(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Fails when ``condition`` stops to hold within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError(f"{what}: did not last {seconds:g} s")
        pause(0.2)


def pause(seconds: float) -> None:
    """Let time pass, where nothing can be waited for: a test that something does *not* happen."""
    threading.Event().wait(seconds)
