"""Which decisions of a round change because another variant of the model serves for less."""

from __future__ import annotations

from autoscaler import reasons
from autoscaler.decide import Decision
from autoscaler.reasons import Reason
from autoscaler.signals import Signals
from autoscaler.state import State
from autoscaler.targets import Target
from autoscaler.variant_groups import PRICE_HALF_LIFE_SECONDS, Known, Member, regrouped
from cluster.autoscaling_policy import AutoscalingPolicy
from metrics.samples import NoData

DEAR, CHEAP = (Target("apps/v1", "Deployment", "shop", name) for name in ("llm-a100", "llm-h100"))
UNKNOWN = NoData("no feasible node")


def member(target, price, *, current=0, wanted=None, rps=4.0, code=reasons.STEADY, **more):
    policy = {
        "target": {"name": target.name},
        "minReplicas": 0,
        "maxReplicas": 10,
        "inFlight": {"perReplica": 16.0},
        "variant": {"of": "llm", "requestsPerSecond": rps},
        **more.pop("policy", {}),
    }
    room = more.pop("room", NoData("not asked"))
    signals = Signals(**{"current": current, "ready": current, **more})
    count = current if wanted is None else wanted
    decision = Decision(count, (Reason(code, "own"),), State.begun(current, 0.0))
    return Member(target, AutoscalingPolicy.model_validate(policy), signals, decision, price, room)


def test_the_model_moves_to_the_variant_that_serves_for_less_and_says_why():
    changed, book = regrouped([member(DEAR, 3.0, current=4), member(CHEAP, 1.0)], {}, 0.0)
    assert {target: one.replicas for target, one in changed.items()} == {CHEAP: 4}
    why = changed[CHEAP].reasons[0]
    assert why.code == reasons.CHEAPER_VARIANT
    assert "llm-a100" in why.sentence
    # Once they are Ready the old ones may go.
    changed, _ = regrouped([member(DEAR, 3.0, current=4), member(CHEAP, 1.0, current=4, wanted=0)], book, 5.0)
    assert {target: one.replicas for target, one in changed.items()} == {DEAR: 0, CHEAP: 4}


def test_room_for_two_only_buys_two():
    changed, _ = regrouped([member(DEAR, 3.0, current=4), member(CHEAP, 1.0, room=2)], {}, 0.0)
    assert {target: one.replicas for target, one in changed.items()} == {CHEAP: 2}


def test_a_workload_without_a_variant_key_or_alone_in_its_group_is_left_alone():
    alone = member(DEAR, 3.0, current=4)
    other = member(CHEAP, 1.0, policy={"variant": None})
    assert regrouped([alone, other], {}, 0.0)[0] == {}
    elsewhere = member(CHEAP, 1.0, policy={"variant": {"of": "other"}})
    assert regrouped([alone, elsewhere], {}, 0.0)[0] == {}


def test_who_is_blind_advises_or_has_another_writer_keeps_the_own_decision():
    dear = member(DEAR, 3.0, current=4)
    for hands_off in (
        member(CHEAP, 1.0, current=1, code=reasons.METRICS_MISSING),
        member(CHEAP, 1.0, other_writer="an HPA", code=reasons.OTHER_WRITER),
        member(CHEAP, 1.0, policy={"actuator": "advise"}),
    ):
        assert regrouped([dear, hands_off], {}, 0.0)[0] == {}


def test_an_empty_variant_takes_part_though_it_has_no_signal():
    changed, _ = regrouped([member(DEAR, 3.0, current=4), member(CHEAP, 1.0, code=reasons.PAUSED)], {}, 0.0)
    assert changed[CHEAP].replicas == 4


def test_capacity_is_learned_by_littles_law_and_remembered_when_no_replica_is_left():
    learned = {"variant": {"of": "llm"}}
    runs = member(CHEAP, 1.0, current=2, service_seconds=4.0, policy=learned)
    _, book = regrouped([runs], {}, 0.0)
    assert book[CHEAP] == Known(4.0, 1.0, 0.0)
    gone = member(CHEAP, UNKNOWN, policy=learned)
    changed, book = regrouped([member(DEAR, 3.0, current=4), gone], book, 5.0)
    assert changed[CHEAP].replicas == 4
    assert book[CHEAP].price == 1.0


def test_never_seen_means_not_counted():
    stranger = member(CHEAP, 1.0, policy={"variant": {"of": "llm"}})
    assert regrouped([member(DEAR, 3.0, current=4), stranger], {}, 0.0)[0] == {}
    priceless = member(CHEAP, UNKNOWN)
    assert regrouped([member(DEAR, 3.0, current=4), priceless], {}, 0.0)[0] == {}


def test_one_odd_price_moves_nothing_and_a_lasting_one_does():
    book = {DEAR: Known(4.0, 1.0, 0.0), CHEAP: Known(4.0, 1.2, 0.0)}
    odd = [member(DEAR, 2.0, current=4), member(CHEAP, 1.2)]
    changed, book = regrouped(odd, book, 5.0)
    assert changed == {}
    for step in range(1, 8):
        changed, book = regrouped(odd, book, step * PRICE_HALF_LIFE_SECONDS)
    assert changed[CHEAP].replicas == 4
