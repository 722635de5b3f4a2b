"""Run a program of minutes and tell how far it is, line by line of what it says."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPORT_EVERY_SECONDS = 5.0


def follow(
    arguments: Sequence[str],
    line: Callable[[str], bool],
    report: Callable[[float], None],
    *,
    kept_lines: int,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, list[str]]:
    """The program's exit status and the last lines, at most ``kept_lines``, of those that ``line`` answers
    True for.

    line: given everything that it says, by the line. report: given the seconds since it began, every
    REPORT_EVERY_SECONDS; both are called from one thread at a time each. The program ends with this call.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        list(arguments),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    last: deque[str] = deque(maxlen=kept_lines)

    def read() -> None:
        assert process.stdout is not None
        for said in process.stdout:
            if line(said):
                last.append(said.rstrip())

    reader = threading.Thread(target=read, name="program-output", daemon=True)
    reader.start()
    try:
        while True:
            try:
                status = process.wait(REPORT_EVERY_SECONDS)
                break
            except subprocess.TimeoutExpired:
                report(time.monotonic() - began)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join()
        if process.stdout is not None:
            process.stdout.close()
    return status, list(last)
