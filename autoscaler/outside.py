"""Requests that wait outside a workload's pods, from the source that its policy names (``outside``).

They are counted with those inside, and they alone can wake a workload from zero replicas (rule 12: a pod that
does not exist reports nothing). A preset (``metrics.outside``) is one query for all workloads that name it; a
query of one's own is asked as it is, once for all policies that spell it alike.

A source that has never shown a series is not known to be scraped, so it is ``NoData`` and no workload is
lowered to zero on it. Once it has, no series means that nothing waits for as long as the source is seen to be
scraped (``OutsideSource.presence``), and an outage otherwise. Sources that count requests which pods already
answer say nothing while a pod is ready: those requests are counted in the pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from autoscaler.signals import NOT_ASKED
from cluster.autoscaling_policy import Outside
from metrics.outside import OUTSIDE_SOURCES
from metrics.samples import NoData, Vector
from metrics.servers import Scope

_PREFIX: Final = "outside "


def outside_queries(wanted: Iterable[Outside | None], scope: Scope) -> dict[str, str]:
    """One query a source and one a query of one's own, by name; to be asked every round."""
    found: dict[str, str] = {}
    for outside in wanted:
        if outside is None:
            continue
        if outside.source is not None:
            found[_name(outside)] = OUTSIDE_SOURCES[outside.source].query(scope)
        elif outside.query is not None:
            found[_name(outside)] = outside.query
    return found


class OutsideQueues:
    """Reads answers; remembers which sources have shown a series."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._shown: set[str] = set()

    def waiting(
        self,
        outside: Outside | None,
        namespace: str,
        name: str,
        answers: Mapping[str, Vector | NoData],
        *,
        ready: int,
    ) -> float | NoData:
        """How many requests wait outside for the workload ``namespace``/``name``, which has ``ready`` ready
        pods, by the answers to ``outside_queries``.
        """
        answer = NOT_ASKED if outside is None else answers.get(_name(outside), NOT_ASKED)
        if outside is None or (isinstance(answer, NoData) and answer.cause != "empty"):
            return answer if isinstance(answer, NoData) else NOT_ASKED
        samples = answer.samples if isinstance(answer, Vector) else ()
        if outside.source is None:
            if samples:
                return max(0.0, sum(sample.value for sample in samples))
            return NoData(
                "outside.query has no answer; let it end in 'or vector(0)' where none means 0", "empty"
            )
        source = OUTSIDE_SOURCES[outside.source]
        samples, scraped = source.told(samples)
        if samples:
            self._shown.add(outside.source)
        elif outside.source not in self._shown:
            return NoData(f"Prometheus has shown no series of {outside.source} yet", "empty")
        elif not scraped:
            signs = " or ".join(f"{metric}{{{matchers}}}" for metric, matchers in source.presence)
            expected = f", and no {signs}, which is there while it is scraped" if signs else ""
            return NoData(f"Prometheus shows no series of {outside.source} any more{expected}", "empty")
        if source.only_without_pods and ready > 0:
            return 0.0
        return max(0.0, source.waiting(samples, namespace, outside.name or name, self._scope))


def _name(outside: Outside) -> str:
    return f"{_PREFIX}{outside.source or outside.query}"
