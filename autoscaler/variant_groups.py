"""Variants of one model among the workloads of a round: which decisions change so that they cost least.

A policy that says ``variant.of: NAME`` makes its workload one of the variants of the model NAME in that
namespace. Each is decided by itself first; then the load that they provide for together is bought where it is
cheapest (``variants``). A variant whose requests a second or whose price is not known yet keeps its own
decision and stays outside the sum, as does one that is blind, paused, or left to another writer.

What one replica serves in time is the policy's ``requestsPerSecond``, else by Little's law the requests in
flight that it carries over the seconds that a request spends there; prices are smoothed over
``PRICE_HALF_LIFE_SECONDS``, since they move with every pod that comes. Both are remembered for variants that
run no replica now. Pure: the memory is passed in and handed back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from autoscaler import reasons
from autoscaler.decide import Decision, cold_start_seconds
from autoscaler.reasons import Reason, ReasonClass
from autoscaler.signals import NOT_ASKED, Signals
from autoscaler.sizing import DEFAULT_PER_REPLICA
from autoscaler.targets import Target
from autoscaler.variants import Variant, cheapest, handed_over, need_rps
from cluster.autoscaling_policy import AutoscalingPolicy
from metrics.samples import NoData

PRICE_HALF_LIFE_SECONDS: Final = 900.0
_LEFT_ALONE: Final = frozenset({ReasonClass.BLIND, ReasonClass.PAUSED})


@dataclass(frozen=True, slots=True)
class Member:
    """A workload with its own decision. ``price``: money an hour for one more replica of it now; ``room``:
    how many more fit.
    """

    target: Target
    policy: AutoscalingPolicy
    signals: Signals
    decision: Decision
    price: float | NoData
    room: int | NoData = NOT_ASKED


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a variant; None: never known."""

    capacity: float | None = None
    price: float | None = None
    at_seconds: float = 0.0


Book: TypeAlias = Mapping[Target, Known]


def regrouped(members: Sequence[Member], book: Book, now: float) -> tuple[dict[Target, Decision], Book]:
    """The decisions that change, and the memory for next time; ``now`` in seconds of any steady clock."""
    known = {one.target: _seen(one, book.get(one.target, Known()), now) for one in members}
    groups: dict[tuple[str, str], list[Member]] = {}
    for one in members:
        if one.policy.variant is not None and _takes_part(one, known[one.target]):
            groups.setdefault((one.target.namespace, one.policy.variant.of), []).append(one)
    changed: dict[Target, Decision] = {}
    for (_, model), group in groups.items():
        if len(group) > 1:
            changed |= _bought(model, group, known)
    return changed, known


def _takes_part(one: Member, known: Known) -> bool:
    writes = one.policy.actuator == "write"
    decided = one.decision.reasons[0].reason_class not in _LEFT_ALONE or _merely_empty(one)
    return writes and decided and known.capacity is not None and known.price is not None


def _merely_empty(one: Member) -> bool:
    """A variant without replicas has no signal of its own to be blind about."""
    return one.signals.current == 0 and one.policy.min_replicas == 0 and one.signals.other_writer is None


def _bought(model: str, group: Sequence[Member], known: Mapping[Target, Known]) -> dict[Target, Decision]:
    variants = [_variant(one, known[one.target]) for one in group]
    need = need_rps(variants)
    counts = handed_over(variants, cheapest(variants, need), need)
    changed: dict[Target, Decision] = {}
    for one, variant in zip(group, variants, strict=True):
        count = counts[variant.name]
        if count == one.decision.replicas:
            continue
        sentence = (
            f"{need:.4g} requests a second of {model} cost least with {count} replicas here "
            f"({variant.price_of_a_million:.4g} for a million in time) and "
            + ", ".join(
                f"{counts[other.name]} of {other.name} ({other.price_of_a_million:.4g})"
                for other in variants
                if other is not variant
            )
            + f"; by its own load it would be {one.decision.replicas}"
        )
        why = (Reason(reasons.CHEAPER_VARIANT, sentence), *one.decision.reasons)
        changed[one.target] = replace(one.decision, replicas=count, reasons=why)
    return changed


def _variant(one: Member, known: Known) -> Variant:
    signals, policy = one.signals, one.policy
    most = policy.max_replicas
    if signals.unschedulable:
        most = min(most, signals.ready + signals.starting)
    elif not isinstance(one.room, NoData):
        most = min(most, signals.current + one.room)
    assert known.capacity is not None
    assert known.price is not None
    return Variant(
        name=one.target.name,
        capacity=known.capacity,
        price=known.price,
        current=signals.current,
        ready=signals.ready,
        wanted=one.decision.replicas,
        least=min(policy.min_replicas, most),
        most=most,
        cold_start_seconds=cold_start_seconds(policy, signals),
    )


def _seen(one: Member, before: Known, now: float) -> Known:
    capacity = _capacity(one)
    price = before.price
    if not isinstance(one.price, NoData) and one.price > 0.0:
        if price is None:
            price = one.price
        else:
            weight = 0.5 ** (max(0.0, now - before.at_seconds) / PRICE_HALF_LIFE_SECONDS)
            price = weight * price + (1.0 - weight) * one.price
    return Known(before.capacity if capacity is None else capacity, price, now)


def _capacity(one: Member) -> float | None:
    """Requests a second in time by one replica, None where it cannot be told now."""
    policy, learned = one.policy, one.decision.state.learned
    if policy.variant is not None and policy.variant.requests_per_second is not None:
        return policy.variant.requests_per_second
    seconds = one.signals.service_seconds
    if isinstance(seconds, NoData) or seconds <= 0.0:
        return None
    if policy.in_flight is not None:
        return policy.in_flight.per_replica / seconds
    if learned is not None and learned.per_replica is not None:
        return learned.per_replica / seconds
    return DEFAULT_PER_REPLICA / seconds
