"""Container images made here: no registry, no builder, one layer of given files.

The archive has the form `docker save` writes (manifest.json, a config, layers as tar files; the OCI image
specification's config), which `ctr images import` reads. The bytes depend on the arguments alone, and on
this machine's processor where none is named. A large image is written as its files are read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

COMMAND_FOLDERS = ("/usr/bin", "/bin")
MOUNT_POINTS = ("dev", "etc", "proc", "sys", "tmp")
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link in an image."""

    target: str


# What an image may have at a path: bytes (executable), a file of this machine (links are followed), a link.
Content = bytes | Path | Link


def machine_architecture() -> str:
    """Go's word for this machine's processor."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def archive(
    name: str,
    files: Mapping[str, bytes],
    command: Sequence[str],
    folders: Sequence[str] = MOUNT_POINTS,
    architecture: str | None = None,
    path: Sequence[str] = COMMAND_FOLDERS,
) -> bytes:
    """An image archive. name: with its tag, as in `localhost/pause:1`. files: by absolute path, executable.

    command: the entry point. folders: made empty, as mount points for what a pod brings.
    architecture: Go's word for the processor, this machine's by default. path: where commands are looked for.
    """
    written = io.BytesIO()
    write(written, name, files, command, folders, architecture, path)
    return written.getvalue()


def write(
    out: IO[bytes],
    name: str,
    files: Mapping[str, Content],
    command: Sequence[str],
    folders: Sequence[str] = MOUNT_POINTS,
    architecture: str | None = None,
    path: Sequence[str] = COMMAND_FOLDERS,
) -> None:
    """Write such an archive to a file at its beginning. A file of this machine keeps the time of its last
    change, by which Python knows whether what it compiled is still good; owner and group are root.

    Raises OSError for a file that cannot be read.
    """
    # How long the layer is stands before it, and is known after it.
    out.write(bytes(tarfile.BLOCKSIZE))
    hashed = _Hashed(out)
    _write_layer(hashed, files, folders)
    _member(out, 0, "layer.tar", hashed.length)
    out.seek(0, os.SEEK_END)
    out.write(bytes(-hashed.length % tarfile.BLOCKSIZE))
    config = json.dumps(
        {
            "architecture": architecture or machine_architecture(),
            "os": "linux",
            "config": {"Entrypoint": list(command), "Env": [f"PATH={':'.join(path)}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashed.digest()}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    for part, content in ((config_name, config), ("manifest.json", json.dumps(manifest).encode())):
        _member(out, out.tell(), part, len(content))
        out.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    out.write(bytes(2 * tarfile.BLOCKSIZE))


def _member(out: IO[bytes], offset: int, name: str, length: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = length, 0o755
    out.seek(offset)
    out.write(entry.tobuf(tarfile.GNU_FORMAT))


class _Hashed:
    """Hands on what is written, with its length and digest."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.length = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.length += len(data)
        return self._out.write(data)

    def tell(self) -> int:
        return self.length

    def digest(self) -> str:
        return self._hash.hexdigest()


def _write_layer(out: Any, files: Mapping[str, Content], folders: Sequence[str]) -> None:
    paths = {path.lstrip("/"): content for path, content in files.items()}
    parents = {str(parent) for path in (*paths, *folders) for parent in Path(path).parents} - {"."}
    with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_BUFFER_BYTES) as tar:
        # A parent comes before what is in it.
        for folder in sorted(parents | set(folders)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, content in sorted(paths.items(), key=lambda item: item[0]):
            _add(tar, tarfile.TarInfo(path), content)


def _add(tar: tarfile.TarFile, entry: tarfile.TarInfo, content: Content) -> None:
    entry.mode = 0o755
    if isinstance(content, Link):
        entry.type, entry.linkname = tarfile.SYMTYPE, content.target
        tar.addfile(entry)
    elif isinstance(content, Path):
        with content.open("rb") as source:
            seen = os.fstat(source.fileno())
            entry.size, entry.mtime = seen.st_size, int(seen.st_mtime)
            entry.mode = 0o755 if seen.st_mode & 0o111 else 0o644
            tar.addfile(entry, source)
    else:
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
