"""Whether this machine can run a real node (`real_node.py`), and if not, the one reason to show.

Nothing is built or left behind by asking; the answer is kept for the life of the process.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.local.binaries import find
from deploy.local.versions import WORKLOAD

__all__ = ["PROGRAMS", "why_not"]

PROGRAMS = (
    *("kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "runc"),
    *("loopback", "bridge", "host-local", WORKLOAD),
)
_TRIAL = (
    "mount -t overlay overlay -o lowerdir=/var/lib,upperdir=$1/u,workdir=$1/w /var/lib && "
    "ip link add swtrial0 type veth peer name swtrial1 && ip link add swtrial2 type bridge"
)


@functools.cache
def why_not() -> str | None:
    """Why no real node can be started on this machine, or None where one can. Starts and builds nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a real node needs root on Linux (namespaces, control groups, mounts)"
    for tool, package in (("unshare", "util-linux"), ("ip", "iproute2"), ("mount", "util-linux")):
        if shutil.which(tool) is None:
            return f"`{tool}` is not on PATH (Debian package {package})"
    if not os.access("/sys/fs/cgroup", os.W_OK) or not _cgroup_writable():
        return "no control group can be made below /sys/fs/cgroup"
    missing = [name for name in PROGRAMS if find(name) is None]
    if missing and shutil.which("go") is None:
        return f"{', '.join(missing)}: not found, and there is no `go` on PATH to build them"
    if "runc" in missing and shutil.which("gcc") is None:
        return "runc: not found, and there is no `gcc` on PATH to build it"
    return _trial()


def _cgroup_writable() -> bool:
    root = Path("/sys/fs/cgroup")
    folders = [path for path in root.glob("memory") if path.is_dir()] or [root]
    trial = folders[0] / f"slicewise-trial-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    return True


def _trial() -> str | None:
    """Make the kinds of namespace, mount and interface that a node needs, and throw them away."""
    with tempfile.TemporaryDirectory() as folder:
        script = f'mount -t tmpfs tmpfs "$1" && mkdir "$1/u" "$1/w" && {_TRIAL}'
        flags = ("--mount", "--pid", "--net", "--fork", "--mount-proc")
        argv = ["unshare", *flags, "sh", "-c", script, "sh", folder]
        answer = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if answer.returncode == 0:
        return None
    words = answer.stderr.strip().splitlines()
    return f"the kernel refuses a namespace, an overlay or an interface: {words[-1] if words else '?'}"
