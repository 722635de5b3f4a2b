"""What a snapshot shows, as the controller's own code wants it: nodes, pods, and the repacker's reader."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.disruption import Budgets, PodDisruptionBudget
from cluster.envelopes import object_decoder
from cluster.times import unix_seconds
from cluster.wire import Node, Pod
from scheduler.repack.census import Census
from scheduler.repack.read import SceneReader
from scheduler.service import Service
from scheduler.snapshot import Snapshot, SnapshotRefused


def nodes_of(snapshot: Snapshot) -> dict[str, Node]:
    """The nodes by name."""
    decoder = object_decoder(Node)
    found = [decoder.decode(raw) for raw in snapshot.nodes]
    return {node.metadata.name: node for node in found}


def pods_of(snapshot: Snapshot) -> list[Pod]:
    """The pods that have not ended."""
    decoder = object_decoder(Pod)
    return [decoder.decode(raw) for raw in snapshot.pods]


def reader_of(
    service: Service, nodes: Iterable[Node], pods: Iterable[Pod], budgets: Iterable[PodDisruptionBudget]
) -> SceneReader:
    """Who reads the repacker's scenes of them."""
    census = Census()
    census.replace_nodes(nodes)
    census.replace_pods(list(pods))
    return SceneReader(service.decider, census, Budgets(budgets))


def taken_at(snapshot: Snapshot) -> float:
    """When it was taken, Unix time: from then ages count. Raises SnapshotRefused where it does not say."""
    at = unix_seconds(snapshot.taken_at)
    if at is None:
        raise SnapshotRefused(
            f"the snapshot: takenAt: got {snapshot.taken_at or 'nothing'}, expected a time such as "
            "2026-11-21T09:00:00Z; take it anew with: kubectl slicewise snapshot > FILE"
        )
    return at
