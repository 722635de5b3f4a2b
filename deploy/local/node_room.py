"""Process 1 of a real node: the room (namespaces) in which its container runtime and kubelet run.

Run as a script by `unshare --mount --pid --net --fork --kill-child --mount-proc`, standard library only, as
`node_room.py READY_FILE FOLDER SOURCE=TARGET... FILE...`. Whatever is mounted or started in here is gone
with this process: the kernel ends every process of the process namespace, drops the mounts with the mount
namespace and the interfaces with the network namespace. No way of dying, of anybody, leaves a shim, a mount
or a bridge.

`/var` is covered by an overlay and `/run` by an empty file system, since kubelet and containerd write to
fixed places there (container log links, shim sockets, the folder of the device plugins), and pods look for
their sockets there: SOURCE is put in place of TARGET. Each FILE below `/proc/sys` is covered by a copy
in FOLDER: kubelet sets kernel parameters of the whole machine, and here it only believes that it does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_MS_BIND = 4096
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    arguments = [text.encode() for text in (source, target, kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{kind or 'bind'} mount: {os.strerror(number)}", target)


def furnish(folder: Path, covered: list[str]) -> None:
    """Make the mounts. Needs a mount namespace of its own."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    # An overlay's upper folder may not itself lie on an overlay, as a container's root does.
    mount("tmpfs", str(scratch), "tmpfs")
    for name in ("upper", "work"):
        (scratch / name).mkdir()
    layers = f"lowerdir=/var,upperdir={scratch}/upper,workdir={scratch}/work"
    mount("overlay", "/var", "overlay", 0, layers)
    mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
    for path in covered:
        source, _, target = path.partition("=")
        if target:
            Path(target).mkdir(parents=True, exist_ok=True)
            mount(source, target, "", _MS_BIND)
            continue
        copy = folder / path.strip("/").replace("/", "_")
        copy.write_text(Path(path).read_text())
        mount(str(copy), path, "", _MS_BIND)


def main() -> None:
    """Furnish the room, say so, then only reap until told to end."""
    ready, folder, *covered = sys.argv[1:]
    furnish(Path(folder), covered)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are handed to process 1: let the kernel reap them
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Path(ready).touch()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
