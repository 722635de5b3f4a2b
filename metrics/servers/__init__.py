"""Presets of model servers: one file a server, the registry here. Pure: names and query text only."""

from metrics.servers.generic import GENERIC, generic
from metrics.servers.preset import EVERYTHING, LatencyHistogram, Measure, Scope, ServerPreset, promql_duration
from metrics.servers.vllm import VLLM

PRESETS: dict[str, ServerPreset] = {preset.name: preset for preset in (VLLM, GENERIC)}


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
    "LatencyHistogram",
    "Measure",
    "Scope",
    "ServerPreset",
    "UnknownServer",
    "find_preset",
    "generic",
    "promql_duration",
]
