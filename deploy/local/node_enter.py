"""Run a program inside the room of a real node (`node_room.py`) and end with it.

Run as a script, standard library only: `node_enter.py PID NAMESPACES PID_FILE PROGRAM ARGUMENT...`, where
PID is process 1 of the room as seen from here and NAMESPACES a comma-separated list out of `mnt`, `net`,
`pid`. Unlike `nsenter` it passes SIGTERM on, takes the program down when it is killed itself, and writes the
program's process id, as seen from here, to PID_FILE.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def enter(pid: int, namespaces: list[str]) -> None:
    """setns(2) into each namespace; the process namespace holds for children only."""
    libc = ctypes.CDLL(None, use_errno=True)
    handles = {name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in namespaces}
    # The mount namespace last: after it this process's /proc is the room's.
    for name in sorted(handles, key=lambda name: name == "mnt"):
        if libc.setns(handles[name], 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}", name)
        os.close(handles[name])


def main() -> None:
    """Enter, start the program, wait for it."""
    pid, namespaces, pid_file, *argv = sys.argv[1:]
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    enter(int(pid), namespaces.split(","))
    child = os.fork()
    if child == 0:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            os.execv(argv[0], argv)
        finally:
            os._exit(127)
    # The place of the file is outside what the room covers.
    Path(pid_file).write_text(str(child))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    _, status = os.waitpid(child, 0)
    raise SystemExit(os.waitstatus_to_exitcode(status) % 256)


if __name__ == "__main__":
    main()
