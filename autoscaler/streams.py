"""How far the consumer groups lag that policies name (``lag``): one query an exporter for all workloads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from autoscaler.signals import NOT_ASKED
from cluster.lag_policy import Lag
from metrics.samples import NoData, Vector
from metrics.servers import Scope
from metrics.streams import STREAM_SOURCES, StreamLag

_PREFIX: Final = "stream "


def stream_queries(wanted: Iterable[Lag | None], scope: Scope) -> dict[str, str]:
    """The queries by name; to be asked every round."""
    return {
        f"{_PREFIX}{name}": STREAM_SOURCES[name].query(scope)
        for name in sorted({lag.source for lag in wanted if lag is not None})
    }


def stream_of(lag: Lag | None, answers: Mapping[str, Vector | NoData]) -> StreamLag | NoData:
    """The group that ``lag`` names, by the answers to ``stream_queries``."""
    if lag is None:
        return NOT_ASKED
    answer = answers.get(f"{_PREFIX}{lag.source}", NOT_ASKED)
    if isinstance(answer, NoData):
        return answer
    return STREAM_SOURCES[lag.source].read(answer, lag.group, lag.topic)
