"""Model servers from PyPI, each in a virtual environment of its own, installed once and kept.

    python = ensure("ray")     # the environment's interpreter

The environments lie beside the control plane's programs in the user's cache,
`$XDG_CACHE_HOME/slicewise/model-servers/<name>-<digest of lock file and interpreter>`, outside the repository
and outside Slicewise's own environment: the servers pin what they need, and no two of them agree. Every
package is pinned with its hashes in `model_locks/<name>.lock`, made from `<name>.in` for LOCKED_FOR by

    python -m piptools compile --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
        --no-emit-trusted-host --no-emit-find-links --output-file <name>.lock <name>.in

A file lock keeps two installers apart; a mark at the end tells a finished environment from a broken-off one,
which is begun anew. Whether packages can be fetched is found out by trying.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from deploy.local.alone import alone_at
from deploy.local.binaries import cache_folder
from deploy.local.build import Progress
from deploy.local.followed import follow

__all__ = ["MODEL_SERVERS", "ModelServerFailed", "ModelServerUnavailable", "ensure", "find", "lock_file"]

MODEL_SERVERS = ("mlserver", "bentoml", "ray")
LOCKED_FOR = (3, 11)
_LOCKS = Path(__file__).parent / "model_locks"
_FINISHED = ".installed"
_KEPT_LINES = 20
# What pip says when nothing can be fetched, in its own words since pip 20.
_NO_INDEX_WORDS = ("No matching distribution found", "Could not fetch URL", "connection", "Connection")


class ModelServerFailed(RuntimeError):
    """An environment could not be made though packages can be fetched; the message has pip's last lines."""


class ModelServerUnavailable(RuntimeError):
    """This machine cannot have the server: no interpreter that the lock is for, or no package index."""


def _silent(_: str) -> None:
    return None


def lock_file(server: str) -> Path:
    """The pinned packages of a server. Raises ModelServerUnavailable for one that is not known here."""
    if server not in MODEL_SERVERS:
        raise ModelServerUnavailable(
            f"unknown model server {server!r}: expected one of {', '.join(MODEL_SERVERS)}"
        )
    return _LOCKS / f"{server}.lock"


def find(server: str) -> Path | None:
    """The interpreter of the server's finished environment, or None where it is yet to be installed."""
    base = _interpreter()
    folder = None if base is None else _folder(server, base)
    return None if folder is None or not (folder / _FINISHED).exists() else folder / "bin" / "python"


def ensure(server: str, progress: Progress = _silent) -> Path:
    """The interpreter of the server's environment, installed where it is not there yet.

    Raises ModelServerUnavailable (nothing can be fetched here), ModelServerFailed (the installation broke).
    """
    lock = lock_file(server)
    base = _interpreter()
    if base is None:
        wanted = ".".join(str(part) for part in LOCKED_FOR)
        raise ModelServerUnavailable(
            f"{server}: {lock.name} is for Python {wanted} and there is no python{wanted} on PATH"
        )
    folder = _folder(server, base)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone_at(folder, lambda: progress(f"waiting for another process that is installing {server}")):
        if not (folder / _FINISHED).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(server, lock, base, folder, progress)
            (folder / _FINISHED).touch()
    return folder / "bin" / "python"


def _interpreter() -> Path | None:
    """A Python of the version that the lock files are for: the present one's, else the one on PATH."""
    if sys.version_info[:2] == LOCKED_FOR:
        return Path(os.path.realpath(sys.executable))
    found = shutil.which("python" + ".".join(str(part) for part in LOCKED_FOR))
    return None if found is None else Path(os.path.realpath(found))


def _folder(server: str, base: Path) -> Path:
    digest = hashlib.sha256(lock_file(server).read_bytes() + str(base).encode()).hexdigest()[:12]
    return cache_folder().parent / "model-servers" / f"{server}-{digest}"


def _install(server: str, lock: Path, base: Path, folder: Path, progress: Progress) -> None:
    wanted = sum(1 for line in lock.read_text().splitlines() if "==" in line and not line.startswith("#"))
    began = time.monotonic()
    progress(f"installing {server}: {wanted} packages into {folder}")
    made = subprocess.run([str(base), "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise ModelServerFailed(
            f"{server}: {base} could not make an environment in {folder} (Debian package python3-venv?): "
            f"{(made.stderr or made.stdout).strip()}"
        )
    arguments = ("--require-hashes", "--no-deps", "--no-input", "--disable-pip-version-check")
    fetched = 0

    def line(said: str) -> bool:
        nonlocal fetched
        fetched += said.startswith("Collecting ")
        return bool(said.strip())

    status, last = follow(
        [str(folder / "bin" / "python"), "-m", "pip", "install", *arguments, "-r", str(lock)],
        line,
        lambda seconds: progress(
            f"installing {server}: {seconds:.0f} s, {fetched} of {wanted} packages fetched"
        ),
        kept_lines=_KEPT_LINES,
    )
    if status != 0:
        words = "\n".join(f"    {said}" for said in last)
        if any(word in said for said in last for word in _NO_INDEX_WORDS):
            raise ModelServerUnavailable(f"{server} cannot be fetched from a package index here:\n{words}")
        raise ModelServerFailed(f"{server}: pip ended with status {status}:\n{words}")
    progress(f"installed {server} in {time.monotonic() - began:.0f} s")
