"""Waiting in tests: look again and again until something holds, and fail by name when it never does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float, what: str, *, every_seconds: float = 0.05) -> T:
    """The first true answer of ``condition``; fails when there is none within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
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
