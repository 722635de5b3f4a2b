"""The section on signals of docs/autoscaling.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from autoscaler.scrape import PODS_A_SECOND, PROBED_PODS, TIMEOUT_SECONDS, WORKERS
from autoscaler.scrape_sample import MOST_PODS
from autoscaler.slow_answers import MOST_AT_ONCE
from cluster.autoscaling_policy import SignalSources
from metrics.servers import PRESETS
from metrics.servers.page import readable

PAGE = (Path(__file__).parents[2] / "docs" / "autoscaling.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Signals\n")[1].split("\n## ")[0]


def test_the_defaults_are_those_of_the_policy():
    found = re.search(r"```yaml signals\n(.*?)```", SECTION, re.DOTALL)
    assert found is not None
    assert SignalSources.model_validate(yaml.safe_load(found[1])["signals"]) == SignalSources()


def test_the_limits_are_those_of_the_scrape():
    assert f"every {SignalSources().every_seconds:g} s" in SECTION
    assert f"Above {MOST_PODS} pods" in SECTION
    assert f"At most {PODS_A_SECOND:g} pods a second are asked, {WORKERS} at once, a second each" in SECTION
    assert (PROBED_PODS, TIMEOUT_SECONDS, MOST_AT_ONCE) == (2, 1.0, 8)  # told in words


def test_the_table_names_every_server_and_what_it_tells():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in SECTION.splitlines()
        if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == list(PRESETS)
    for row, preset in zip(rows, PRESETS.values(), strict=True):
        gauges = preset.in_flight_where_told or tuple(names[0] for names in preset.in_flight)
        assert re.findall(r"`([^`]+)`", row[1]) == list(gauges), preset.name
        told = ["yes" if one else "no" for one in (readable(preset), preset.tells_waiting_of_in_flight)]
        assert row[2:4] == told, preset.name
        assert {m for m in ("e2e", "ttft", "itl") if m in row[4]} == {*preset.latency, *preset.summaries}
        assert row[5] == ("yes" if preset.tokens_out else "no"), preset.name
