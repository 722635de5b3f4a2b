"""Learning slowdowns from a fleet and from what Prometheus says of its pods."""

from __future__ import annotations

import random

import pytest

from metrics.interference import NOTHING_LEARNED
from metrics.samples import NoData, Sample, Vector
from metrics.servers import GENERIC, VLLM
from scheduler.fleet import Fleet
from scheduler.interference_learning import queries, samples, standings
from scheduler.interference_loop import InterferenceLoop
from scheduler.occupancy import occupied
from tests.scheduler.fleet_objects import Setting, claim, node, pod, policy, slices

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
MEMORY = {"slicewise.io/interference": "memory"}
PAIR = ("gpu", "memory", "memory")


def declared(loss, **learning):
    slowdown = {"gpu": {"memory": {"memory": loss}}}
    return policy(interference={"defaultClass": "none", "slowdown": slowdown, "learning": learning})


def sharing(name, gpus, replicas):
    labels = {"nvidia.com/gpu.count": str(gpus), "nvidia.com/gpu.replicas": str(replicas)}
    return node(name, allocatable={SHARED: str(gpus * replicas)}, labels=labels)


def read(fleet, name, places=frozenset()):
    layout, holdings = fleet.layout(name), []
    occupied(layout.inventory, layout.site, fleet.facts, holdings=holdings)
    found = standings(
        layout.inventory,
        holdings,
        layout.shared_gpus,
        fleet.facts,
        lambda stated: stated or "other",
        frozenset(places),
    )
    return {standing.pod[1]: standing for standing in found}


def test_replicas_stand_beside_as_many_as_an_even_spread_puts_on_their_gpu():
    fleet = Fleet()
    fleet.apply_node(sharing("s", 2, 4))
    for number in range(3):
        fleet.apply_pod(pod(f"p{number}", {SHARED: 1}, on="s", annotations=MEMORY))
    found = read(fleet, "s")
    # Two on one GPU, one on the other: 2/3 of a neighbour on average.
    assert [standing.beside for standing in found.values()] == [{("gpu", "memory"): pytest.approx(2 / 3)}] * 3
    assert all(standing.shares_gpu for standing in found.values())


def test_whole_gpus_stand_beside_those_of_their_root_and_of_the_node():
    fleet = Fleet()
    fleet.apply_node(node("n", allocatable={GPU: "4"}, labels={"slicewise.io/gpus-per-pcie-root": "2"}))
    for number in range(3):
        fleet.apply_pod(pod(f"p{number}", {GPU: 1}, on="n", annotations=MEMORY))
    fleet.apply_pod(pod("quiet", {GPU: 1}, on="n", annotations={"slicewise.io/interference": "none"}))
    found = read(fleet, "n", {"pcieRoot", "node"})
    assert set(found) == {"p0", "p1", "p2"}
    # Pods of one age stand in the order of their UIDs: two under the first root, p2 with the quiet one.
    assert found["p0"].beside == {("pcieRoot", "memory"): 1.0, ("node", "memory"): 2.0}
    assert found["p2"].beside == {("pcieRoot", "memory"): 0.0, ("node", "memory"): 2.0}


def test_claims_of_one_pod_are_one_pod_and_unknown_holders_still_count():
    fleet = Fleet()
    fleet.apply_node(node("n"))
    for item in slices("n"):
        fleet.apply_slice(item)
    fleet.apply_pod(pod("two", claims={"a": "a", "b": "b"}, on="n", annotations=MEMORY))
    for name, device in (("a", "gpu-0-mig-1g10gb-19-0"), ("b", "gpu-0-mig-1g10gb-19-1")):
        fleet.apply_claim(claim(name, devices=[device], on="n", owner="two"))
    fleet.apply_claim(claim("stranger", devices=["gpu-1"], on="n"))
    assert read(fleet, "n")["two"].beside == {("node", "other"): 1.0}


def test_speed_is_latency_where_there_is_one_else_own_sm_activity():
    fleet = Fleet()
    fleet.apply_node(node("n", allocatable={GPU: "4"}))
    fleet.apply_node(sharing("s", 1, 4))
    for name, limits, on in (("a", {GPU: 1}, "n"), ("b", {GPU: 1}, "n"), ("c", {SHARED: 1}, "s")):
        fleet.apply_pod(pod(name, limits, on=on, annotations=MEMORY))
    fleet.apply_pod(pod("idle", {GPU: 1}, on="n", annotations=MEMORY))
    found = [*read(fleet, "n").values(), *read(fleet, "s").values()]
    busy = {"a": 0.5, "b": 0.8, "c": 0.9, "idle": 0.01}
    answers = {
        "vllm latency": buckets({"a": 0.02}),
        "sm activity": Vector(
            tuple(Sample({"namespace": "default", "pod": name}, ratio, 0.0) for name, ratio in busy.items())
        ),
        "vllm load": NoData("none", "empty"),
    }
    seen = {sample.workload.rpartition(" ")[2]: sample.latency_seconds for sample in samples(found, answers)}
    assert seen == {"latency": pytest.approx(0.02, rel=0.5), "activity": pytest.approx(1 / 0.8)}


