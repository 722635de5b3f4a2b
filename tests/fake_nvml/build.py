"""Compiles the fake ``libnvidia-ml.so.1``. The caller puts its folder into LD_LIBRARY_PATH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
NO_COMPILER = "no C compiler on this machine (cc or gcc): the stand-in for NVML cannot be built"
_SOURCES = sorted(Path(__file__).parent.glob("*.c"))


def compiler() -> str | None:
    """Path of the C compiler, or None: tests then skip with ``NO_COMPILER``."""
    return shutil.which("cc") or shutil.which("gcc")


def build_fake(folder: Path) -> Path:
    """The library in ``folder``, compiled if it is not there yet. Raises RuntimeError with gcc's words."""
    library = folder / LIBRARY
    found = compiler()
    if found is None:
        raise RuntimeError(NO_COMPILER)
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pthread"]
        done = subprocess.run(
            [found, *flags, f"-Wl,-soname,{LIBRARY}", "-o", str(library), *map(str, _SOURCES)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the fake NVML does not compile:\n{done.stderr}")
    return library
