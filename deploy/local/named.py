"""Clusters that outlive one command: where their state is, and whether they run.

A named cluster has the folder `$XDG_STATE_HOME/slicewise/local/<name>` with `state.json` (what a second
command needs to know), `admin.kubeconfig`, `logs/` and `up.log` of a detached one. Its owner, the process
that runs `up`, holds a lock on `lock` as long as it lives: that, not a process id on disk, says whether it
runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_NAME = "default"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_POLL_SECONDS = 0.05


class BadName(ValueError):
    """A cluster name that would not do as the name of a folder."""


class ClusterNotRunning(RuntimeError):
    """The named cluster does not run."""


class ClusterRunning(RuntimeError):
    """The named cluster runs already."""


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """What `up` leaves for the other commands; `processes` are process ids by server."""

    name: str
    version: str
    url: str
    kubeconfig: str
    pid: int
    since_seconds: float
    processes: Mapping[str, int]


def state_folder(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of a named cluster. Raises BadName."""
    if not _NAME.fullmatch(name):
        raise BadName(
            f"cluster name {name!r}: expected 1 to 40 lower-case letters, digits and dashes, "
            f"beginning and ending with a letter or digit"
        )
    base = environment.get("XDG_STATE_HOME") or ""
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "slicewise" / "local" / name


def is_running(name: str) -> bool:
    """Whether a process owns the named cluster."""
    lock = state_folder(name) / "lock"
    if not lock.exists():
        return False
    with lock.open("r") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def ownership(name: str) -> Iterator[Path]:
    """Own the named cluster for the length of the block; its folder. Raises ClusterRunning."""
    folder = state_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterRunning(
                f"cluster {name!r} is running already: use it, `down --name {name}` first, or another --name"
            ) from None
        _forget(folder)
        try:
            yield folder
        finally:
            _forget(folder)


def publish(cluster: RunningCluster) -> None:
    """Let the other commands know that the cluster is ready."""
    path = state_folder(cluster.name) / "state.json"
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(cluster), indent=2) + "\n")
    draft.replace(path)


def look_up(name: str) -> RunningCluster:
    """The running cluster of that name. Raises ClusterNotRunning, also while it is still starting."""
    path = state_folder(name) / "state.json"
    if not is_running(name):
        raise ClusterNotRunning(f"cluster {name!r} is not running: start it with `up --name {name}`")
    try:
        return RunningCluster(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise ClusterNotRunning(f"cluster {name!r} is starting or stopping: look again in a moment") from None


def shut_down(name: str, within_seconds: float) -> None:
    """End the named cluster and wait until it has ended. Raises ClusterNotRunning, TimeoutError."""
    owner = look_up(name)
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(owner.pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            select.select([descriptor], [], [], within_seconds)
        finally:
            os.close(descriptor)
    deadline = time.monotonic() + _POLL_SECONDS
    while is_running(name):
        if time.monotonic() > deadline:
            raise TimeoutError(f"cluster {name!r} (pid {owner.pid}) did not end in {within_seconds:.0f} s")
        time.sleep(_POLL_SECONDS)


def _forget(folder: Path) -> None:
    """Remove what is true of a running cluster only; the logs stay."""
    (folder / "state.json").unlink(missing_ok=True)
    for kubeconfig in folder.glob("*.kubeconfig"):
        kubeconfig.unlink()
    for kept in ("pki", "etcd"):
        shutil.rmtree(folder / kept, ignore_errors=True)
