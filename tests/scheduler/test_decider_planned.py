"""The webhook road follows a plan: the node a pod is nominated for ranks first while it still fits."""

from __future__ import annotations

from scheduler.fleet import Fleet
from tests.scheduler.fleet_objects import Setting, node, pod

GPU = "nvidia.com/gpu"
NAMES = ["a", "b", "c"]


def fleet(**nodes: int) -> Fleet:
    made = Fleet()
    for name, gpus in nodes.items():
        made.apply_node(node(name, allocatable={GPU: str(gpus)}))
    return made


def scores(decider, who):
    found = decider.prioritize(who, NAMES)
    assert found is not None
    return found.tolist()


def test_the_planned_node_alone_ranks_first_though_others_are_cheaper():
    decider = Setting(fleet(a=1, b=8, c=8)).decider
    assert scores(decider, pod("free", {GPU: 1}))[0] == 10
    found = scores(decider, pod("p", {GPU: 1}, nominated="c"))
    assert found[2] == 10
    assert max(found[:2]) < 10


def test_a_planned_node_that_no_longer_fits_ranks_last_like_any_other():
    made = fleet(a=1, b=8, c=1)
    made.apply_pod(pod("other", {GPU: 1}, on="c"))
    found = scores(Setting(made).decider, pod("p", {GPU: 1}, nominated="c"))
    assert found[2] == 0
    assert max(found) == 10


def test_the_planned_node_is_on_the_shortlist():
    names = [f"n{index:03d}" for index in range(60)]
    made = fleet(**{name: 1 if index < 50 else 8 for index, name in enumerate(names)})
    setting = Setting(made)
    outcome = setting.decider.filter(pod("p", {GPU: 1}, nominated="n055"), names)
    assert 55 in outcome.passed
