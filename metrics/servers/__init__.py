"""Presets of model servers: one file a server, the registry here. Pure: names and query text only.

The order of the registry is the order of recognition: where a pod exports the marks of several (a model
server behind a sidecar), the one that knows the server's inside goes before the one that sees its door, which
is the last.
"""

from metrics.servers.bentoml import BENTOML
from metrics.servers.generic import GENERIC, generic
from metrics.servers.inference_gateway import INFERENCE_GATEWAY
from metrics.servers.istio import ISTIO
from metrics.servers.knative import KNATIVE, KNATIVE_REVISION
from metrics.servers.mlserver import MLSERVER
from metrics.servers.opentelemetry import OPENTELEMETRY
from metrics.servers.openvino import OPENVINO
from metrics.servers.preset import (
    EVERYTHING,
    BusyTime,
    LatencyHistogram,
    LatencySummary,
    Measure,
    Scope,
    ServerPreset,
    promql_duration,
)
from metrics.servers.ray_serve import RAY_SERVE
from metrics.servers.sglang import SGLANG
from metrics.servers.tensorflow_serving import TENSORFLOW_SERVING
from metrics.servers.tgi import TGI
from metrics.servers.torchserve import TORCHSERVE
from metrics.servers.triton import TRITON
from metrics.servers.vllm import VLLM

PRESETS: dict[str, ServerPreset] = {
    preset.name: preset
    for preset in (
        VLLM,
        SGLANG,
        TGI,
        TRITON,
        MLSERVER,
        BENTOML,
        OPENVINO,
        TORCHSERVE,
        TENSORFLOW_SERVING,
        RAY_SERVE,
        KNATIVE,
        KNATIVE_REVISION,
        INFERENCE_GATEWAY,
        OPENTELEMETRY,
        GENERIC,
        ISTIO,
    )
}


class UnknownServer(ValueError):
    """No preset has that name; the message lists those that exist."""


def find_preset(name: str) -> ServerPreset:
    """The preset called ``name``; raises ``UnknownServer``."""
    preset = PRESETS.get(name)
    if preset is None:
        raise UnknownServer(f"server: got {name!r}, expected one of {', '.join(sorted(PRESETS))}")
    return preset


__all__ = [
    "EVERYTHING",
    "GENERIC",
    "PRESETS",
    "VLLM",
    "BusyTime",
    "LatencyHistogram",
    "LatencySummary",
    "Measure",
    "Scope",
    "ServerPreset",
    "UnknownServer",
    "find_preset",
    "generic",
    "promql_duration",
]
