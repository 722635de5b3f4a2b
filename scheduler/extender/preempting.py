"""The preempt verb over the live state: kube-scheduler's proposal in, victims of least loss out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from cluster.disruption import Budgets
from cluster.policy import ClusterPolicy
from cluster.wire import Pod
from scheduler.decider import Decider
from scheduler.extender.codec import MetaVictim, MetaVictims
from scheduler.planner.admission import constraints_of
from scheduler.preemption import Drop, Keep, Lower, choose
from scheduler.repack.census import Census
from scheduler.repack.read import SceneReader
from scheduler.repack.resources import NOTHING, pod_resources
from scheduler.repack.rules import seconds_of
from scheduler.scoring.nvlink import link_need

_LOWEST_PRIORITY = -(2**31)


class Preemptor:
    """Chooses victims on every node proposed. Safe to call from several threads."""

    def __init__(
        self,
        decider: Decider,
        census: Census,
        budgets: Budgets,
        policy: Callable[[], ClusterPolicy],
    ) -> None:
        self._decider, self._census, self._budgets, self._policy = decider, census, budgets, policy
        self._reader = SceneReader(decider, census, budgets)

    def choose(self, pod: Pod, proposed: Mapping[str, MetaVictims]) -> dict[str, MetaVictims]:
        """The proposal with better victims, without the nodes on which no eviction helps."""
        demand = self._decider.demand(pod)
        if demand is None or not demand.understood:
            return dict(proposed)
        linked = link_need(demand, self._policy()) == "required"
        may_deviate = not constraints_of(pod).depends_on_pods
        allowed, free, wanted = self._budgets.allowed(), self._census.free(), pod_resources(pod)
        lower = self._lower(pod.spec.priority, set(proposed))
        answer: dict[str, MetaVictims] = {}
        for node, victims in proposed.items():
            holding = self._reader.holding(node)
            if holding is None:
                answer[node] = victims
                continue
            asked = [victim.uid for victim in victims.pods or ()]
            chosen = choose(
                holding,
                demand,
                wanted,
                free.get(node, NOTHING),
                lower.get(node, {}),
                asked,
                allowed,
                linked=linked,
                may_deviate=may_deviate,
                others=self._others(asked),
            )
            if isinstance(chosen, Keep):
                answer[node] = victims
            elif not isinstance(chosen, Drop):
                answer[node] = MetaVictims([MetaVictim(uid) for uid in chosen.uids], chosen.violations)
        return answer

    def _others(self, uids: Iterable[str]) -> tuple[Lower, ...]:
        taken = ((uid, self._census.plain(uid)) for uid in uids)
        return tuple(
            Lower(uid, _LOWEST_PRIORITY, (), 0.0, resources, 0.0)
            for uid, resources in taken
            if resources is not None
        )

    def _lower(self, priority: int, nodes: set[str]) -> dict[str, dict[str, Lower]]:
        found: dict[str, dict[str, Lower]] = {}
        gpus: dict[str, dict[str, dict[str, float]]] = {}
        for one in self._census.residents():
            if one.node not in nodes or one.priority >= priority or one.terminating:
                continue
            if one.node not in gpus:
                holding = self._reader.holding(one.node)
                gpus[one.node] = {} if holding is None else holding.equivalents()
            found.setdefault(one.node, {})[one.uid] = Lower(
                uid=one.uid,
                priority=one.priority,
                budgets=self._budgets.of(one.namespace, one.labels),
                gpus=sum(gpus[one.node].get(one.uid, {}).values()),
                resources=one.resources,
                started_seconds=seconds_of(one.started or one.created),
            )
        return found
