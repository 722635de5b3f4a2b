"""Which nodes a plan may name: the scheduler's own node filters, in table form."""

from __future__ import annotations

import pytest

from cluster.wire import Node, NodeSpec, ObjectMeta, Pod, PodSpec, Taint, Toleration
from scheduler.planner.admission import admits, constraints_of


def node(labels=None, taints=(), unschedulable=False):
    return Node(
        metadata=ObjectMeta(name="n1", labels=labels or {}),
        spec=NodeSpec(taints=tuple(taints), unschedulable=unschedulable),
    )


def pod(selector=None, affinity=None, tolerations=()):
    return Pod(spec=PodSpec(node_selector=selector or {}, affinity=affinity, tolerations=tuple(tolerations)))


def required(*terms):
    return {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    }


def labels(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


SPOT = Taint(key="spot", value="true", effect="NoSchedule")


@pytest.mark.parametrize(
    ("where", "who", "expected"),
    [
        (node(), pod(), True),
        (node(unschedulable=True), pod(), False),
        (node({"zone": "a"}), pod({"zone": "a"}), True),
        (node({"zone": "b"}), pod({"zone": "a"}), False),
        (node(taints=[SPOT]), pod(), False),
        (node(taints=[SPOT]), pod(tolerations=[Toleration(key="spot", operator="Exists")]), True),
        (node(taints=[SPOT]), pod(tolerations=[Toleration(key="spot", value="true")]), True),
        (node(taints=[SPOT]), pod(tolerations=[Toleration(key="spot", value="false")]), False),
        (node(taints=[SPOT]), pod(tolerations=[Toleration(operator="Exists")]), True),
        (node(taints=[Taint(key="x", effect="PreferNoSchedule")]), pod(), True),
        (node({"gpu": "a100"}), pod(affinity=required(labels("gpu", "In", "a100", "h100"))), True),
        (node({"gpu": "l4"}), pod(affinity=required(labels("gpu", "In", "a100", "h100"))), False),
        (node(), pod(affinity=required(labels("gpu", "NotIn", "l4"))), True),
        (node(), pod(affinity=required(labels("gpu", "Exists"))), False),
        (node(), pod(affinity=required(labels("gpu", "DoesNotExist"))), True),
        (node({"gen": "4"}), pod(affinity=required(labels("gen", "Gt", "3"))), True),
        (node({"gen": "four"}), pod(affinity=required(labels("gen", "Gt", "3"))), False),
        (node({"b": "1"}), pod(affinity=required(labels("a", "Exists"), labels("b", "Exists"))), True),
        (node(), pod(affinity=required({})), False),
        (
            node(),
            pod(
                affinity=required(
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
                )
            ),
            True,
        ),
    ],
)
def test_a_node_is_admitted_as_the_scheduler_would(where, who, expected):
    assert admits(where, constraints_of(who)) is expected


def test_pods_bound_to_other_pods_are_marked_so():
    anti = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}
    assert constraints_of(pod(affinity=anti)).depends_on_pods
    preferred = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}
    assert not constraints_of(pod(affinity=preferred)).depends_on_pods
