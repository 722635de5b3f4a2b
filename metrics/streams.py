"""How far consumer groups lag behind their topics: what Kafka's exporters tell, one query for all groups.

- ``kafka-exporter``: danielqsj/kafka_exporter, which Strimzi deploys; by partition.
- ``kminion``: Redpanda's; by topic. It tells no number of partitions beside the lag of each.

A query joins four quantities by ``or``, each tagged by ``PART``: ``lag`` (messages),
``consumed`` and ``produced`` (messages a second over a minute) and ``partitions``. Lag and offsets are
gauges there; ``rate`` is taken all the same, as both exporters' own dashboards do, since offsets only rise.
Pure: names and query text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from metrics.parts import PART, tagged
from metrics.samples import Labels, NoData, Vector
from metrics.servers import EVERYTHING, Scope

RATE_WINDOW: Final = "1m"
Part = Literal["lag", "consumed", "produced", "partitions"]


@dataclass(frozen=True, slots=True)
class StreamLag:
    """One look at a consumer group: ``messages`` it lags, messages a second it ``consumed`` and that were
    ``produced`` (NoData where nobody tells), ``partitions`` (0: not known).
    """

    messages: float
    consumed: float | NoData
    produced: float | NoData
    partitions: int = 0

    @property
    def arrivals(self) -> float | NoData:
        """What comes: what is produced, else what is consumed, no less while the lag does not grow."""
        return self.consumed if isinstance(self.produced, NoData) else self.produced


@dataclass(frozen=True, slots=True)
class StreamSource:
    """An exporter by its name in a policy; ``group`` and ``topic`` are its labels, the rest its metrics."""

    name: str
    group: str
    topic: str
    lag: str
    committed: str
    end: str
    partition_lag: str

    def query(self, scope: Scope = EVERYTHING) -> str:
        """Everything about all groups."""
        both, topic = f"{self.group}, {self.topic}", self.topic
        parts: tuple[tuple[Part, str], ...] = (
            ("lag", f"sum by ({both}) (clamp_min({scope.select(self.lag)}, 0))"),
            ("consumed", f"sum by ({both}) (rate({scope.select(self.committed)}[{RATE_WINDOW}]))"),
            ("produced", f"sum by ({topic}) (rate({scope.select(self.end)}[{RATE_WINDOW}]))"),
            ("partitions", f"count by ({both}) ({scope.select(self.partition_lag)})"),
        )
        return " or ".join(tagged(text, part) for part, text in parts)

    def read(self, answer: Vector, group: str, topic: str | None) -> StreamLag | NoData:
        """One group, over ``topic`` or over all topics that it reads. NoData where nobody tells its lag."""
        # One that is no number makes the sum unknown, never smaller: NaN goes into the sum as it is.
        rows: list[tuple[Labels, float]] = [(one.labels, one.value) for one in answer.samples]
        rows += [(labels, math.nan) for labels in answer.nan_labels]
        mine = [row for row in rows if row[0].get(self.group) == group]
        if topic is not None:
            mine = [row for row in mine if row[0].get(self.topic) == topic]
        topics = {labels.get(self.topic) for labels, _ in mine}
        found: dict[Part, float] = {}
        for part in ("lag", "consumed", "partitions"):
            values = [value for labels, value in mine if labels.get(PART) == part]
            if values and math.isfinite(total := sum(values)):
                found[part] = total
        produced = [
            value
            for labels, value in rows
            if labels.get(PART) == "produced" and labels.get(self.topic) in topics
        ]
        if "lag" not in found:
            read = group if topic is None else f"{group} on topic {topic}"
            return NoData(f"{self.name} tells no lag of consumer group {read}", "empty")
        missing = NoData(f"{self.name} tells no such rate of consumer group {group}", "empty")
        return StreamLag(
            found["lag"],
            found.get("consumed", missing),
            sum(produced) if produced and math.isfinite(sum(produced)) else missing,
            int(found.get("partitions", 0.0)),
        )


STREAM_SOURCES: Final[dict[str, StreamSource]] = {
    source.name: source
    for source in (
        StreamSource(
            name="kafka-exporter",
            group="consumergroup",
            topic="topic",
            lag="kafka_consumergroup_lag",
            committed="kafka_consumergroup_current_offset",
            end="kafka_topic_partition_current_offset",
            partition_lag="kafka_consumergroup_lag",
        ),
        StreamSource(
            name="kminion",
            group="group_id",
            topic="topic_name",
            lag="kminion_kafka_consumer_group_topic_lag",
            committed="kminion_kafka_consumer_group_topic_offset_sum",
            end="kminion_kafka_topic_high_water_mark_sum",
            partition_lag="kminion_kafka_consumer_group_topic_partition_lag",
        ),
    )
}
