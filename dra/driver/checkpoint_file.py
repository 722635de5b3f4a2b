"""The checkpoint on disk, and the lock that keeps two drivers of one node from working at once.

A write goes to a new file, is synced, renamed over the old one, and the folder is synced: after a power cut
there is the old state or the new one. The lock is ``flock`` on a file beside it; the kernel lets it go with
the process, so a killed driver never leaves it behind. Two pods of a rolling upgrade share the folder.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dra.driver.checkpoint import Checkpoint, parse, render

CHECKPOINT = "checkpoint.json"
SERIALIZE_LOCK = "serialize.lock"
PUBLISH_LOCK = "publish.lock"


class CheckpointFile:
    """The state folder of one node's driver. Made when it does not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / CHECKPOINT
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)

    def read(self) -> Checkpoint:
        """The state; an empty one when there is no file. Raises CheckpointRefused, OSError."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Checkpoint()
        return parse(data, str(self.path))

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the state; it is on the disk when this returns. Raises OSError."""
        write_durably(self.path, render(checkpoint))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of all work on cards and checkpoint; waits for another driver that holds it."""
        with _opened(self.folder / SERIALIZE_LOCK) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def try_publish_lock(self) -> int | None:
        """Become the one driver that publishes: a file descriptor to keep open, or None when another is."""
        handle = os.open(self.folder / PUBLISH_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)  # which lets the lock go


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that a power cut leaves the old contents or the new. Raises OSError."""
    replace_file(path, data, sync=True)
    sync_folder(path.parent)


def replace_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a file so that readers and a killed writer leave the old contents or the new. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
