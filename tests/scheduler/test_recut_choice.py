"""Which idle nodes are re-cut to what: by what is wanted, never against a small gain, never a used node."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.policy import MigConfig
from dra.catalog import models
from scheduler.recut.choose import IdleNode, Outlook, choose
from scheduler.recut.configs import DISABLED, WHOLE, cuts_for
from scheduler.recut.steps import STATE_LABEL, Finish, Record, Seen, Wait, Write, resource_of, step

A100 = models()["A100-80GB"]
A30 = models()["A30-24GB"]
CUTS = {A100.name: cuts_for(A100, ())}
HOUR = {A100.name: 2.0}
NOTHING: dict[str, float] = {}


def idle(name="n", config=DISABLED, gpus=8, present=((WHOLE, 8),)) -> IdleNode:
    return IdleNode(name, A100, gpus, config, present)


def picked(nodes, outlook, most=10, min_gain=0.2):
    found = choose(nodes, CUTS, outlook, HOUR, most=most, min_gain=min_gain)
    return [(one.node, one.config) for one in found]


def test_the_shipped_configurations_follow_the_catalogue():
    offers = {cut.name: dict(cut.offers) for cut in cuts_for(A100, ())}
    assert offers[DISABLED] == {WHOLE: 1}
    assert offers["all-1g.10gb"] == {"1g.10gb": 7}
    assert offers["all-3g.40gb"] == {"3g.40gb": 2}
    assert offers["all-balanced"] == {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
    assert {cut.name: dict(cut.offers) for cut in cuts_for(A30, ())}["all-balanced"] == {
        "1g.6gb": 2,
        "2g.12gb": 1,
    }


def test_the_policy_s_configurations_replace_them_and_impossible_ones_are_left_out():
    configs = (
        MigConfig(name="mine", devices={"3g.40gb": 2}),
        MigConfig(name="too-much", devices={"3g.40gb": 2, "1g.10gb": 1}),
        MigConfig(name="elsewhere", model="A30-24GB", devices={"1g.6gb": 4}),
        MigConfig(name="off"),
    )
    assert [cut.name for cut in cuts_for(A100, configs)] == ["mine", "off"]


def test_waiting_small_pods_get_a_node_cut_small():
    outlook = Outlook({"1g.10gb": 50.0}, {"1g.10gb": 50.0}, NOTHING)
    assert picked([idle("a"), idle("b")], outlook)[0] == ("a", "all-1g.10gb")


def test_instances_that_are_free_elsewhere_are_not_cut_again():
    outlook = Outlook({"1g.10gb": 20.0}, {WHOLE: 1.0}, {"1g.10gb": 200.0})
    assert picked([idle()], outlook) == []


def test_whole_gpus_come_back_when_they_are_wanted():
    small = idle(config="all-1g.10gb", present=(("1g.10gb", 56),))
    outlook = Outlook({WHOLE: 16.0}, {WHOLE: 16.0}, NOTHING)
    assert picked([small], outlook) == [("n", DISABLED)]


def test_a_node_that_serves_the_mix_is_left_alone():
    small = idle(config="all-1g.10gb", present=(("1g.10gb", 56),))
    outlook = Outlook({"1g.10gb": 56.0}, {"1g.10gb": 56.0}, NOTHING)
    assert picked([small], outlook) == []


def test_a_mixed_demand_gets_a_mixed_fleet():
    nodes = [idle(f"n{number}") for number in range(4)]
    wanted = {"1g.10gb": 70.0, "3g.40gb": 20.0, WHOLE: 8.0}
    configs = {config for _, config in picked(nodes, Outlook(wanted, wanted, NOTHING))}
    assert "all-1g.10gb" in configs or "all-balanced" in configs
    assert len(configs) >= 2 or len(picked(nodes, Outlook(wanted, wanted, NOTHING))) < 4


def test_the_number_of_recuts_is_bounded():
    nodes = [idle(f"n{number}") for number in range(9)]
    wanted = {"1g.10gb": 900.0}
    assert len(picked(nodes, Outlook(wanted, wanted, NOTHING), most=2)) == 2
    assert picked(nodes, Outlook(wanted, wanted, NOTHING), most=0) == []


CLASSES = [WHOLE, "1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"]
amounts = st.dictionaries(st.sampled_from(CLASSES), st.floats(0.0, 80.0), max_size=4)


@given(amounts, amounts, amounts, st.integers(1, 5), st.floats(0.0, 0.9))
@settings(max_examples=100, deadline=None)
def test_a_choice_gains_is_stable_and_deterministic(waiting, expected, free, count, min_gain):
    nodes = [idle(f"n{number}") for number in range(count)]
    outlook = Outlook(waiting, expected, free)
    found = choose(nodes, CUTS, outlook, HOUR, most=10, min_gain=min_gain)
    assert found == choose(nodes, CUTS, outlook, HOUR, most=10, min_gain=min_gain)
    assert len({one.node for one in found}) == len(found)
    for one in found:
        assert one.gain_per_hour >= min_gain * 2.0 * 8 - 1e-9
        assert one.gain_per_hour <= 2.0 * 8 + 1e-9
        assert one.config != one.previous


# --- steps ----------------------------------------------------------------------------------------------

RECORD = Record(
    "all-disabled", "all-1g.10gb", "cordoned", 100.0, {"nvidia.com/mig-1g.10gb": 56}, {"nvidia.com/gpu": 8}
)


def seen(state="", allocatable=None, used=False) -> Seen:
    return Seen({STATE_LABEL: state}, allocatable or {}, used)


def at(phase, since=100.0) -> Record:
    return Record(RECORD.previous, RECORD.config, phase, since, RECORD.offers, RECORD.before)


def test_a_cordoned_node_is_given_a_moment_and_then_cut():
    assert isinstance(step(RECORD, seen(), 101.0, 900.0), Wait)
    action = step(RECORD, seen(), 104.0, 900.0)
    assert isinstance(action, Write)
    assert (action.config, action.record.phase, action.record.since) == ("all-1g.10gb", "cutting", 104.0)


def test_a_pod_that_slipped_in_ends_it_before_anything_was_cut():
    assert step(RECORD, seen(used=True), 104.0, 900.0) == Finish("given_up")


@pytest.mark.parametrize(
    ("state", "allocatable", "action"),
    [
        ("pending", {}, Wait()),
        ("success", {"nvidia.com/gpu": 8}, Wait()),  # the device plugin has not restarted yet
        ("success", {"nvidia.com/mig-1g.10gb": 56}, Finish("succeeded")),
    ],
)
def test_success_counts_once_the_resources_are_there(state, allocatable, action):
    assert step(at("cutting"), seen(state, allocatable), 200.0, 900.0) == action


@pytest.mark.parametrize(("state", "now"), [("failed", 110.0), ("pending", 1001.0)])
def test_failure_and_silence_go_back_to_the_old_configuration(state, now):
    action = step(at("cutting"), seen(state), now, 900.0)
    assert isinstance(action, Write)
    assert (action.config, action.record.phase) == ("all-disabled", "returning")
    assert step(at("returning"), seen("success", {"nvidia.com/gpu": 8}), now, 900.0) == Finish("rolled_back")


def test_a_node_that_cannot_go_back_stays_cordoned_until_it_can():
    action = step(at("returning"), seen("failed"), 110.0, 900.0)
    assert isinstance(action, Write)
    assert (action.config, action.record.phase) == (None, "stuck")
    assert isinstance(step(at("stuck"), seen("failed"), 9999.0, 900.0), Wait)
    assert step(at("stuck"), seen("success", {"nvidia.com/gpu": 8}), 9999.0, 900.0) == Finish("rolled_back")


def test_resources_are_named_as_the_device_plugin_names_them():
    assert resource_of(WHOLE) == "nvidia.com/gpu"
    assert resource_of("1g.10gb+me") == "nvidia.com/mig-1g.10gb.me"
