"""Make the gRPC stubs of the kubelet's podresources anew: ``python -m node.podresources_regenerate``.

``podresources_v1/api.proto`` is a copy from the Go module k8s.io/kubelet v0.36.3,
``pkg/apis/podresources/v1`` (Apache License 2.0, The Kubernetes Authors). Its proto package is the path of
each call on the wire and is kept. Needs grpcio-tools, which only developers install; the stubs are committed.
"""

from __future__ import annotations

import sys
from pathlib import Path


def compile_stubs(folder: Path, root: Path) -> int:
    """Compile the folder's protocol file under its full path from ``root``; protoc's exit status."""
    from grpc_tools import protoc

    source = (folder / "api.proto").relative_to(root)
    arguments = ["protoc", f"-I{root}", f"--python_out={root}", f"--grpc_python_out={root}", str(source)]
    status: int = protoc.main(arguments)
    return status


if __name__ == "__main__":
    here = Path(__file__).parent
    sys.exit(compile_stubs(here / "podresources_v1", here.parent))
