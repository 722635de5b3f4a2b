"""Make the gRPC stubs of the expander anew: ``python -m autoscaler.nodes.regenerate``.

The service, its package and its field numbers are Cluster Autoscaler's own
(``cluster-autoscaler/expander/grpcplugin/protos/expander.proto``, Apache License 2.0, The Kubernetes
Authors): they are what goes over the wire. The rest of ``expander_v1/api.proto`` names only those fields of
core/v1 that are read. Needs grpcio-tools, which only developers install; the stubs are committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from node.podresources_regenerate import compile_stubs

if __name__ == "__main__":
    here = Path(__file__).parent
    folder = here / "expander_v1"
    (folder / "__init__.py").write_text(
        '"""Generated from autoscaler/nodes/expander_v1/api.proto by '
        '``python -m autoscaler.nodes.regenerate``."""\n'
    )
    sys.exit(compile_stubs(folder, here.parent.parent))
