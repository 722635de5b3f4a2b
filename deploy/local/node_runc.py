"""Take the system call filter out of a container before runc creates it.

Run as a script by the wrapper of a real node's runc, standard library only: `node_runc.py ARGUMENT...` with
runc's own arguments. The runc built here has no libseccomp (it would need its headers to build), and
refuses a container that asks for a filter, as every pod's first one does. What runs on such a node is the
test's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def bundle(arguments: list[str]) -> Path | None:
    """The folder of the container that `runc create` is about to make; None for another command."""
    if "create" not in arguments or "--bundle" not in arguments:
        return None
    return Path(arguments[arguments.index("--bundle") + 1])


def main() -> None:
    """Rewrite the container's configuration."""
    folder = bundle(sys.argv[1:])
    if folder is not None:
        path = folder / "config.json"
        specification = json.loads(path.read_text())
        specification.get("linux", {}).pop("seccomp", None)
        path.write_text(json.dumps(specification))


if __name__ == "__main__":
    main()
