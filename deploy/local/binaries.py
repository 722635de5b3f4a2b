"""Find the programs of a control plane, or build them.

In this order, each only if it is the wanted version (`versions.py`): the folder `$KUBEBUILDER_ASSETS`, PATH
(there any Prometheus from 2.40 on will do: it is only asked queries), the own cache
`$XDG_CACHE_HOME/slicewise/bin/<component>-v<version>/<name>`, and last `go build` into that cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from deploy.local.build import BinaryUnavailable, Progress, build
from deploy.local.versions import DEFAULT_KUBERNETES, Program, UnknownVersion, programs

__all__ = [
    "CONTROL_PLANE",
    "BinaryUnavailable",
    "UnknownVersion",
    "cache_folder",
    "ensure",
    "ensure_programs",
    "find",
    "find_program",
]

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)\b")
_ASK_TIMEOUT_SECONDS = 20.0


def _silent(_: str) -> None:
    return None


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the built programs, by XDG's rule."""
    base = environment.get("XDG_CACHE_HOME") or ""
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "slicewise" / "bin"


def ensure(
    names: Iterable[str] = CONTROL_PLANE, kubernetes: str = DEFAULT_KUBERNETES, progress: Progress = _silent
) -> dict[str, Path]:
    """The path of every named program; what is nowhere to be found is built, with `progress` told.

    Raises UnknownVersion for a Kubernetes version that is not pinned here, BinaryUnavailable when a program
    is missing and Go is too or the build fails.
    """
    return ensure_programs([_program(name, kubernetes) for name in names], progress)


def ensure_programs(wanted: Sequence[Program], progress: Progress = _silent) -> dict[str, Path]:
    """As `ensure`, of programs told whole. Raises BinaryUnavailable."""
    paths = {program.name: find_program(program) for program in wanted}
    missing = [program for program in wanted if paths[program.name] is None]
    for number, program in enumerate(missing, start=1):
        position = f"{number} of {len(missing)}"
        paths[program.name] = build(program, cached_path(program), progress, position)
    return {name: path for name, path in paths.items() if path is not None}


def find(name: str, kubernetes: str = DEFAULT_KUBERNETES) -> Path | None:
    """Where the wanted version of a program is, or None where it would have to be built."""
    return find_program(_program(name, kubernetes))


def cached_path(program: Program) -> Path:
    """Where the cache keeps (or would keep) this program."""
    return cache_folder() / f"{program.component}-v{program.version}" / program.name


def _program(name: str, kubernetes: str) -> Program:
    known = programs(kubernetes)
    if name not in known:
        raise BinaryUnavailable(f"unknown program {name!r}: expected one of {', '.join(sorted(known))}")
    return known[name]


def find_program(program: Program) -> Path | None:
    """Where a program is in its wanted version, or None where it would have to be built."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        given = Path(assets) / program.name
        if _is_executable(given) and reported_version(given, program) == program.version:
            return given.absolute()
    on_path = shutil.which(program.name)
    if on_path is not None and _acceptable(reported_version(Path(on_path), program), program):
        return Path(on_path).absolute()
    cached = cached_path(program)
    # The cache is keyed by version and written by the builder alone: no need to ask it again.
    return cached if _is_executable(cached) else None


def reported_version(path: Path, program: Program) -> str | None:
    """What the program at `path` says its version is, without the `v`; None if it does not say."""
    try:
        answer = subprocess.run(
            [str(path), *program.version_arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer.stdout or answer.stderr)
    return match.group(1) if match and answer.returncode == 0 else None


def _acceptable(version: str | None, program: Program) -> bool:
    if version is None:
        return False
    if program.minimum_on_path is None:
        return version == program.version
    major, minor, _ = version.split(".")
    return (int(major), int(minor)) >= program.minimum_on_path


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
