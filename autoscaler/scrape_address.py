"""Where a pod serves its metrics: what the pod says, else the names of its ports, else the server's habit.

    annotations   prometheus.io/port, prometheus.io/path, prometheus.io/scheme, prometheus.io/scrape: "false"
    ports         a container port named metrics, http-metrics or prometheus
    preset        the port and path that the server has by itself
    ports         the only container port there is

The annotations are the convention of Prometheus' own example for Kubernetes. A pod that wants no scrape, or
serves its metrics over TLS, is left to Prometheus: its certificate names no pod address, and load that
nobody vouches for must not move replicas. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.wire import ContainerPort, Pod
from metrics.servers import ServerPreset

_PREFIX: Final = "prometheus.io/"
_PORT_NAMES: Final = ("metrics", "http-metrics", "prometheus")


@dataclass(frozen=True, slots=True)
class MetricsDoor:
    """What a pod says of its metrics. ``port`` and ``path`` are None where it does not say; ``only_port`` is
    the port of a pod that has just one.
    """

    ip: str
    port: int | None = None
    path: str | None = None
    only_port: int | None = None

    def urls(self, preset: ServerPreset | None) -> tuple[str, ...]:
        """Where to ask a pod that runs ``preset`` (None: nobody knows yet), the likeliest first; the next
        one is worth a try where one does not answer. Empty when there is no port.
        """
        habit = None if preset is None else preset.port
        ports = (self.port,) if self.port is not None else (habit, self.only_port)
        path = self.path or ("/metrics" if preset is None else preset.path)
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        found = dict.fromkeys(port for port in ports if port is not None)
        return tuple(f"http://{host}:{port}{path}" for port in found)


def metrics_door(pod: Pod) -> MetricsDoor | None:
    """Read a pod; None for one without an address or that must not be asked."""
    said = pod.metadata.annotations
    if not pod.status.pod_ip or said.get(f"{_PREFIX}scrape") == "false":
        return None
    if said.get(f"{_PREFIX}scheme", "http") != "http":
        return None
    ports = [port for container in pod.spec.containers for port in container.ports]
    path = said.get(f"{_PREFIX}path", "")
    return MetricsDoor(
        pod.status.pod_ip,
        _stated_port(said) or _named_port(ports),
        path if path.startswith("/") else None,
        ports[0].container_port if len(ports) == 1 else None,
    )


def _stated_port(said: Mapping[str, str]) -> int | None:
    text = said.get(f"{_PREFIX}port", "")
    if not (text.isascii() and text.isdecimal()):
        return None
    return int(text) if 0 < int(text) < 65536 else None


def _named_port(ports: Sequence[ContainerPort]) -> int | None:
    return next((p.container_port for name in _PORT_NAMES for p in ports if p.name == name), None)
