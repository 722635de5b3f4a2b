"""This machine's Python in a pod: a nearly empty image, the machine's folders by read-only hostPath mounts.

A container of such a pod runs what is installed here, at the same paths, with no image that would have to be
built of it. Pure but for the look at this machine's folders.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local import images

_LIBRARIES = ("/usr", "/lib", "/lib64", "/bin")
# The names that the C library wants to know.
NAMES = {
    "/etc/passwd": b"root:x:0:0:root:/tmp:/bin/sh\n",
    "/etc/group": b"root:x:0:\n",
    "/etc/nsswitch.conf": b"passwd: files\nhosts: files dns\n",
}


def image(
    name: str, files: Mapping[str, bytes] | None = None, path: Sequence[str] = images.COMMAND_FOLDERS
) -> bytes:
    """The archive of an image of mount points. files: more than the C library's; path: where commands lie."""
    return images.archive(name, {**NAMES, **(files or {})}, ("/bin/sh",), path=path)


def base_prefix(python: Path) -> Path:
    """Where the interpreter of an environment has its standard library."""
    argv = [str(python), "-I", "-c", "import sys; print(sys.base_prefix)"]
    return Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())


def mounts(python: Path, more: Iterable[Path] = ()) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A pod's volumes and its container's volume mounts: the libraries, the environment of the interpreter
    `python` (<environment>/bin/python), what that was made from, and the folders `more`.
    """
    folders = {Path(path) for path in _LIBRARIES if Path(path).is_dir()}
    folders |= {python.parents[1], base_prefix(python), *more}
    outermost = sorted(folder for folder in folders if not folders & set(folder.parents))
    volumes = [
        {"name": f"machine-{number}", "hostPath": {"path": str(folder)}}
        for number, folder in enumerate(outermost)
    ]
    return volumes, [
        {"name": volume["name"], "mountPath": str(folder), "readOnly": True}
        for volume, folder in zip(volumes, outermost, strict=True)
    ]
