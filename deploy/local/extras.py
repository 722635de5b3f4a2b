"""Programs of others that Slicewise works with and that nobody needs to have: built only when asked for.

A cluster, the demo and `make test` do without them, since one of them may compile thousands of packages.
`python -m deploy.local binaries --with NAME` builds the programs of an extra into the same cache as the
control plane's and lays the manifests of that release beside them; a test takes what is there (`built`) and
says, where nothing is, by which command it comes. Each is pinned by a module of its own under
`deploy/local/modules`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.alone import alone_at
from deploy.local.binaries import cached_path, ensure_programs, find_program
from deploy.local.build import BinaryUnavailable, Progress, go_environment
from deploy.local.versions import MODULES, Program, required_version

_LIST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Extra:
    """What one name stands for: programs, and the files of their Go module `path` that are kept beside them.

    `files` are patterns below the module's root. A kept file has the same path below `files/` in the folder
    of the cache that holds the programs.
    """

    name: str
    path: str
    programs: tuple[Program, ...]
    files: tuple[str, ...]

    @property
    def module(self) -> Path:
        """The folder of the go.mod that pins it."""
        return self.programs[0].module

    @property
    def kept(self) -> Path:
        """Where its files are once it is built."""
        return cached_path(self.programs[0]).parent / "files"


@dataclass(frozen=True, slots=True)
class Built:
    """An extra that is on this machine: the path of each program by name, and the folder of its files."""

    programs: Mapping[str, Path]
    files: Path


def extras() -> Mapping[str, Extra]:
    """All extras by name."""
    return {extra.name: extra for extra in (_keda(), _karpenter())}


def built(name: str) -> Built:
    """An extra that was built before. Raises BinaryUnavailable with the command that builds it."""
    return there_already(extras()[name])


def there_already(extra: Extra) -> Built:
    """As `built`, of one told whole."""
    found = {program.name: find_program(program) for program in extra.programs}
    there = {name: path for name, path in found.items() if path is not None}
    if len(there) < len(found) or not extra.kept.is_dir():
        labels = ", ".join(program.label for program in extra.programs)
        raise BinaryUnavailable(
            f"{labels}: not built on this machine. `python -m deploy.local binaries --with {extra.name}` "
            f"builds them into {extra.kept.parent}"
        )
    return Built(there, extra.kept)


def ensure_extra(name: str, progress: Progress) -> Built:
    """An extra, built if it is not there. Raises BinaryUnavailable when that cannot be."""
    return ensure_built(extras()[name], progress)


def ensure_built(extra: Extra, progress: Progress) -> Built:
    """As `ensure_extra`, of one told whole."""
    programs = ensure_programs(extra.programs, progress)
    extra.kept.parent.mkdir(parents=True, exist_ok=True)  # all programs may have been on PATH
    with alone_at(
        extra.kept, lambda: progress(f"waiting for another process that keeps {extra.name}'s files")
    ):
        if not extra.kept.is_dir():
            _keep_files(extra)
    return Built(programs, extra.kept)


def _keep_files(extra: Extra) -> None:
    source = _source(extra)
    with tempfile.TemporaryDirectory(prefix=".files-", dir=extra.kept.parent) as scratch:
        folder = Path(scratch) / "files"
        for pattern in extra.files:
            matches = sorted(source.glob(pattern))
            if not matches:
                raise BinaryUnavailable(f"{extra.path}: expected files {pattern} in {source}, found none")
            for match in matches:
                target = folder / match.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(match, target)  # without the read-only mode of Go's module cache
        os.replace(folder, extra.kept)


def _source(extra: Extra) -> Path:
    """The folder of the Go module's own files, which a build has brought into Go's cache."""
    arguments = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", extra.path]
    try:
        answer = subprocess.run(
            arguments,
            cwd=extra.module,
            env=go_environment(),
            capture_output=True,
            text=True,
            timeout=_LIST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise BinaryUnavailable(f"`{' '.join(arguments)}` in {extra.module}: {problem}") from problem
    folder = answer.stdout.strip()
    if answer.returncode != 0 or not folder:
        raise BinaryUnavailable(
            f"`{' '.join(arguments)}` in {extra.module} ended with status {answer.returncode} and "
            f"{folder!r}, expected a folder: {answer.stderr.strip()}"
        )
    return Path(folder)


def _keda() -> Extra:
    """KEDA's operator and metrics adapter. The clients of every broker and cloud are in them."""
    module, path = MODULES / "keda", "github.com/kedacore/keda/v2"
    version = required_version(module, path)
    values = ((f"{path}/version.Version", f"v{version}"),)
    programs = tuple(
        Program(f"keda-{name}", "keda", version, module, f"{path}/cmd/{name}", values)
        for name in ("operator", "adapter")
    )
    return Extra(
        "keda",
        path,
        programs,
        ("config/crd/bases/*.yaml", "config/rbac/*.yaml", "config/metrics-server/*.yaml"),
    )


def _karpenter() -> Extra:
    """Karpenter with its simulated cloud. Its main function is our own source, so its digest counts too.

    1.14.1 is the newest release that Go 1.26.8 builds. Its NodeOverlays, definition and controller, are those
    of 1.15.0.
    """
    module, path = MODULES / "karpenter", "sigs.k8s.io/karpenter"
    own = hashlib.sha256((module / "main.go").read_bytes()).hexdigest()[:12]
    version = required_version(module, path)
    values = ((f"{path}/pkg/operator.Version", f"v{version}"),)
    program = Program("karpenter-kwok", "karpenter", f"{version}-{own}", module, ".", values)
    return Extra("karpenter", path, (program,), ("pkg/apis/crds/*.yaml", "kwok/apis/crds/*.yaml"))
