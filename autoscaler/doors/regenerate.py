"""Make the KEDA door's gRPC stubs anew from its protocol file: ``python -m autoscaler.doors.regenerate``.

Needs grpcio-tools, which only developers install; the stubs are committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

SOURCE = "externalscaler/externalscaler.proto"


def main() -> int:
    """Compile the protocol file; its exit status."""
    from grpc_tools import protoc

    here = Path(__file__).parent
    root = here.parent.parent
    source = (here / SOURCE).relative_to(root)
    status: int = protoc.main(
        ["protoc", f"-I{root}", f"--python_out={root}", f"--grpc_python_out={root}", str(source)]
    )
    if not status:
        (here / SOURCE).with_name("__init__.py").write_text(
            f'"""Generated from {source} by ``python -m autoscaler.doors.regenerate``."""\n'
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
