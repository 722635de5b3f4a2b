"""The sections of docs/autoscaling.md on room, other writers and waking say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from autoscaler.collect import UNSCHEDULABLE_AFTER_SECONDS
from autoscaler.other_writer import MOST_CHANGES, WINDOW_SECONDS
from autoscaler.workload_page import LONGEST_SECONDS
from cluster.autoscaling_policy import AutoscalingPolicy
from kubectl_slicewise.workloads import _HEADER
from metrics import autoscaler_names
from metrics.outside import OUTSIDE_SOURCES

PAGE = (Path(__file__).parents[2] / "docs" / "autoscaling.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## What the cluster can hold\n")[1].split("\n## ")[0]


def test_times_told_in_words_are_those_of_the_code():
    assert UNSCHEDULABLE_AFTER_SECONDS == LONGEST_SECONDS == 60.0  # "a minute", "once a minute"
    assert (WINDOW_SECONDS, MOST_CHANGES) == (900.0, 2)
    assert "A second one within 15 minutes stops our writes" in SECTION


def test_metrics_and_columns_are_named_as_they_are():
    placeable, unplaceable = (
        autoscaler_names.AUTOSCALER_PLACEABLE_REPLICAS,
        autoscaler_names.AUTOSCALER_UNPLACEABLE_REPLICAS,
    )
    assert f"`{unplaceable.name}` beside `_placeable_replicas`" in SECTION
    assert placeable.name.endswith("_placeable_replicas")
    assert f"`{autoscaler_names.AUTOSCALER_FOREIGN_CHANGES_TOTAL.name}`" in SECTION
    header = next(line for line in SECTION.splitlines() if line.startswith("NAMESPACE"))
    assert tuple(header.split()) == _HEADER


def test_the_table_names_every_source():
    told = re.findall(r"^\| `([a-z-]+)` \|", SECTION, re.MULTILINE)
    assert sorted(told) == sorted(OUTSIDE_SOURCES)


def test_the_example_is_a_policy():
    found = re.search(r"```yaml outside\n(.*?)```", SECTION, re.DOTALL)
    assert found is not None
    example = yaml.safe_load(found[1])
    policy = AutoscalingPolicy.model_validate(
        {"target": {"name": "llm"}, "maxReplicas": 2, "inFlight": {}, **example}
    )
    assert policy.outside is not None
    assert (policy.min_replicas, policy.outside.name) == (0, "llm-pool")
