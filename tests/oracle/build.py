"""Builds and asks the oracles: the real device allocators of Kubernetes 1.34, 1.35 and 1.36.

Each version is a Go module of its own (``kubernetes-<minor>``) around the shared program ``protocol``, whose
comment is the protocol. They are built like the programs of the local control plane, into the
same cache; a version of the sources is a version of the program, so an edit is never answered by
an old one.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deploy.local.binaries import cached_path
from deploy.local.build import Progress, build
from deploy.local.versions import Program, required_version
from dra.releases import RELEASES, Version

FOLDER = Path(__file__).parent
VERSIONS: tuple[Version, ...] = tuple(RELEASES)
# What `structured.NewAllocator` is to choose with default feature gates (see dra.releases).
ALLOCATORS: Mapping[Version, str] = MappingProxyType(
    {"1.34": "*experimental.Allocator", "1.35": "*incubating.Allocator", "1.36": "*incubating.Allocator"}
)
_LIBRARY = "k8s.io/dynamic-resource-allocation"


def program(version: Version) -> Program:
    """The oracle of one version, as something that can be built."""
    module = FOLDER / f"kubernetes-{version}"
    sources = hashlib.sha256()
    for path in sorted([*(FOLDER / "protocol").iterdir(), *module.iterdir()]):
        sources.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    library = required_version(module, _LIBRARY)
    return Program("dra-oracle", "dra-oracle", f"{library}-{sources.hexdigest()[:12]}", module, ".")


def built(version: Version) -> Path | None:
    """The oracle's program where it is in the cache already."""
    path = cached_path(program(version))
    return path if path.is_file() else None


def ensure_oracle(version: Version, progress: Progress) -> Path:
    """The oracle's program, built when it is not there. Raises BinaryUnavailable."""
    wanted = program(version)
    return build(wanted, cached_path(wanted), progress)


class Oracle:
    """A running oracle; one case at a time, and the caller may think while the oracle does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def send(self, case: Mapping[str, Any]) -> None:
        """Ask one case (see the protocol)."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The answer line to the case sent last."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the oracle ended with status {self._process.wait()} without an answer")
        answers: dict[str, Any] = json.loads(line)
        return answers


@contextmanager
def running(path: Path) -> Iterator[Oracle]:
    """An oracle that is started and, at the end, gone."""
    with subprocess.Popen([str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Oracle(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.kill()
