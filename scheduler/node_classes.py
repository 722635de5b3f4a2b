"""Which price class and which grid zone a node belongs to, from its labels and the policy.

The first node class whose labels the node carries wins. The zone is that of the node's region: the policy's
own map goes before the built-in one. A node without a region, or in a region nobody mapped, has no zone:
its intensity is unknown. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.policy import ClusterPolicy, NodeClass
from metrics.carbon.zones import known_zones


@dataclass(frozen=True, slots=True)
class NodeClassifier:
    """The part of a policy that sorts nodes."""

    region_label: str
    regions: Mapping[str, str]
    classes: tuple[NodeClass, ...]

    def zone(self, labels: Mapping[str, str]) -> str | None:
        """The grid zone of a node, or None where it is not known."""
        region = labels.get(self.region_label)
        return None if region is None else self.regions.get(region)

    def node_class(self, labels: Mapping[str, str]) -> int:
        """The index of the node's class in the policy, -1 for none."""
        for index, cls in enumerate(self.classes):
            if all(labels.get(key) == value for key, value in cls.match.items()):
                return index
        return -1


def classifier_of(policy: ClusterPolicy) -> NodeClassifier:
    """The classifier that a policy describes."""
    return NodeClassifier(
        region_label=policy.carbon.region_label,
        regions={**known_zones(policy.carbon.provider), **policy.carbon.regions},
        classes=policy.nodes,
    )
