"""The real Karpenter beside a local control plane, with its simulated cloud.

    with Karpenter(cluster, extras.built("karpenter"), [machine_type("g6e.xlarge", {"cpu": "4"}, offerings)]):
        cluster.request("POST", ".../nodepools", ...)

All of Karpenter's controllers run as released, the feature gate NodeOverlay on; custom resources are those of
the release. Its cloud is simulated: a NodeClaim becomes a Node that kwok brings up (`modules/karpenter` says
in what it differs from Karpenter's own). It runs as an administrator: its rights come with a chart that is
not rendered here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from deploy.local.apply import Document, load
from deploy.local.control_plane import SYSTEM_NAMESPACE, ControlPlane
from deploy.local.extras import Built
from deploy.local.ports import LOOPBACK
from deploy.local.rest import plain_get

PROGRAM = "karpenter-kwok"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
ZONE = "topology.kubernetes.io/zone"
_DEFINITIONS = ("pkg/apis/crds", "kwok/apis/crds")
_GRACE_SECONDS = 10.0
_PROBE_SECONDS = 5.0
_BATCH = {"--batch-idle-duration": "200ms", "--batch-max-duration": "1s"}


class Karpenter:
    """Karpenter for one control plane. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, cluster: ControlPlane, built: Built, machines: Sequence[Mapping[str, Any]]) -> None:
        """`machines`: what the cloud sells, of `machine_type`."""
        self._cluster, self._built, self._machines = cluster, built, machines

    def __enter__(self) -> Karpenter:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Karpenter:
        """Install the custom resources, start Karpenter and wait until it says that it is ready.

        Raises ManifestRefused, ServerFailed (with the end of its log).
        """
        self._cluster.apply(self._definitions())
        offered = self._cluster.directory / "machines.json"
        offered.write_text(json.dumps(self._machines, indent=2))
        # Both are bound on every address; port 0 for metrics, which nobody asks for here.
        health = self._cluster.claim_port()
        arguments = [
            str(self._built.programs[PROGRAM]),
            f"--instance-types-file-path={offered}",
            "--feature-gates=NodeOverlay=true",
            "--disable-leader-election=true",
            "--metrics-port=0",
            f"--health-probe-port={health}",
            *(f"{flag}={value}" for flag, value in _BATCH.items()),
        ]
        environment = {
            **os.environ,
            "KUBECONFIG": str(self._cluster.kubeconfig),
            "SYSTEM_NAMESPACE": SYSTEM_NAMESPACE,
        }
        self._cluster.processes.start(PROGRAM, arguments, environment)
        url = f"http://{LOOPBACK}:{health}/readyz"
        self._cluster.wait_until_healthy(PROGRAM, lambda: plain_get(url, _PROBE_SECONDS))
        return self

    def stop(self) -> None:
        """End it; the custom resources and the nodes stay."""
        self._cluster.processes.stop([PROGRAM], _GRACE_SECONDS)

    def log(self) -> str:
        """What it has said so far, a JSON object a line."""
        return self._cluster.processes.log(PROGRAM).read_text(errors="replace")

    def _definitions(self) -> Iterator[Document]:
        for folder in _DEFINITIONS:
            for path in sorted((self._built.files / folder).glob("*.yaml")):
                yield from load(path)


def machine_type(
    name: str, resources: Mapping[str, str], offerings: Sequence[tuple[float, Mapping[str, str]]]
) -> dict[str, Any]:
    """One entry of the simulated cloud's list. `offerings`: a price an hour and the labels that a node of it
    carries; zone and capacity type must be among them.
    """
    return {
        "name": name,
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": dict(resources),
        "offerings": [
            {
                "Price": price,
                "Available": True,
                "Requirements": [
                    {"key": key, "operator": "In", "values": [value]} for key, value in labels.items()
                ],
            }
            for price, labels in offerings
        ],
    }
