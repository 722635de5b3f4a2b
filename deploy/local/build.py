"""Build one program of the control plane with `go build`, showing how far it is.

A static binary (`CGO_ENABLED=0` unless a part of it is C, stripped, no local paths) is linked in the cache
folder under a temporary name and moved into place in one step, so that a broken-off build never looks
finished. A file lock keeps two builders of the same program apart; the second one finds the first one's
result. Everything comes through the Go module proxy that `go env GOPROXY` names.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.alone import alone_at
from deploy.local.followed import follow
from deploy.local.versions import Program, go_version

Progress = Callable[[str], None]
_KEPT_LINES = 30
_C_COMPILER = "gcc"


class BinaryUnavailable(RuntimeError):
    """A program of the control plane was neither found nor could be built; the message says what to do."""


def build(program: Program, destination: Path, progress: Progress, position: str = "1 of 1") -> Path:
    """Build `program` as the file `destination` unless another builder did so meanwhile.

    Raises BinaryUnavailable when Go is missing or the build fails, with Go's last lines.
    """
    go = shutil.which("go")
    if go is None:
        raise BinaryUnavailable(
            f"{program.label} was not found and cannot be built: no `go` on PATH. "
            f"Install Go {go_version(program.module)} or newer, or put {program.label} on PATH "
            f"or in $KUBEBUILDER_ASSETS."
        )
    if program.cgo and shutil.which(_C_COMPILER) is None:
        raise BinaryUnavailable(
            f"{program.label} was not found and cannot be built: a part of it is C and there is no "
            f"`{_C_COMPILER}` on PATH. Install a C compiler, or put {program.label} on PATH."
        )
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BinaryUnavailable(
            f"{program.label} has no place to be built into: {destination.parent}: {problem.strerror}. "
            f"Set XDG_CACHE_HOME to a folder that can be written."
        ) from problem
    with alone_at(
        destination, lambda: progress(f"waiting for another process that is building {program.label}")
    ):
        if not destination.exists():
            _run(go, program, destination, progress, position)
    return destination


def command(go: str, program: Program, output: Path) -> list[str]:
    """The `go build` command line; run it in the module's folder."""
    flags = " ".join(["-s", "-w", *(f"-X {key}={value}" for key, value in program.linker_values)])
    tags = ["-tags", ",".join(program.tags)] if program.tags else []
    return [
        *(go, "build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly"),
        *("-ldflags", flags, *tags, "-o", str(output), program.package),
    ]


def go_environment(cgo: bool = False) -> dict[str, str]:
    """The environment of Go's commands: the module of the folder alone counts."""
    return {**os.environ, "CGO_ENABLED": "1" if cgo else "0", "GOWORK": "off"}


def _run(go: str, program: Program, destination: Path, progress: Progress, position: str) -> None:
    began = time.monotonic()
    prefix = f".building-{destination.name}-"
    for leftover in destination.parent.glob(f"{prefix}*"):  # of a builder that was killed: we hold its lock
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=destination.parent) as scratch:
        output = Path(scratch) / program.name
        arguments = command(go, program, output)
        compiled = _follow(arguments, program, progress, position)
        output.chmod(0o755)
        os.replace(output, destination)
    seconds = time.monotonic() - began
    progress(f"built {program.label} ({position}) in {seconds:.0f} s, {compiled} packages compiled")


def _follow(arguments: list[str], program: Program, progress: Progress, position: str) -> int:
    """Run `go build -v` and report while it runs; the number of packages it compiled."""
    compiled = downloaded = 0

    def line(said: str) -> bool:
        nonlocal compiled, downloaded
        if said.startswith("go: downloading "):
            downloaded += 1
            return False
        # `-v` prints an import path as each package is done; anything else is a message to keep.
        compiled += 1
        return True

    def report(seconds: float) -> None:
        fetched = f", {downloaded} modules downloaded" if downloaded else ""
        done = f"{seconds:.0f} s, {compiled} packages compiled{fetched}"
        progress(f"building {program.label} ({position}): {done}")

    progress(f"building {program.label} ({position})")
    environment = go_environment(program.cgo)
    status, last = follow(
        arguments, line, report, kept_lines=_KEPT_LINES, folder=program.module, environment=environment
    )
    if status != 0:
        raise BinaryUnavailable(
            f"{program.label} could not be built: `{shlex.join(arguments)}` in {program.module} "
            f"ended with status {status}:\n" + "\n".join(f"    {said}" for said in last)
        )
    return compiled
