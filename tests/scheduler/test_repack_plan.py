"""Which pods the repacker moves, and which it never touches."""

from __future__ import annotations

import pytest

from scheduler.repack.plan import plan
from scheduler.repack.scene import Limits
from tests.scheduler.repack_objects import Town, chain_of_two

LIMITS = Limits(evictions=10, concurrent=4, horizon_hours=4.0)


def moves(town, limits=LIMITS):
    made = plan(town.scene(), limits)
    return [(move.pod.name, move.source, move.target) for move in made.moves]


def two_half_full(**spec) -> Town:
    """Two GPUs on two nodes, each with one 1g in the way of a 4g; a 4g waits."""
    town = Town(savings=False)
    town.dra_node("a")
    town.dra_node("b")
    town.runs("x", "a", (0, "1g", 0), **spec)
    town.runs("y", "b", (0, "1g", 1))
    return town


def test_one_pod_in_the_way_is_moved_to_the_other_node():
    town = two_half_full()
    town.waits("big", "4g")
    assert moves(town) in ([("x", "a", "b")], [("y", "b", "a")])


def test_nothing_is_moved_when_the_pod_fits_somewhere():
    town = two_half_full()
    town.dra_node("c")
    town.waits("big", "4g")
    assert moves(town) == []


def test_nothing_is_moved_when_nobody_waits_and_nothing_is_saved():
    assert moves(two_half_full()) == []


def test_the_fewest_pods_are_moved():
    town = Town(savings=False)
    for name in "abc":
        town.dra_node(name)
    town.runs("a1", "a", (0, "1g", 0))
    town.runs("a2", "a", (0, "1g", 1))
    town.runs("b1", "b", (0, "2g", 0))
    town.runs("c1", "c", (0, "1g", 0))
    town.runs("c2", "c", (0, "3g", 4))
    town.waits("big", "7g")
    made = plan(town.scene(), LIMITS)
    assert [move.pod.name for move in made.moves] == ["b1"]
    assert made.moves[0].target in ("a", "c")


@pytest.mark.parametrize(
    "spec",
    [
        {"wish": "never"},
        {"kind": ""},
        {"kind": "DaemonSet"},
        {"kind": "Job"},
        {"priority": 10},
        {"namespace": "kube-system"},
        {"started": "2027-01-15T07:59:00Z"},
        {"labels": {"scheduling.x-k8s.io/pod-group": "g"}},
        {"labels": {"slicewise.io/gang": "g", "slicewise.io/gang-size": "2"}},
        {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "host"}]
                }
            }
        },
    ],
)
def test_a_pod_that_must_stay_is_not_moved(spec):
    town = Town(savings=False)
    town.dra_node("a")
    town.dra_node("b")
    spec = {"namespace": "default", **spec}
    town.runs("x", "a", (0, "1g", 0), **spec)
    town.runs("y", "b", (0, "1g", 1), **spec)
    town.waits("big", "4g")
    if spec["namespace"] == "default":
        made = plan(town.scene(), LIMITS)
        assert made.moves == ()
        assert made.unmet[0].waiter.name == "big"
    else:
        assert moves(town) == []


def test_a_job_pod_that_allows_it_is_moved():
    town = two_half_full(kind="Job", wish="allow")
    town.runs("y", "b", (0, "1g", 1), wish="never")
    town.waits("big", "4g")
    assert moves(town) == [("x", "a", "b")]


def test_a_budget_that_allows_no_disruption_is_respected():
    town = two_half_full()
    town.budget("x", 0)
    town.waits("big", "4g")
    assert moves(town) == [("y", "b", "a")]
    town.budget("y", 0)
    assert moves(town) == []


def test_a_budget_counts_every_pod_that_is_moved():
    town = Town(savings=False)
    town.dra_node("a")
    town.dra_node("b")
    town.runs("x1", "a", (0, "1g", 0), app="x")
    town.runs("x2", "a", (0, "1g", 4), app="x")
    town.runs("w", "b", (0, "1g", 0), wish="never")
    town.waits("big", "7g")
    town.budget("x", 1)
    assert moves(town) == []
    town.budget("x", 2)
    assert sorted(move[0] for move in moves(town)) == ["x1", "x2"]


def test_without_a_budget_a_workload_spares_half_of_its_pods():
    town = Town(savings=False)
    town.dra_node("a")
    town.dra_node("b")
    for start in range(3):
        town.runs(f"x{start}", "a", (0, "1g", start), app="x")
    town.runs("w", "b", (0, "1g", 0), wish="never")
    town.waits("big", "4g")
    assert moves(town) == []


def test_nobody_is_moved_for_one_member_of_a_gang():
    town = two_half_full()
    town.waits("big", "4g", labels={"slicewise.io/gang": "g", "slicewise.io/gang-size": "2"})
    assert moves(town) == []


def test_the_limits_hold():
    town = two_half_full()
    town.waits("big", "4g")
    assert moves(town, Limits(0, 4, 4.0)) == []
    made = plan(town.scene(), Limits(0, 4, 4.0))
    assert "limit" in made.unmet[0].reason


