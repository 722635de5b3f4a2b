"""Container images made here: no registry, no builder, one layer of given files.

The archive has the form `docker save` writes (manifest.json, a config, layers as tar files; the OCI image
specification's config), which `ctr images import` reads. The bytes depend on the arguments alone, and on
this machine's processor where none is named.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence

COMMAND_FOLDERS = ("/usr/bin", "/bin")


def machine_architecture() -> str:
    """Go's word for this machine's processor."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def archive(
    name: str,
    files: Mapping[str, bytes],
    command: Sequence[str],
    folders: Sequence[str] = ("dev", "etc", "proc", "sys", "tmp"),
    architecture: str | None = None,
    path: Sequence[str] = COMMAND_FOLDERS,
) -> bytes:
    """An image archive. name: with its tag, as in `localhost/pause:1`. files: by absolute path, executable.

    command: the entry point. folders: made empty, as mount points for what a pod brings.
    architecture: Go's word for the processor, this machine's by default. path: where commands are looked for.
    """
    layer = _tar({path.lstrip("/"): content for path, content in files.items()}, folders)
    config = json.dumps(
        {
            "architecture": architecture or machine_architecture(),
            "os": "linux",
            "config": {"Entrypoint": list(command), "Env": [f"PATH={':'.join(path)}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {config_name: config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    return _tar(parts, ())


def _tar(files: Mapping[str, bytes], folders: Sequence[str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()
