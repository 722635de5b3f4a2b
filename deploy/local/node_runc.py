"""What a real node changes in a container before runc makes it: no system call filter, its own control group.

Run as a script by the wrapper of the node's runc, standard library only: `node_runc.py GROUP ARGUMENT...`
with runc's own arguments. The runc built here has no libseccomp (it would need its headers to build) and
refuses a container that asks for a filter, as every pod's first one does; what runs on such a node is the
test's own. The containers' control groups would otherwise be children of one that all such nodes of a machine
share.
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
    group, *arguments = sys.argv[1:]
    folder = bundle(arguments)
    if folder is not None:
        path = folder / "config.json"
        specification = json.loads(path.read_text())
        specification["linux"].pop("seccomp", None)
        specification["linux"]["cgroupsPath"] = f"/{group}/{arguments[-1]}"
        path.write_text(json.dumps(specification))


if __name__ == "__main__":
    main()
