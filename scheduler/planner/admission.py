"""Which nodes a pod may use at all: readiness, cordons, taints, node selector and required node affinity.

The same rules as kube-scheduler's NodeUnschedulable, TaintToleration and NodeAffinity filters (core/v1 API
types), so that a plan seldom names a node that the scheduler must refuse. What is not looked at (CPU, memory,
volumes, spread constraints) the scheduler checks; a refused nomination goes the webhook road. Pods with
required pod affinity or anti-affinity are not planned: where they may go depends on where the others went.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.wire import Node, Pod, Taint, Toleration
from dra.requirements import holds

UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
REPELLING = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class Expression:
    """One requirement of a node selector term; ``field`` says whether it looks at fields or labels."""

    key: str
    operator: str
    values: tuple[str, ...]
    field: bool


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a pod demands of its node. ``terms``: any of them must hold, each with all its expressions; None =
    no affinity required.
    """

    selector: tuple[tuple[str, str], ...]
    terms: tuple[tuple[Expression, ...], ...] | None
    tolerations: tuple[Toleration, ...]
    depends_on_pods: bool


def constraints_of(pod: Pod) -> Constraints:
    """Read a pod's constraints; ill-formed affinity matches no node, as in the API."""
    affinity: Mapping[str, Any] = pod.spec.affinity or {}
    required = _required(affinity, "nodeAffinity")
    terms = None
    if required is not None:
        terms = tuple(_term(term) for term in required.get("nodeSelectorTerms") or ())
    return Constraints(
        selector=tuple(sorted(pod.spec.node_selector.items())),
        terms=terms,
        tolerations=pod.spec.tolerations,
        depends_on_pods=any(
            _required(affinity, kind) is not None for kind in ("podAffinity", "podAntiAffinity")
        ),
    )


def admits(node: Node, constraints: Constraints) -> bool:
    """Say whether the node may take a pod of these constraints."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in constraints.selector):
        return False
    taints = (*node.spec.taints, UNSCHEDULABLE) if node.spec.unschedulable else node.spec.taints
    if any(taint.effect in REPELLING and not _tolerated(taint, constraints.tolerations) for taint in taints):
        return False
    if constraints.terms is None:
        return True
    fields = {"metadata.name": node.metadata.name}
    return any(
        term
        and all(
            holds(one.operator, (fields if one.field else labels).get(one.key), one.values) for one in term
        )
        for term in constraints.terms
    )


def _required(affinity: Mapping[str, Any], kind: str) -> Any:
    part = affinity.get(kind) or {}
    return part.get("requiredDuringSchedulingIgnoredDuringExecution") or None


def _term(term: Mapping[str, Any]) -> tuple[Expression, ...]:
    def read(items: Sequence[Mapping[str, Any]] | None, field: bool) -> list[Expression]:
        return [
            Expression(
                str(item.get("key", "")),
                str(item.get("operator", "")),
                tuple(item.get("values") or ()),
                field,
            )
            for item in items or ()
        ]

    return (*read(term.get("matchExpressions"), False), *read(term.get("matchFields"), True))


def _tolerated(taint: Taint, tolerations: Sequence[Toleration]) -> bool:
    return any(
        (not one.effect or one.effect == taint.effect)
        and (not one.key or one.key == taint.key)
        and (one.operator == "Exists" or (bool(one.key) and one.value == taint.value))
        for one in tolerations
    )
