"""Free loopback ports for servers that must be told their port before they start.

A port is drawn below the range from which the kernel serves outgoing connections, tried with `bind`, and
claimed by a lock on a small file named after it, so that two clusters starting in the same moment do not
draw the same one. The claim ends with `release()` or with the process that made it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from io import TextIOWrapper
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST_PORT = 20_000
HIGHEST_PORT = 32_000
_ATTEMPTS = 400


class NoFreePort(RuntimeError):
    """No loopback port could be claimed."""


class PortClaims:
    """The ports one owner has claimed."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._locks: dict[int, TextIOWrapper] = {}

    def claim(self) -> int:
        """A TCP port on 127.0.0.1 that nobody listens on and no other claim holds. Raises NoFreePort."""
        folder = Path(tempfile.gettempdir()) / f"slicewise-ports-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        for _ in range(_ATTEMPTS):
            port = self._random.randrange(LOWEST_PORT, HIGHEST_PORT)
            if port not in self._locks and self._try(port, folder):
                return port
        raise NoFreePort(
            f"no free port on {LOOPBACK} between {LOWEST_PORT} and {HIGHEST_PORT} after {_ATTEMPTS} draws: "
            f"end programs that listen there, or remove stale files in {folder}"
        )

    def release(self) -> None:
        """Give all claims up."""
        for handle in self._locks.values():
            handle.close()
        self._locks.clear()

    def _try(self, port: int, folder: Path) -> bool:
        handle = (folder / str(port)).open("w")
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind((LOOPBACK, port))
            self._locks[port] = handle
            return True
        handle.close()
        return False
