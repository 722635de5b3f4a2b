"""Which victims the preempt verb chooses: those that free one placement at the least loss."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.mig import geometry
from metrics.exposition import Exposition
from scheduler.extender.app import create_app
from scheduler.extender.codec import MetaVictim, MetaVictims
from scheduler.extender.preempting import Preemptor
from tests.scheduler.extender_calls import call
from tests.scheduler.repack_objects import PROFILES, Town, a_pod

GEOMETRY = geometry(models()["H100-80GB"])
SHORT = {name: short for short, name in PROFILES.items()}


def preemptor(town: Town) -> Preemptor:
    return Preemptor(town.setting.decider, town.census, town.budgets, lambda: town.policy)


def chosen(town: Town, waiter: str, proposed: dict[str, list[str]], violations: int = 0):
    """Victims by node, as names; None where the node was dropped."""
    pod = next(p for p in town.pods if p.metadata.name == waiter)
    asked = {
        node: MetaVictims([MetaVictim(f"uid-{name}") for name in names], violations)
        for node, names in proposed.items()
    }
    answer = preemptor(town).choose(pod, asked)
    return {
        node: sorted(one.uid.removeprefix("uid-") for one in answer[node].pods or ())
        if node in answer
        else None
        for node in proposed
    }


def full_of_ones(**spec) -> Town:
    town = Town()
    town.dra_node("a")
    for start in range(7):
        town.runs(f"p{start}", "a", (0, "1g", start), **spec)
    return town


def test_a_contiguous_set_is_chosen_in_place_of_the_proposed_one():
    town = full_of_ones()
    town.waits("big", "3g", priority=10)
    # By count any four would do; these four lie on both halves.
    answer = chosen(town, "big", {"a": ["p0", "p2", "p4", "p6"]})
    assert answer["a"] == ["p4", "p5", "p6"]


def test_the_whole_card_takes_everyone():
    town = full_of_ones()
    town.waits("big", "7g", priority=10)
    assert chosen(town, "big", {"a": ["p0"]})["a"] == [f"p{start}" for start in range(7)]


def test_a_node_where_not_even_everyone_s_leaving_helps_is_dropped():
    town = full_of_ones(priority=5)
    town.runs("high", "a", (0, "1g", 0), priority=50)
    town.waits("big", "7g", priority=10)
    assert chosen(town, "big", {"a": ["p1"]}) == {"a": None}


def test_pods_of_equal_priority_are_no_victims():
    town = full_of_ones(priority=10)
    town.waits("big", "3g", priority=10)
    assert chosen(town, "big", {"a": ["p0"]}) == {"a": None}


def test_the_lowest_priority_goes_before_the_fewest():
    town = Town()
    town.dra_node("a")
    town.runs("dear", "a", (0, "3g", 4), priority=5)
    for start in range(3):
        town.runs(f"cheap{start}", "a", (0, "1g", start), priority=1)
    town.waits("big", "3g", priority=10)
    assert chosen(town, "big", {"a": ["dear"]})["a"] == ["cheap0", "cheap1", "cheap2"]


def test_budgets_come_before_priorities_and_are_counted():
    town = Town()
    town.dra_node("a")
    town.runs("dear", "a", (0, "3g", 4), priority=5)
    town.runs("cheap", "a", (0, "3g", 0), priority=1)
    town.budget("cheap", 0)
    town.waits("big", "3g", priority=10)
    assert chosen(town, "big", {"a": ["cheap"]})["a"] == ["dear"]
    town.budget("dear", 0)
    pod = next(p for p in town.pods if p.metadata.name == "big")
    answer = preemptor(town).choose(pod, {"a": MetaVictims([MetaVictim("uid-dear")], 0)})
    assert [one.uid for one in answer["a"].pods] == ["uid-cheap"]
    assert answer["a"].pdb_violations == 1


def test_the_youngest_of_equals_goes():
    town = Town()
    town.dra_node("a")
    town.runs("old", "a", (0, "3g", 0), started="2026-01-01T00:00:00Z")
    town.runs("young", "a", (0, "3g", 4), started="2026-06-01T00:00:00Z")
    town.waits("big", "3g", priority=10)
    assert chosen(town, "big", {"a": ["old"]})["a"] == ["young"]


def test_victims_free_cpu_too():
    town = Town()
    town.dra_node("a", cpu="10")
    town.runs("small", "a", (0, "3g", 4), cpu="1", started="2026-06-01T00:00:00Z")
    town.runs("large", "a", (0, "3g", 0), cpu="8")
    town.waits("big", "3g", priority=10, cpu="8")
    assert chosen(town, "big", {"a": ["large"]})["a"] == ["large"]


def test_a_pod_without_gpus_goes_only_when_its_cpu_is_needed():
    town = Town()
    town.dra_node("a", cpu="10")
    town.runs("small", "a", (0, "7g", 0), cpu="1")
    town.put_pod(a_pod("plain", on="a", cpu="8"))
    town.waits("big", "3g", priority=10, cpu="8")
    assert chosen(town, "big", {"a": ["small", "plain"]})["a"] == ["plain", "small"]
    town.waits("light", "3g", priority=10, cpu="1")
    assert chosen(town, "light", {"a": ["small", "plain"]})["a"] == ["small"]


def test_linked_gpus_are_freed_under_the_device_plugin():
    town = Town()
    town.plugin_node("a", gpus=4, labels={"nvidia.com/gpu.product": "NVIDIA-A100-80GB-PCIe"})
    for number in range(4):
        town.put_pod(a_pod(f"p{number}", on="a", limits={"nvidia.com/gpu": "1"}))
    town.put_pod(a_pod("pair", limits={"nvidia.com/gpu": "2"}, priority=10))
    answer = chosen(town, "pair", {"a": ["p0", "p3"]})
    assert len(answer["a"]) == 2


def test_one_large_victim_goes_before_many_small_ones():
    town = Town()
    town.plugin_node("a", gpus=8)
    for number in range(4):
        town.put_pod(a_pod(f"one{number}", on="a", limits={"nvidia.com/gpu": "1"}))
    town.put_pod(a_pod("four", on="a", limits={"nvidia.com/gpu": "4"}))
    town.put_pod(a_pod("big", limits={"nvidia.com/gpu": "4"}, priority=10))
    assert chosen(town, "big", {"a": [f"one{n}" for n in range(4)]})["a"] == ["four"]


def test_what_is_not_ours_to_judge_stands():
    town = full_of_ones()
    town.put_pod(a_pod("plain", priority=10))
    assert chosen(town, "plain", {"a": ["p3"], "elsewhere": ["q"]}) == {"a": ["p3"], "elsewhere": ["q"]}
    town.waits("big", "3g", priority=10)
    assert chosen(town, "big", {"elsewhere": ["q"]}) == {"elsewhere": ["q"]}


def test_free_gpus_leave_the_proposal_alone():
    town = Town()
    town.dra_node("a")
    town.runs("p", "a", (0, "1g", 0), cpu="60")
    town.waits("big", "3g", priority=10, cpu="8")
    assert chosen(town, "big", {"a": ["p"]}) == {"a": ["p"]}


def test_the_verb_answers_in_the_meta_form():
    town = full_of_ones()
    town.waits("big", "3g", priority=10)
    decider = town.setting.decider
    app = create_app(decider, exposition=Exposition("test", "1"), ready=dict, preemptor=preemptor(town))
    pod = next(p for p in town.pods if p.metadata.name == "big")
    body = {
        "Pod": json.loads(msgspec.json.encode(pod)),
        "NodeNameToVictims": None,
        "NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "uid-p0"}], "NumPDBViolations": 0}},
    }
    answer = call(app, "/scheduler/preempt", body).json()
    victims = answer["NodeNameToMetaVictims"]["a"]
    assert {one["UID"] for one in victims["Pods"]} == {"uid-p4", "uid-p5", "uid-p6"}
    assert victims["NumPDBViolations"] == 0


@st.composite
def nodes(draw):
    places, mask = [], 0
    for placement in draw(st.permutations(GEOMETRY.placements)):
        if placement.profile in SHORT and not placement.bits & mask:
            mask |= placement.bits
            places.append((placement, draw(st.integers(0, 3))))
    return places, draw(st.sampled_from(["1g", "2g", "3g", "4g", "7g"]))


@given(nodes())
@settings(max_examples=40, deadline=None)
def test_victims_are_of_lower_priority_enough_and_none_too_many(made):
    places, wanted = made
    town = Town()
    town.dra_node("a")
    masks = {}
    for number, (placement, priority) in enumerate(places):
        town.runs(f"p{number}", "a", (0, SHORT[placement.profile], placement.start), priority=priority)
        masks[f"p{number}"] = (placement.bits, priority)
    town.waits("big", wanted, priority=2)
    lower = [name for name, (_, priority) in masks.items() if priority < 2]
    answer = chosen(town, "big", {"a": lower})["a"]

    def fits(gone):
        taken = 0
        for name, (bits, _) in masks.items():
            taken |= 0 if name in gone else bits
        return any(p.profile == PROFILES[wanted] and not p.bits & taken for p in GEOMETRY.placements)

    if not lower and not fits(()):
        assert not answer
    elif fits(()):
        assert answer == sorted(lower)
    elif not fits(lower):
        assert answer is None
    else:
        assert set(answer) <= set(lower)
        assert fits(answer)
        assert not any(fits([name for name in answer if name != spared]) for spared in answer)
