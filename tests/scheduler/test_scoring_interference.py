"""The interference term: what makes it rise, what makes it 0, when it is absent, and that its books
balance.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.samples import NoData
from scheduler.fleet import Fleet
from scheduler.neighbours import Companies
from scheduler.scoring.interference import Rates, Slowdowns
from tests.scheduler.extender_calls import app_over, call
from tests.scheduler.fleet_objects import Setting, claim, node, pod, policy, slices

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
MEMORY = {"slicewise.io/interference": "memory"}
COMPUTE = {"slicewise.io/interference": "compute"}
PAIRS = {"memory": {"memory": 0.4, "compute": 0.1}, "compute": {"memory": 0.2, "compute": 0.3}}


def declared(default="none", **tables):
    return policy(interference={"defaultClass": default, "slowdown": tables})


def sharing(name, gpus, replicas):
    labels = {"nvidia.com/gpu.count": str(gpus), "nvidia.com/gpu.replicas": str(replicas)}
    return node(name, allocatable={SHARED: str(gpus * replicas)}, labels=labels)


def term(setting, the_pod, name):
    found = next(bill for bill in setting.decider.bills(the_pod) if bill.node == name)
    return found.terms.get("interference", found.absent.get("interference"))


def test_on_a_shared_gpu_both_sides_losses_are_charged_at_the_price_of_their_replicas():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 1, 4))
    fleet.apply_pod(pod("there", {SHARED: 1}, on="s", annotations=COMPUTE))
    setting = Setting(fleet, declared(gpu=PAIRS))
    # A replica is a quarter of a GPU at 2.5 an hour; the newcomer loses 0.1, the other 0.2.
    assert term(setting, pod("new", {SHARED: 1}, annotations=MEMORY), "s") == pytest.approx(2.5 / 4 * 0.3)
    assert term(setting, pod("new", {SHARED: 1}, annotations=COMPUTE), "s") == pytest.approx(2.5 / 4 * 0.6)


def test_replicas_spread_over_the_gpus_so_the_first_ones_have_no_neighbours():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 2, 4))
    setting = Setting(fleet, declared(gpu=PAIRS))
    newcomer = pod("new", {SHARED: 1}, annotations=MEMORY)
    seen = []
    for number in range(5):
        seen.append(term(setting, newcomer, "s"))
        fleet.apply_pod(pod(f"p{number}", {SHARED: 1}, on="s", annotations=MEMORY))
    each = 2.5 / 4 * 0.8
    assert seen == pytest.approx([0.0, 0.0, each, each, 2 * each])


def test_the_scheduler_prefers_the_quiet_node():
    fleet = Fleet()
    for name in ("loud", "quiet"):
        fleet.apply_node(sharing(name, 1, 4))
    fleet.apply_pod(pod("a", {SHARED: 1}, on="loud", annotations=MEMORY))
    fleet.apply_pod(pod("b", {SHARED: 1}, on="quiet", annotations=COMPUTE))
    bills = Setting(fleet, declared(gpu=PAIRS)).decider.bills(pod("n", {SHARED: 1}, annotations=MEMORY))
    assert [bill.node for bill in bills] == ["quiet", "loud"]


def test_the_webhook_ranks_the_quiet_node_first():
    fleet = Fleet()
    for name in ("loud", "quiet"):
        fleet.apply_node(sharing(name, 1, 4))
    fleet.apply_pod(pod("a", {SHARED: 1}, on="loud", annotations=MEMORY))
    fleet.apply_pod(pod("b", {SHARED: 1}, on="quiet", annotations=COMPUTE))
    app = app_over(Setting(fleet, declared(gpu=PAIRS)).decider)
    newcomer = {
        "metadata": {"name": "n", "namespace": "default", "uid": "uid-n", "annotations": MEMORY},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {SHARED: "1"}}}]},
    }
    args = {"Pod": newcomer, "NodeNames": ["loud", "quiet"]}
    scores = call(app, "/scheduler/prioritize", args).json()
    assert {entry["Host"]: entry["Score"] for entry in scores}["quiet"] == 10
    assert all(entry["Score"] < 10 for entry in scores if entry["Host"] == "loud")


def test_a_pcie_root_is_shared_by_its_own_gpus_only():
    fleet = Fleet()
    fleet.apply_node(node("n", allocatable={GPU: "4"}, labels={"slicewise.io/gpus-per-pcie-root": "2"}))
    fleet.apply_node(node("unsaid", allocatable={GPU: "4"}))
    setting = Setting(fleet, declared(pcieRoot=PAIRS))
    newcomer = pod("new", {GPU: 1}, annotations=MEMORY)
    seen: dict[str, list[float]] = {"n": [], "unsaid": []}
    for number in range(4):
        for name, prices in seen.items():
            prices.append(term(setting, newcomer, name))
            fleet.apply_pod(pod(f"{name}{number}", {GPU: 1}, on=name, annotations=MEMORY))
    assert seen["n"] == pytest.approx([0.0, 2.0, 0.0, 2.0])
    # Where nobody names the roots, the whole node counts as one.
    assert seen["unsaid"] == pytest.approx([0.0, 2.0, 4.0, 6.0])


def test_under_dra_claims_tell_who_holds_what_on_the_node():
    fleet = Fleet()
    fleet.apply_node(node("n"))
    for item in slices("n"):
        fleet.apply_slice(item)
    fleet.apply_pod(pod("there", claims={"g": "c"}, on="n", annotations=MEMORY))
    fleet.apply_claim(claim("c", devices=["gpu-0"], on="n", owner="there"))
    setting = Setting(fleet, declared(node=PAIRS))
    half = pod("new", {"nvidia.com/mig-3g.40gb": 1}, annotations=COMPUTE)
    assert term(setting, half, "n") == pytest.approx(2.5 * 0.5 * 1.0 * 0.3)
    fleet.delete_claim("default", "c")
    fleet.delete_pod("uid-there")
    assert term(setting, half, "n") == 0.0


def test_a_pod_is_no_neighbour_of_itself():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 1, 4))
    there = pod("there", {SHARED: 1}, on="s", annotations=MEMORY)
    fleet.apply_pod(there)
    assert term(Setting(fleet, declared(gpu=PAIRS)), there, "s") == 0.0


def test_nothing_declared_leaves_the_term_out_and_says_so():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 1, 4))
    said = term(Setting(fleet), pod("new", {SHARED: 1}, annotations=MEMORY), "s")
    assert said.startswith("the policy declares no slowdown")


def test_pods_that_state_no_class_have_the_default_one_and_none_is_unaffected():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 1, 4))
    fleet.apply_pod(pod("there", {SHARED: 1}, on="s"))
    newcomer = pod("new", {SHARED: 1}, annotations=MEMORY)
    assert term(Setting(fleet, declared(gpu=PAIRS)), newcomer, "s") == 0.0
    assert term(Setting(fleet, declared("memory", gpu=PAIRS)), newcomer, "s") == pytest.approx(2.5 / 4 * 0.8)
    unknown = pod("new", {SHARED: 1}, annotations={"slicewise.io/interference": "mystery"})
    assert term(Setting(fleet, declared("memory", gpu=PAIRS)), unknown, "s") == pytest.approx(2.5 / 4 * 0.8)
    none = pod("new", {SHARED: 1}, annotations={"slicewise.io/interference": "none"})
    assert term(Setting(fleet, declared("memory", gpu=PAIRS)), none, "s") == 0.0


def test_a_learned_slowdown_goes_before_the_declared_one_at_once():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 1, 4))
    fleet.apply_pod(pod("there", {SHARED: 1}, on="s", annotations=MEMORY))
    setting = Setting(fleet, declared(gpu=PAIRS))
    newcomer = pod("new", {SHARED: 1}, annotations=MEMORY)
    assert term(setting, newcomer, "s") == pytest.approx(2.5 / 4 * 0.8)
    setting.learned = {("gpu", "memory", "memory"): 0.05}
    assert term(setting, newcomer, "s") == pytest.approx(2.5 / 4 * 0.1)


def test_what_was_only_learned_is_absent_beside_pods_nothing_is_known_of():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 1, 4))
    fleet.apply_node(sharing("other", 1, 4))
    fleet.apply_pod(pod("there", {SHARED: 1}, on="s", annotations=MEMORY))
    setting = Setting(fleet)
    setting.learned = {("gpu", "memory", "memory"): 0.05}
    newcomer = pod("new", {SHARED: 1}, annotations=MEMORY)
    assert term(setting, newcomer, "s") == pytest.approx(2.5 / 4 * 0.1)
    fleet.apply_pod(pod("unknown", {SHARED: 1}, on="other"))
    for name in ("s", "other"):
        assert term(setting, newcomer, name).startswith("no slowdown is known between class memory and pods")


CLASSES = ("a", "b", "c")
numbers = st.floats(0.0, 1.0)
tables = st.fixed_dictionaries(dict.fromkeys(itertools.product(CLASSES, CLASSES), numbers))
pods = st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(1, 2000)), min_size=1, max_size=6)


def cost_of(rates, companies, arriving):
    """The sum of what each arrival is charged beside those before it, per money of a GPU-hour."""
    total, there = 0.0, {}
    for name, milli in arriving:
        company = companies.interned.id(tuple(sorted(there.items())))
        total += milli / 1000 * rates.table("node", name)[company]
        there[name] = there.get(name, 0) + milli
    return total


@settings(max_examples=60, deadline=None)
@given(tables, pods, st.randoms(use_true_random=False))
def test_all_pods_together_are_charged_both_losses_of_each_pair_in_whatever_order(table, arriving, random):
    companies = Companies()
    rates = Rates(Slowdowns({"node": table}, "a"), companies)
    losses = sum(
        first[1] / 1000 * second[1] / 1000 * (table[first[0], second[0]] + table[second[0], first[0]])
        for first, second in itertools.combinations(arriving, 2)
    )
    shuffled = random.sample(arriving, len(arriving))
    assert cost_of(rates, companies, arriving) == pytest.approx(losses)
    assert cost_of(rates, companies, shuffled) == pytest.approx(losses)


@settings(max_examples=60, deadline=None)
@given(tables, pods, st.sampled_from(CLASSES), st.tuples(st.sampled_from(CLASSES), st.integers(1, 2000)))
def test_one_more_neighbour_never_makes_a_node_cheaper(table, there, own, more):
    companies = Companies()
    rates = Rates(Slowdowns({"node": table}, "a"), companies)

    def price(members):
        counts = {}
        for name, milli in members:
            counts[name] = counts.get(name, 0) + milli
        company = companies.interned.id(tuple(sorted(counts.items())))
        return rates.table("node", own)[company]

    assert price([]) == 0.0
    assert price([*there, more]) >= price(there) - 1e-12


def test_rates_follow_ids_that_were_renewed():
    companies = Companies()
    rates = Rates(Slowdowns({"node": {("a", "a"): 0.5}}, "a"), companies)
    companies.interned.id((("a", 1000),))
    second = companies.interned.id((("a", 3000),))
    assert rates.table("node", "a")[second] == pytest.approx(3.0)
    companies.interned.keep([0, second])
    companies.renewed += 1
    assert rates.table("node", "a")[1] == pytest.approx(3.0)


def test_a_gap_is_told_with_both_names():
    rates = Rates(Slowdowns({"gpu": {("a", "b"): 0.1}}, ""), Companies())
    found = rates.gap("a")
    assert isinstance(found, NoData)
    assert found.reason == "no slowdown is known between class a and class a (gpu)"
