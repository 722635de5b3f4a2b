"""Make the gRPC stubs anew from the protocol files beside them: ``python -m dra.plugin.regenerate``.

The four ``api.proto`` are copies from the Go module k8s.io/kubelet v0.36.3 (Apache License 2.0, The
Kubernetes Authors): ``pkg/apis/{pluginregistration/v1, dra/v1, dra/v1beta1, dra-health/v1alpha1}``. Their
proto packages are the path of each call on the wire and are kept. All four have the same file name, so each
lives in a folder of its own and is compiled under its full path: protobuf knows a file by that path. Needs
grpcio-tools, which only developers install; the stubs are committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDERS = ("pluginregistration_v1", "dra_v1", "dra_v1beta1", "dra_health_v1alpha1")


def main() -> int:
    """Compile every protocol file; exit status of the first that fails."""
    from grpc_tools import protoc

    here = Path(__file__).parent
    root = here.parent.parent
    for folder in FOLDERS:
        source = (here / folder / "api.proto").relative_to(root)
        arguments = ["protoc", f"-I{root}", f"--python_out={root}", f"--grpc_python_out={root}", str(source)]
        status: int = protoc.main(arguments)
        if status:
            return status
        (here / folder / "__init__.py").write_text(
            f'"""Generated from {source} by ``python -m dra.plugin.regenerate``."""\n'
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