def test_a_few_queries_cover_the_whole_cluster():
    asked = queries(presets=(VLLM, GENERIC))
    assert len(asked) == 5
    assert "vllm:inter_token_latency_seconds_bucket" in asked["vllm latency"]


def buckets(medians):
    """A bucket query's answer with each pod's median as given."""
    found = []
    for name, median in medians.items():
        labels = {"namespace": "default", "pod": name}
        for bound, share in ((median * 0.999, 0.0), (median * 1.001, 1.0)):
            found.append(Sample({**labels, "le": repr(bound)}, share, 0.0))
        found.append(Sample({**labels, "le": "+Inf"}, 1.0, 0.0))
    return Vector(tuple(found))


class Servers:
    """Prometheus over pods whose latency follows a true slowdown."""

    def __init__(self, fleet, truth):
        self.fleet, self.truth, self.out = fleet, truth, False
        self.random = random.Random(7)

    def query_many(self, asked, at):
        if self.out:
            return {name: NoData("connection refused", "outage") for name in asked}
        medians = {}
        for name in ("s0", "s1", "s2"):
            there = [pod_ for pod_ in self.fleet.facts.pods.values() if pod_.node == name]
            for pod_ in there:
                loss = self.truth * (len(there) - 1)
                medians[pod_.name] = 0.03 * (1 + loss) * (1 + 0.05 * self.random.gauss(0, 1))
        marks = Vector(
            (Sample({"__name__": "vllm:num_requests_running", "namespace": "default", "pod": "p00"}, 1, 0),)
        )
        known = {"vllm latency": buckets(medians), "servers": marks}
        self.asked = set(asked)
        return {name: known.get(name, Vector(())) for name in asked}


@pytest.fixture
def shared_fleet():
    fleet = Fleet()
    for index, tenants in enumerate((1, 2, 4)):
        fleet.apply_node(sharing(f"s{index}", 1, 4))
        for number in range(tenants):
            fleet.apply_pod(pod(f"p{index}{number}", {SHARED: 1}, on=f"s{index}", annotations=MEMORY))
    return fleet


def test_what_was_measured_replaces_what_was_declared_in_the_bill(shared_fleet):
    setting = Setting(shared_fleet, declared(0.1))
    told = []
    loop = InterferenceLoop(
        shared_fleet,
        lambda: setting.policy,
        Servers(shared_fleet, 0.4),
        clock=lambda: 0.0,
        published=told.append,
    )
    newcomer = pod("new", {SHARED: 1}, annotations=MEMORY)

    def billed():
        setting.learned = loop.learned()
        (bill,) = [bill for bill in setting.decider.bills(newcomer) if bill.node == "s0"]
        return bill.terms["interference"] / (2 * 2.5 / 4)

    loop.step()
    assert billed() == pytest.approx(0.1)
    for _ in range(60):
        loop.step()
    assert billed() == pytest.approx(0.4, abs=0.04)
    assert told[-1][PAIR].samples >= 30
    before = loop.learned()
    loop.step()
    assert loop.learned() is before


def test_only_servers_that_run_are_asked_about(shared_fleet):
    servers = Servers(shared_fleet, 0.4)
    InterferenceLoop(shared_fleet, lambda: declared(0.1), servers, clock=lambda: 0.0).step()
    assert servers.asked == {"sm activity", "vllm load", "vllm latency"}


def test_an_outage_leaves_the_last_estimates_in_force(shared_fleet):
    servers = Servers(shared_fleet, 0.4)
    loop = InterferenceLoop(shared_fleet, lambda: declared(0.1), servers, clock=lambda: 0.0)
    for _ in range(40):
        loop.step()
    known = loop.learned()[PAIR]
    servers.out = True
    loop.step()
    assert loop.learned()[PAIR] == pytest.approx(known, abs=0.01)


@pytest.mark.parametrize("rules", [declared(0.1, enabled=False), policy(terms={"interference": 0.0})])
def test_a_policy_may_switch_learning_off(shared_fleet, rules):
    loop = InterferenceLoop(shared_fleet, lambda: rules, Servers(shared_fleet, 0.4), clock=lambda: 0.0)
    for _ in range(40):
        loop.step()
    assert dict(loop.learned()) == {}


def test_a_source_that_breaks_breaks_nothing(shared_fleet, caplog):
    loop = InterferenceLoop(shared_fleet, lambda: declared(0.1), None, clock=lambda: 0.0)
    loop.step()
    assert loop.learned() is NOTHING_LEARNED
    assert "interference: this round failed" in caplog.text
