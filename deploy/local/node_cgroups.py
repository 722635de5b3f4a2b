"""Remove the empty control groups that a real node leaves: the one thing its kernel namespaces do not clear.

Run as a script by the node's supervisor when it has ended the servers, standard library only:
`node_cgroups.py NAME PID`, where PID is process 1 of the node's room: it is waited for, since it goes as the
last of its namespace. Groups are folders; one that still has a process in it cannot be removed and stays.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_DEADLINE_SECONDS = 20.0
_POLL_SECONDS = 0.05


def roots(name: str) -> list[Path]:
    """The node's groups: one for each controller (version 1), or the one (version 2)."""
    return [path for path in (_MOUNT / name, *_MOUNT.glob(f"*/{name}")) if path.is_dir()]


def remove(name: str) -> list[Path]:
    """Remove the node's groups, deepest first; what is left of them after the deadline."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while True:
        for root in roots(name):
            folders = sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True)
            for folder in (*folders, root):
                # Busy for a moment after its last process has ended.
                with contextlib.suppress(OSError):
                    folder.rmdir()
        left = roots(name)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_POLL_SECONDS)


def wait_for_end(pid: int) -> None:
    """Until the process has ended, or until the deadline."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    select.select([handle], [], [], _DEADLINE_SECONDS)
    os.close(handle)


if __name__ == "__main__":
    wait_for_end(int(sys.argv[2]))
    for group in remove(sys.argv[1]):
        print(f"control group {group} is still in use", file=sys.stderr)
