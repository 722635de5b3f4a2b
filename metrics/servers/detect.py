"""Which model server a pod runs, by the names it exports: one query for the whole cluster.

A preset's ``signature`` is one or more names that only this server exports; with matchers, only the series
that they select are its marks. A pod that shows marks of several is taken for the first in the registry's
order (``metrics.servers``).

Pure: query text out, samples in. Read by ``kubectl slicewise servers`` and by policies that name no server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from metrics.samples import NoData, Vector
from metrics.servers import EVERYTHING, PRESETS, Scope, ServerPreset

PodKey: TypeAlias = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Detected:
    """What was recognised on a pod: the preset that goes first, and the others whose marks it shows too."""

    server: str
    others: tuple[str, ...]


def detection_query(scope: Scope = EVERYTHING, presets: Iterable[ServerPreset] = PRESETS.values()) -> str:
    """Counts series by pod and name for every signature."""
    names: dict[str, set[str]] = {}
    for preset in presets:
        names.setdefault(preset.matchers, set()).update(preset.signature)
    # No "or" around the counts: it would drop a pod's marks where it has others, as names do not tell apart.
    marks = " or ".join(
        scope.braces(f'__name__=~"{"|".join(sorted(found))}"', matchers)
        for matchers, found in sorted(names.items())
        if found
    )
    return f"count by ({scope.grouping}, __name__) ({marks})"


def detect(
    answer: Vector, scope: Scope = EVERYTHING, presets: Sequence[ServerPreset] = tuple(PRESETS.values())
) -> Mapping[PodKey, Detected]:
    """The server of every pod in the answer to ``detection_query``; pods without any mark are absent."""
    names: dict[PodKey, set[str]] = {}
    for sample in answer.samples:
        pod = sample.labels.get(scope.namespace_label, ""), sample.labels.get(scope.pod_label, "")
        names.setdefault(pod, set()).add(sample.labels.get("__name__", ""))
    found = {
        pod: [preset.name for preset in presets if not seen.isdisjoint(preset.signature)]
        for pod, seen in names.items()
    }
    return {pod: Detected(servers[0], tuple(servers[1:])) for pod, servers in found.items() if servers}


def present(answer: Vector | NoData, scope: Scope = EVERYTHING) -> tuple[ServerPreset, ...]:
    """The presets of all servers that run anywhere, each that a pod shows marks of; () without an answer."""
    if isinstance(answer, NoData):
        return ()
    found = detect(answer, scope).values()
    names = {name for seen in found for name in (seen.server, *seen.others)}
    return tuple(preset for preset in PRESETS.values() if preset.name in names)