def test_a_chain_of_two_makes_room_where_one_move_cannot():
    town = Town(savings=False)
    chain_of_two(town)
    made = plan(town.scene(), LIMITS)
    assert [(m.pod.name, m.target, m.wave) for m in made.moves] == [("one", "c", 0), ("three", "b", 1)]


def test_moves_that_cost_more_than_they_earn_are_not_made():
    town = two_half_full()
    town.waits("big", "4g")
    made = plan(town.scene(), Limits(10, 4, 1e-4))
    assert made.moves == ()
    assert "more than it earns" in made.unmet[0].reason


def test_a_target_without_cpu_is_no_target():
    town = Town(savings=False)
    town.dra_node("a", cpu="16")
    town.dra_node("b", cpu="2")
    town.runs("x", "a", (0, "1g", 0), cpu="8")
    town.runs("y", "b", (0, "1g", 1), wish="never", cpu="2")
    town.waits("big", "4g", cpu="1")
    assert moves(town) == []


def test_a_target_that_the_pod_may_not_use_is_no_target():
    town = two_half_full(selector={"topology.kubernetes.io/region": "nowhere-else"})
    town.runs("y", "b", (0, "1g", 1), wish="never")
    town.waits("big", "4g")
    assert moves(town) == []


def test_whole_gpus_are_freed_with_the_fewest_moves():
    town = Town(savings=False)
    town.dra_node("a", gpus=2)
    town.dra_node("b", gpus=2)
    town.runs("x1", "a", (0, "3g", 0))
    town.runs("x2", "a", (1, "3g", 0), wish="never")
    town.runs("y1", "b", (0, "1g", 0))
    town.runs("y2", "b", (0, "1g", 1))
    town.runs("z", "b", (1, "3g", 0))
    town.waits("one", "")
    # x1 is alone on its GPU, as z is on its; y1 and y2 are two.
    found = moves(town)
    assert [move[0] for move in found] in (["x1"], ["z"])
    made = plan(town.scene(), LIMITS)
    assert made.reliefs[0].node == made.moves[0].source


def test_a_pod_that_stands_dear_is_moved_when_it_pays_back():
    town = Town(savings=True, evictionCost=0.0)
    town.dra_node("a")
    town.dra_node("b")
    # Alone on b, in the way of everything large; on a it costs nothing more.
    town.runs("full", "a", (0, "3g", 0), wish="never")
    town.runs("lonely", "b", (0, "1g", 3))
    made = plan(town.scene(), Limits(10, 4, 1000.0))
    assert [(m.pod.name, m.target) for m in made.savings] == [("lonely", "a")]
    assert made.savings[0].gain_per_hour > 0
    assert "pays back" in made.savings[0].why
    assert plan(town.scene(), Limits(10, 4, 1e-6)).savings == ()


def full_node(**spec) -> Town:
    town = Town(savings=False)
    town.dra_node("a")
    for start in range(7):
        town.runs(f"p{start}", "a", (0, "1g", start), **spec)
    return town


PREEMPTING = Limits(10, 4, 4.0, preempt=True)


def test_claims_preempt_the_fewest_pods_of_lower_priority_in_a_row_where_allowed():
    town = full_node()
    town.waits("urgent", "3g", priority=10)
    assert moves(town) == []
    made = plan(town.scene(), PREEMPTING)
    assert sorted(move.pod.name for move in made.moves) == ["p4", "p5", "p6"]
    assert {move.target for move in made.moves} == {""}
    assert "preempted" in made.moves[0].why


def test_a_move_is_preferred_to_preemption():
    town = full_node()
    town.dra_node("b")
    town.dra_node("c")
    town.runs("b-stays", "b", (0, "3g", 0), wish="never", priority=10)
    town.runs("small", "b", (0, "1g", 6), priority=10)
    town.runs("c-stays", "c", (0, "3g", 4), wish="never", priority=10)
    town.runs("c-too", "c", (0, "1g", 0), wish="never", priority=10)
    town.waits("urgent", "3g", priority=10)
    made = plan(town.scene(), PREEMPTING)
    assert [(move.pod.name, move.target) for move in made.moves] == [("small", "c")]


@pytest.mark.parametrize(
    ("victim", "waiter"),
    [
        ({"priority": 10}, {}),
        ({"namespace": "kube-system"}, {}),
        ({}, {"preemption": "Never"}),
    ],
)
def test_claims_preempt_nobody_who_is_equal_or_of_the_system_nor_when_told_never(victim, waiter):
    town = full_node(**victim)
    town.waits("urgent", "3g", priority=10, **waiter)
    assert plan(town.scene(), PREEMPTING).moves == ()


def test_budgets_hold_against_preemption_for_claims():
    town = full_node(app="all")
    town.budget("all", 2)
    town.waits("urgent", "3g", priority=10)
    assert plan(town.scene(), PREEMPTING).moves == ()
    town.budget("all", 3)
    assert len(plan(town.scene(), PREEMPTING).moves) == 3
