"""Filter, prioritize, bills: what the webhook answers."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.fleet import Fleet
from tests.scheduler.fleet_objects import (
    A100_PCIE,
    L40S,
    Setting,
    claim,
    intensities,
    node,
    pod,
    policy,
    slices,
)

GPU = "nvidia.com/gpu"
MIG_3G = "nvidia.com/mig-3g.40gb"


def plugin_fleet(**nodes: int) -> Fleet:
    fleet = Fleet()
    for name, gpus in nodes.items():
        fleet.apply_node(node(name, allocatable={GPU: str(gpus)}))
    return fleet


def mig_fleet(*names: str) -> Fleet:
    fleet = Fleet()
    for name in names:
        fleet.apply_node(node(name))
        for item in slices(name):
            fleet.apply_slice(item)
    return fleet


# --- filter -----------------------------------------------------------------------------------------------


def test_pods_without_gpus_pass_untouched():
    decider = Setting(plugin_fleet(a=1)).decider
    outcome = decider.filter(pod("p", {"cpu": 1}), ["a", "x"])
    assert (outcome.passed, outcome.untouched) == ([0, 1], True)
    assert decider.prioritize(pod("p", {"cpu": 1}), ["a"]) is None


def test_unknown_nodes_pass_and_are_counted():
    decider = Setting(plugin_fleet(a=1)).decider
    outcome = decider.filter(pod("p", {GPU: 2}), ["ghost", "a"])
    assert outcome.passed == [0]
    assert list(outcome.unresolvable) == ["a"]
    assert decider.unknown_nodes == 1
    scores = decider.prioritize(pod("q", {GPU: 1}), ["ghost", "a"])
    assert scores is not None
    assert scores.tolist() == [0, 10]


def test_demand_that_is_not_understood_passes_everywhere():
    decider = Setting(plugin_fleet(a=1)).decider
    assert decider.filter(pod("p", claims={"g": "nowhere"}), ["a"]).untouched
    assert decider.prioritize(pod("p", claims={"g": "nowhere"}), ["a"]) is None
    assert decider.not_understood == 2


def test_full_nodes_are_refused_with_numbers_and_preemption_may_help():
    fleet = plugin_fleet(a=4)
    fleet.apply_pod(pod("old", {GPU: 3}, on="a"))
    outcome = Setting(fleet).decider.filter(pod("p", {GPU: 2}), ["a"])
    assert outcome.failed == {"a": "needs 2 whole GPUs; 1 of 4 are free"}
    assert not outcome.unresolvable


def test_mig_refusal_names_the_largest_free_run():
    fleet = mig_fleet("a")
    for gpu in (0, 1):
        for start in (0, 3, 6):
            fleet.apply_claim(claim(f"c{gpu}{start}", devices=[f"gpu-{gpu}-mig-1g10gb-19-{start}"], on="a"))
    outcome = Setting(fleet).decider.filter(pod("p", {MIG_3G: 1}), ["a"])
    assert outcome.failed == {"a": "needs 1 × 3g.40gb; largest free run on any GPU is 2 of 8 units"}


def test_mig_refusal_says_when_the_free_run_is_at_no_legal_place():
    fleet = mig_fleet("a")
    for gpu in (0, 1):
        for device in (f"gpu-{gpu}-mig-1g10gb-19-0", f"gpu-{gpu}-mig-1g20gb-15-6"):
            fleet.apply_claim(claim(f"c-{device}", devices=[device], on="a"))
    outcome = Setting(fleet).decider.filter(pod("p", {MIG_3G: 1}), ["a"])
    assert "an instance is 4 units from unit 0, 4" in outcome.failed["a"]


@pytest.mark.parametrize(
    ("wanted", "annotations", "words"),
    [
        ({GPU: 8}, {}, "needs 8 whole GPUs; the node has 2"),
        ({MIG_3G: 1}, {}, "needs 1 × 3g.40gb; no GPU of the node (H100-80GB) can be cut that way so often"),
        (
            {GPU: 1},
            {"slicewise.io/gpu-model": "L40S-48GB"},
            "needs a GPU of model L40S-48GB; the node has H100-80GB",
        ),
        ({"nvidia.com/gpu.shared": 1}, {}, "needs 1 shared GPU; the node has 0"),
    ],
)
def test_what_a_node_can_never_hold_is_unresolvable(
    wanted: dict[str, int], annotations: dict[str, str], words: str
):
    outcome = Setting(plugin_fleet(a=2)).decider.filter(pod("p", wanted, annotations=annotations), ["a"])
    assert outcome.unresolvable == {"a": words}
    assert not outcome.failed


def test_nodes_without_gpus_are_unresolvable():
    fleet = Fleet()
    fleet.apply_node(node("cpu"))
    outcome = Setting(fleet).decider.filter(pod("p", {GPU: 1}), ["cpu"])
    assert outcome.unresolvable == {"cpu": "needs 1 whole GPU; the node offers no GPU"}


def test_carbon_class_refuses_dirty_zones_only_while_the_intensity_is_known():
    fleet = plugin_fleet(a=1)
    fleet.apply_node(node("b", allocatable={GPU: "1"}, region="eu-central-1"))
    setting = Setting(fleet, policy(carbon={"classes": {"clean": {"maxGramsPerKwh": 100}}}))
    clean = pod("p", {GPU: 1}, annotations={"slicewise.io/carbon-class": "clean"})
    outcome = setting.decider.filter(clean, ["a", "b"])
    assert outcome.passed == [0]
    assert outcome.unresolvable["b"] == (
        "grid zone DE stands at 400 gCO2e/kWh; carbon class clean accepts at most 100"
    )
    setting.carbon = {}
    assert setting.decider.filter(clean, ["a", "b"]).untouched


def test_required_nvlink_is_vetoed_where_it_cannot_be_given():
    fleet = Fleet()
    pairs = {"slicewise.io/nvlink-topology": "bridges"}
    fleet.apply_node(node("pairs", product=A100_PCIE, allocatable={GPU: "4"}, labels=pairs))
    fleet.apply_node(node("none", product=L40S, allocatable={GPU: "4"}))
    setting = Setting(fleet)
    need = {"slicewise.io/nvlink": "required"}
    outcome = setting.decider.filter(pod("p", {GPU: 2}, annotations=need), ["pairs", "none"])
    assert outcome.passed == [0]
    assert outcome.unresolvable["none"] == "needs 2 GPUs joined by NVLink; the node has no such set"
    outcome = setting.decider.filter(pod("q", {GPU: 4}, annotations=need), ["pairs"])
    assert "pairs" in outcome.unresolvable
    # One GPU of each pair is taken: two are free, but not a pair.
    fleet.apply_pod(pod("x", {GPU: 1}, on="pairs"))
    fleet.apply_pod(pod("y", {GPU: 2}, on="pairs"))
    assert setting.decider.filter(pod("p", {GPU: 2}, annotations=need), ["pairs"]).failed


def test_room_that_is_only_expected_to_be_taken_vetoes_nothing():
    fleet = plugin_fleet(a=1)
    setting = Setting(fleet)
    setting.decider.prioritize(pod("first", {GPU: 1}), ["a"])
    assert fleet.facts.reservations
    assert setting.decider.filter(pod("first", {GPU: 1}), ["a"]).untouched
    assert setting.decider.filter(pod("second", {GPU: 1}), ["a"]).untouched


# --- prioritize -------------------------------------------------------------------------------------------


def test_a_mig_pod_goes_where_it_destroys_least():
    fleet = mig_fleet("fresh", "started")
    fleet.apply_claim(claim("c", devices=["gpu-0-mig-3g40gb-9-0"], on="started"))
    scores = Setting(fleet).decider.prioritize(pod("p", {"nvidia.com/mig-1g.10gb": 1}), ["fresh", "started"])
    assert scores is not None
    assert scores.tolist() == [9, 10]


def test_a_burst_spreads_over_equal_nodes_instead_of_piling_up():
    fleet = plugin_fleet(**{f"n{i}": 1 for i in range(20)})
    decider = Setting(fleet).decider
    names = list(fleet.rows)
    winners = []
    for index in range(20):
        scores = decider.prioritize(pod(f"p{index}", {GPU: 1}), names)
        assert scores is not None
        assert (scores == 10).sum() == 1
        winners.append(names[int(scores.argmax())])
    assert len(set(winners)) == 20


def test_ties_are_real_ties_without_reservations():
    fleet = plugin_fleet(a=1, b=1)
    decider = Setting(fleet, policy(extender={"reservationSeconds": 0})).decider
    scores = decider.prioritize(pod("p", {GPU: 1}), ["a", "b"])
    assert scores is not None
    assert scores.tolist() == [10, 10]
    assert not fleet.facts.reservations


def test_the_winner_among_ties_is_the_same_on_every_replica():
    names = [f"n{i}" for i in range(8)]
    answers = [
        Setting(plugin_fleet(**dict.fromkeys(names, 1))).decider.prioritize(pod("p", {GPU: 1}), names)
        for _ in range(2)
    ]
    assert answers[0] is not None
    assert answers[1] is not None
    assert answers[0].tolist() == answers[1].tolist()


def test_a_pod_does_not_compete_with_its_own_nomination():
    fleet = plugin_fleet(a=1, b=2)
    waiting = pod("p", {GPU: 1}, nominated="a")
    fleet.apply_pod(waiting)
    scores = Setting(fleet).decider.prioritize(waiting, ["a", "b"])
    assert scores is not None
    assert scores[0] > 0


def test_reservations_expire_by_the_clock():
    fleet = plugin_fleet(a=1, b=1)
    setting = Setting(fleet)
    setting.decider.prioritize(pod("p", {GPU: 1}), ["a"])
    setting.now += 5.1
    setting.decider.prioritize(pod("q", {GPU: 1}), ["b"])
    setting.decider.refresh([])
    assert set(fleet.facts.reservations) == {"uid-q"}


def test_a_reservation_long_over_ends_though_nothing_looked_after_an_answer():
    fleet = plugin_fleet(a=1, b=1)
    setting = Setting(fleet)
    setting.decider.prioritize(pod("p", {GPU: 1}), ["a"])
    setting.now += 6.1
    setting.decider.prioritize(pod("q", {GPU: 1}), ["b"])
    assert set(fleet.facts.reservations) == {"uid-q"}


def test_changed_policy_prices_and_intensities_are_in_force_at_once():
    fleet = plugin_fleet(a=1)
    fleet.apply_node(node("b", allocatable={GPU: "1"}, region="eu-central-1", labels={"kind": "spot"}))
    setting = Setting(fleet, policy(extender={"reservationSeconds": 0}))
    names = ["a", "b"]

    def scores() -> list[int]:
        found = setting.decider.prioritize(pod("p", {GPU: 1}), names)
        assert found is not None
        return [int(score) for score in found]

    assert scores() == [10, 9]
    setting.carbon = intensities(SE=500.0, DE=20.0)
    assert scores() == [9, 10]
    spot = [{"name": "other", "match": {"kind": "spot"}, "gpuHour": 90.0}]
    setting.policy = policy(extender={"reservationSeconds": 0}, nodes=spot)
    assert scores() == [10, 9]


# --- bills ------------------------------------------------------------------------------------------------


def test_bills_add_up_and_come_cheapest_first():
    fleet = plugin_fleet(a=4, b=4)
    fleet.apply_pod(pod("old", {GPU: 3}, on="b"))
    bills = Setting(fleet).decider.bills(pod("p", {GPU: 1}))
    assert [bill.total for bill in bills] == sorted(bill.total for bill in bills)
    for bill in bills:
        assert set(bill.terms) == {"fragmentation", "nvlink", "carbon", "money", "locality"}
        assert sum(bill.terms.values()) == pytest.approx(bill.total)


def test_a_bound_pod_is_billed_as_if_it_were_not_there():
    fleet = plugin_fleet(a=1)
    running = pod("p", {GPU: 1}, on="a")
    fleet.apply_pod(running)
    setting = Setting(fleet)
    assert [bill.feasible for bill in setting.decider.bills(running)] == [True]
    assert [bill.feasible for bill in setting.decider.bills(running, exclude_self=False)] == [False]
    claimed = mig_fleet("m")
    claimed.apply_claim(claim("c", profile="7g.80gb", devices=["gpu-0-mig-7g80gb-0-0"], on="m", owner="q"))
    claimed.apply_claim(claim("d", devices=["gpu-1"], on="m"))
    owner = pod("q", claims={"g": "c"}, on="m")
    claimed.apply_pod(owner)
    assert [bill.feasible for bill in Setting(claimed).decider.bills(owner)] == [True]


def test_bills_name_the_terms_that_are_absent_and_why():
    fleet = plugin_fleet(a=1)
    setting = Setting(fleet)
    setting.carbon = {}
    (bill,) = setting.decider.bills(pod("p", {GPU: 1}))
    assert "carbon" not in bill.terms
    assert bill.absent["carbon"] == "no carbon intensity for grid zone(s) SE"
    assert bill.absent.keys() == {"carbon", "interference"}


def test_bills_of_nodes_that_cannot_take_the_pod_come_last_with_the_reason():
    bills = Setting(plugin_fleet(a=1, b=2)).decider.bills(pod("p", {GPU: 2}))
    assert [(bill.node, bill.feasible) for bill in bills] == [("b", True), ("a", False)]
    assert bills[1].reason == "needs 2 whole GPUs; the node has 1"
    assert np.isinf(bills[1].total)


def test_place_takes_the_cheapest_allowed_row():
    fleet = plugin_fleet(a=1, b=1)
    decider = Setting(fleet).decider
    demand = decider.demand(pod("p", {GPU: 1}))
    assert demand is not None
    assert decider.place(demand) == 0
    assert decider.place(demand, np.array([False, True])) == 1
    assert decider.place(demand, np.array([False, False])) is None


# --- the shortlist ----------------------------------------------------------------------------------------


def test_filter_passes_on_the_cheapest_nodes_only():
    names = [f"n{number:02d}" for number in range(40)]
    fleet = plugin_fleet(**dict.fromkeys(names, 8))
    fleet.apply_pod(pod("old", {GPU: 7}, on="n30"))
    decider = Setting(fleet, policy(extender={"shortlist": 4})).decider
    outcome = decider.filter(pod("p", {GPU: 1}), names)
    assert len(outcome.passed) == 4
    assert (outcome.untouched, outcome.failed, outcome.unresolvable) == (False, {}, {})
    prices = decider.prices(decider.demand(pod("p", {GPU: 1})))
    assert sorted(prices[outcome.passed]) == sorted(prices)[:4]


def test_the_rank_is_over_the_shortlist_alone():
    names = [f"n{number:02d}" for number in range(40)]
    decider = Setting(plugin_fleet(**dict.fromkeys(names, 8)), policy(extender={"shortlist": 4})).decider
    asked = pod("p", {GPU: 1})
    kept = [names[position] for position in decider.filter(asked, names).passed]
    scores = decider.prioritize(asked, kept)
    assert scores is not None
    assert sorted(scores.tolist(), reverse=True)[:2] == [10, 9]


def test_a_shortlist_of_zero_passes_every_node():
    names = [f"n{number:02d}" for number in range(40)]
    decider = Setting(plugin_fleet(**dict.fromkeys(names, 8)), policy(extender={"shortlist": 0})).decider
    assert decider.filter(pod("p", {GPU: 1}), names).untouched
