"""Every metric of the product, in one catalogue.

Dashboards, rules and documentation may use these names and no others; a test holds them to the Prometheus
conventions: prefix ``slicewise_``, base units in the name, ratios from 0 to 1, ``_total`` on counters, and no
label with one value a pod. ``initial`` lists the label sets that start at 0, so that ``rate()`` sees the
first increment. Gauges that say how old or when something is start as NaN instead: "never" is not "0 seconds
ago".

A module a side holds the names themselves: ``scheduler_names``, ``autoscaler_names``, ``node_names``,
``process_names``. Pure data; the objects that count are in ``groups.py`` and ``autoscaler_group.py``.
"""

from __future__ import annotations

from typing import Final

from metrics import autoscaler_names, node_names, process_names, scheduler_names
from metrics.metric import Metric

PREFIX: Final = "slicewise_"

ALL: Final[tuple[Metric, ...]] = tuple(
    value
    for side in (scheduler_names, autoscaler_names, node_names, process_names)
    for value in vars(side).values()
    if isinstance(value, Metric)
)
"""All metrics of the product, side by side, each in the order of its module."""
BY_NAME: Final = {metric.name: metric for metric in ALL}
