"""One line that says how far the demo is: redrawn on a terminal, every few seconds elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

_BAR = 24
_QUIET_SECONDS = 10.0


class Progress:
    """``part`` of ``parts`` sides, each from 0 to 1."""

    def __init__(self, stream: TextIO, parts: int) -> None:
        self._stream = stream
        self._parts = parts
        self._began = time.monotonic()
        self._last = -_QUIET_SECONDS
        self._part = 0
        self._drawn = 0

    def next_part(self, number: int) -> None:
        self._part = number

    def __call__(self, share: float, text: str) -> None:
        total = (self._part + min(1.0, share)) / self._parts
        seconds = time.monotonic() - self._began
        if self._stream.isatty():
            filled = round(total * _BAR)
            line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {total:4.0%} {seconds:4.0f} s  {text}"
            self._stream.write("\r" + line.ljust(self._drawn))
            self._drawn = len(line)
        elif seconds - self._last >= _QUIET_SECONDS:
            self._stream.write(f"{total:4.0%} {seconds:4.0f} s  {text}\n")
            self._last = seconds
        self._stream.flush()

    def clear(self) -> None:
        """End the line, so that other text can be printed."""
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._drawn = 0
            self._stream.flush()
