"""What the controller knows about a workload at this moment, or why it does not: the answer behind each door.

A decision is handed out only while this replica leads, the decision belongs to a policy in force and it is
fresh: younger than three periods of its policy, and at least LEAST_FRESH_SECONDS. Anything else is a
``NotKnown``, which doors answer as an error, because HPA and KEDA keep the replicas on an error and would act
on a stale number. With ``dry_run`` nothing is handed out: somebody would act on it.

A decision made while signals are missing is a decision (it holds what runs). The number in flight has no such
stand-in: when it is missing, it is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from autoscaler.controller import Policies, PolicyKey
from autoscaler.targets import Target
from autoscaler.view import View
from metrics.samples import NoData

LEAST_FRESH_SECONDS: Final = 15.0
_FRESH_PERIODS: Final = 3.0

Cause = Literal["not_found", "not_leading", "dry_run", "undecided", "stale"]
Result = Literal["served", "not_known", "refused", "mistaken"]
Observer = Callable[[Result], None]  # told what became of each question


class NotKnown(Exception):
    """There is no decision to hand out; the message is for people."""

    def __init__(self, cause: Cause, message: str) -> None:
        self.cause: Cause = cause
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Advised:
    """The decision about the workload of one policy, ``age_seconds`` old; ``current`` were set by then."""

    policy: PolicyKey
    target: Target
    replicas: int
    current: int
    in_flight: float | NoData
    age_seconds: float

    @property
    def labels(self) -> dict[str, str]:
        """By which a metric of this workload is selected."""
        return labels_of(self.policy, self.target)


class Decisions(Protocol):
    """What is needed of the ``Controller``."""

    last_round_seconds: float | None

    @property
    def views(self) -> tuple[View, ...]: ...


class Advice:
    """Hands out decisions. Safe to use from any thread."""

    def __init__(
        self,
        policies: Callable[[], Policies],
        decisions: Decisions,
        *,
        is_leader: Callable[[], bool],
        leader: Callable[[], str],
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``leader`` names who leads, for messages. ``clock`` is that of the controller."""
        self._policies = policies
        self._decisions = decisions
        self._is_leader = is_leader
        self._leader = leader
        self._dry_run = dry_run
        self._clock = clock
        self._indexed: tuple[float | None, Mapping[Target, View]] = (None, {})
        self._named: tuple[Policies | None, Mapping[str, Mapping[PolicyKey, Target]]] = (None, {})

    def known(self, namespace: str) -> Mapping[PolicyKey, Target]:
        """The workloads of a namespace that a policy names; sorted anew when the policies are others."""
        policies, named = self._policies(), self._named
        if named[0] is not policies:
            found: dict[str, dict[PolicyKey, Target]] = {}
            for key, policy in policies.items():
                found.setdefault(key[0], {})[key] = Target.of(policy, key[0])
            self._named = named = (policies, found)
        return named[1].get(namespace, {})

    def willing(self) -> None:
        """Raise NotKnown when this replica has nothing to hand out, whatever is asked for."""
        if self._dry_run:
            raise NotKnown(
                "dry_run", "this controller runs with --dry-run, so nobody may act on its decisions"
            )
        if not self._is_leader():
            leader = self._leader()
            who = f"{leader} leads" if leader else "nobody leads yet"
            raise NotKnown(
                "not_leading", f"this replica of the controller does not lead ({who}); ask the leader"
            )

    def of(self, key: PolicyKey) -> Advised:
        """The decision about the target of a policy. Raises NotKnown."""
        self.willing()
        policy = self._policies().get(key)
        if policy is None:
            raise NotKnown("not_found", f"no autoscaling policy {key[0]}/{key[1]} is in force")
        target = Target.of(policy, key[0])
        view = self._view(target)
        if view is None:
            raise NotKnown("undecided", f"{target}: nothing is decided yet; the Events of {key[1]} tell why")
        age = max(0.0, self._clock() - view.decided_at_seconds)
        fresh = max(LEAST_FRESH_SECONDS, _FRESH_PERIODS * policy.period_seconds)
        if age > fresh:
            raise NotKnown(
                "stale",
                f"{target}: the last decision is {age:.0f} s old, expected at most {fresh:.0f} s; "
                f"the Events of {key[1]} and the controller's log tell why",
            )
        replicas, signals = view.decision.replicas, view.signals
        return Advised(key, target, replicas, signals.current, signals.in_flight, age)

    def _view(self, target: Target) -> View | None:
        """Views are indexed once a round, however many ask."""
        ended = self._decisions.last_round_seconds
        if ended is None or self._indexed[0] != ended:
            self._indexed = (ended, {view.target: view for view in self._decisions.views})
        return self._indexed[1].get(target)


def labels_of(key: PolicyKey, target: Target) -> dict[str, str]:
    """Labels of the metrics of one workload."""
    return {"kind": target.kind, "name": target.name, "policy": key[1]}
