"""What the extender answers to each verb: request bytes in, answer bytes out, each decision counted.

The extender never stands in a pod's way. What it does not understand passes through: pods without GPUs, nodes
it does not know, a fleet that is not synced yet. An error of our own is logged and counted, and answered with
every node (filter), with no opinion (prioritize) or with the victims as they came (preempt): kube-scheduler
would fail the pod on any other answer.

Only a request that cannot be read is refused (``codec.BadRequest``): no kube-scheduler sends one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cluster.wire import Pod
from metrics.groups import ExtenderMetrics
from scheduler.demand import Demand, pod_shape
from scheduler.extender.codec import (
    NO_PRIORITIES,
    Entries,
    MetaVictims,
    NameLists,
    Preemption,
    Question,
    binding_result,
    filter_result,
    preemption_result,
    priorities,
    read_binding,
    read_preemption,
    read_question,
)

log = logging.getLogger(__name__)


class Outcome(Protocol):
    """What a filter decided: positions that passed, and a reason for each other node."""

    @property
    def passed(self) -> Sequence[int]: ...
    @property
    def failed(self) -> Mapping[str, str]: ...
    @property
    def unresolvable(self) -> Mapping[str, str]: ...
    @property
    def untouched(self) -> bool: ...
    @property
    def decided(self) -> bool: ...


class Decisions(Protocol):
    """The part of ``scheduler.decider.Decider`` that answers kube-scheduler. The numbers only ever grow."""

    @property
    def unknown_nodes(self) -> int: ...
    @property
    def not_understood(self) -> int: ...

    def filter(self, pod: Pod, names: Sequence[str], *, choose: bool = ...) -> Outcome: ...
    def prioritize(self, pod: Pod, names: Sequence[str]) -> npt.NDArray[np.uint8] | None: ...
    def demand(self, pod: Pod) -> Demand | None: ...
    def refresh(self, shapes: Iterable[Demand] | None = None) -> None: ...


class Binder(Protocol):
    """Binds a pod to a node through the API server; returns an empty text or why it failed."""

    def bind(self, namespace: str, name: str, uid: str, node: str) -> str: ...


class Preemptor(Protocol):
    """Chooses the victims of a preemption on the nodes proposed, and drops those where none helps."""

    def choose(self, pod: Pod, proposed: Mapping[str, MetaVictims]) -> Mapping[str, MetaVictims]: ...


class Verbs:
    """The four verbs over one decider. ``synced`` says whether the fleet may be judged yet."""

    def __init__(
        self,
        decider: Decisions,
        metrics: ExtenderMetrics,
        synced: Callable[[], bool],
        binder: Binder | None = None,
        preemptor: Preemptor | None = None,
    ) -> None:
        self._decider = decider
        self._metrics = metrics
        self._synced = synced
        self._entries = Entries()
        self._lists = NameLists()
        self._ranked: Pod | None = None
        self.binder = binder
        self._preemptor = preemptor

    def filter(self, body: bytes) -> bytes:
        """Answer a filter request. Raises BadRequest."""
        question = read_question(body, self._lists)
        if not self._synced():
            return self._pass(question, "not_ready")
        seen = self._decider.unknown_nodes, self._decider.not_understood
        try:
            outcome = self._decider.filter(question.pod, question.names)
        except Exception:  # noqa: BLE001 - whatever it is, the pod must stay schedulable
            self._failed("filter", question.pod)
            return self._pass(question, "error")
        reason = self._judged(question.pod, *seen, opinion=not outcome.untouched)
        self._ranked = question.pod if outcome.decided else None
        if outcome.untouched:
            return self._pass(question, reason)
        self._metrics.refused_nodes.labels("resolvable").inc(len(outcome.failed))
        self._metrics.refused_nodes.labels("unresolvable").inc(len(outcome.unresolvable))
        self._count("filter", reason if outcome.passed or not question.names else "no_node_left")
        return filter_result(question, outcome.passed, outcome.failed, outcome.unresolvable)

    def prioritize(self, body: bytes) -> bytes:
        """Answer a prioritize request. Raises BadRequest."""
        question = read_question(body, self._lists)
        if not self._synced():
            self._count("prioritize", "not_ready")
            return NO_PRIORITIES
        seen = self._decider.unknown_nodes, self._decider.not_understood
        try:
            scores = self._decider.prioritize(question.pod, question.names)
        except Exception:  # noqa: BLE001 - no opinion is better than no answer
            self._failed("prioritize", question.pod)
            self._count("prioritize", "error")
            return NO_PRIORITIES
        self._count("prioritize", self._judged(question.pod, *seen, opinion=scores is not None))
        self._ranked = None if scores is None else question.pod
        return NO_PRIORITIES if scores is None else priorities(question.names, scores, self._entries)

    def settle(self) -> None:
        """Price anew what the last decision changed, once its answer is sent: pods come in rows of equals,
        and the next one's filter then finds its prices ready.
        """
        pod, self._ranked = self._ranked, None
        if pod is None:
            return
        try:
            demand = self._decider.demand(pod)
            if demand is not None:
                self._decider.refresh([demand])
        except Exception:  # noqa: BLE001 - the next request prices for itself
            self._failed("settle", pod)

    def preempt(self, body: bytes) -> bytes:
        """Keep the nodes on which evicting pods can help, with the victims of least loss. Raises
        BadRequest.
        """
        request = read_preemption(body)
        return preemption_result(self._worth_preempting(request))

    def bind(self, body: bytes) -> bytes:
        """Bind through the API server; blocks on it. Raises BadRequest. Call only with a binder."""
        args = read_binding(body)
        assert self.binder is not None
        return binding_result(self.binder.bind(args.pod_namespace, args.pod_name, args.pod_uid, args.node))

    def _worth_preempting(self, request: Preemption) -> Mapping[str, MetaVictims]:
        names = list(request.victims)
        if not self._synced():
            return request.victims
        try:
            outcome = self._decider.filter(request.pod, names, choose=False)
        except Exception:  # noqa: BLE001 - kube-scheduler's own choice stands
            self._failed("preempt", request.pod)
            return request.victims
        victims = {node: found for node, found in request.victims.items() if node not in outcome.unresolvable}
        if self._preemptor is None:
            return victims
        try:
            return self._preemptor.choose(request.pod, victims)
        except Exception:  # noqa: BLE001 - kube-scheduler's own choice stands
            self._failed("preempt", request.pod)
            return victims

    def _judged(self, pod: Pod, unknown_before: int, not_understood_before: int, *, opinion: bool) -> str:
        """The reason to count a decision under, from what it added to the decider's numbers. With an
        ``opinion`` there is no need to read the pod again.
        """
        unknown = self._decider.unknown_nodes - unknown_before
        if unknown > 0:
            self._metrics.unknown_nodes.inc(unknown)
        if self._decider.not_understood != not_understood_before:
            return "not_understood"
        return "decided" if opinion or pod_shape(pod) is not None else "not_a_gpu_pod"

    def _pass(self, question: Question, reason: str) -> bytes:
        self._count("filter", reason)
        return filter_result(question, None, {}, {})

    def _count(self, verb: str, reason: str) -> None:
        self._metrics.decisions.labels(verb, reason).inc()

    @staticmethod
    def _failed(verb: str, pod: Pod) -> None:
        log.exception("%s: pod %s/%s passes unjudged", verb, pod.metadata.namespace, pod.metadata.name)
