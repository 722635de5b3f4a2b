"""Less is kept in reserve while the grid is dirty: only if the policy says so, and within its bound."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.carbon_trade import attainment, traded
from autoscaler.decide import decide
from autoscaler.grids import grid_under
from autoscaler.signals import Signals
from cluster.envelopes import object_decoder
from cluster.policy import ClusterPolicy, PolicyRefused, load_autoscaling_policy
from cluster.wire import Node
from metrics.carbon.intensity import Intensity
from metrics.samples import NoData
from scheduler.fleet import Fleet
from scheduler.node_classes import classifier_of

TRADE = "{aboveGramsPerKwh: 300, fullyAtGramsPerKwh: 500, leastAttainment: 0.95}"


def policy(carbon=TRADE):
    extra = f"carbon: {carbon}\n" if carbon else ""
    text = (
        "apiVersion: slicewise.io/v1alpha1\nkind: AutoscalingPolicy\ntarget: {name: llm}\nmaxReplicas: 50\n"
        f"inFlight: {{perReplica: 4}}\nslo: {{latencySeconds: 2, attainment: 0.99}}\n{extra}"
    )
    return load_autoscaling_policy(text, "test")


@pytest.mark.parametrize(
    ("grams", "kept"), [(100.0, 0.99), (299.0, 0.99), (400.0, 0.97), (500.0, 0.95), (900.0, 0.95)]
)
def test_the_objective_relaxes_in_proportion_and_within_its_bound(grams, kept):
    assert traded(policy(), grams).slo.attainment == pytest.approx(kept)


def test_without_a_full_mark_it_relaxes_at_once():
    at_once = policy("{aboveGramsPerKwh: 300, leastAttainment: 0.95}")
    assert traded(at_once, 301.0).slo.attainment == 0.95


def test_nothing_is_traded_without_a_policy_or_an_intensity():
    silent = policy(None)
    assert traded(silent, 900.0) is silent
    stated = policy()
    assert traded(stated, NoData("down", "outage")) is stated


@given(st.floats(0, 5000), st.floats(0, 5000))
def test_dirtier_never_means_more(one, other):
    trade = policy().carbon
    low, high = sorted((one, other))
    assert 0.95 - 1e-12 <= attainment(trade, 0.99, high) <= attainment(trade, 0.99, low) <= 0.99


def test_a_dirty_grid_keeps_no_more_replicas_than_a_clean_one():
    def ends(grams):
        state, replicas = None, 10
        counts = []
        for second in range(0, 6 * 3600, 30):
            in_flight = 24.0 + 8.0 * ((second // 600) % 3)
            signals = Signals(
                current=replicas,
                ready=replicas,
                in_flight=in_flight,
                waiting=0.0,
                request_rate=in_flight,
                slo_missed=0.012,
                grid_grams_per_kwh=grams,
                unix_seconds=float(second),
            )
            decision = decide(policy(), signals, state, float(second))
            replicas, state = decision.replicas, decision.state
            counts.append(replicas)
        return sum(counts)

    assert ends(700.0) < ends(50.0)


@pytest.mark.parametrize(
    ("carbon", "message"),
    [
        ("{aboveGramsPerKwh: 300, leastAttainment: 0.995}", "less than slo.attainment"),
        (
            "{aboveGramsPerKwh: 300, fullyAtGramsPerKwh: 200, leastAttainment: 0.9}",
            "more than aboveGramsPerKwh",
        ),
    ],
)
def test_trades_that_make_no_sense_are_refused(carbon, message):
    with pytest.raises(PolicyRefused, match=message):
        policy(carbon)


def test_a_trade_needs_an_objective():
    text = (
        "apiVersion: slicewise.io/v1alpha1\nkind: AutoscalingPolicy\ntarget: {name: llm}\nmaxReplicas: 5\n"
        "inFlight: {perReplica: 4}\ncarbon: {aboveGramsPerKwh: 300, leastAttainment: 0.9}\n"
    )
    with pytest.raises(PolicyRefused, match="state slo"):
        load_autoscaling_policy(text, "test")


def test_the_grid_under_the_pods_is_their_mean():
    fleet = Fleet()
    fleet.classify(classifier_of(ClusterPolicy()))
    for name, region in (("n1", "eu-central-1"), ("n2", "eu-west-2"), ("n3", "nowhere")):
        labels = {"topology.kubernetes.io/region": region, "nvidia.com/gpu.product": "NVIDIA-L4"}
        body = {
            "metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"nvidia.com/gpu": "1"}},
        }
        fleet.apply_node(object_decoder(Node).decode(json.dumps(body).encode()))
    zones = {
        zone: Intensity(zone, grams, "average", 0.0, 1e9, "test", False)
        for zone, grams in (("DE", 400.0), ("GB", 100.0))
    }
    assert grid_under(fleet, zones, ["n1", "n2", "n2"]) == pytest.approx(200.0)
    assert isinstance(grid_under(fleet, zones, ["n1", "n3"]), NoData)
    assert isinstance(grid_under(fleet, zones, ["gone"]), NoData)
