"""``kubectl slicewise nodes``: GPUs, NVLink islands and slices of a node stand in its line."""

from __future__ import annotations

import pytest

from autoscaler.fleetpage.view import FleetView, NodeFacts, build_view
from kubectl_slicewise.fleet_table import HEADER, as_json, as_table
from tests.scheduler.fleet_objects import inventory


def view(slices: int, gpus: int = 4) -> FleetView:
    facts = NodeFacts(inventory("n", gpus=gpus), (0,) * gpus, slices=slices)
    return build_view([facts], [], [], generation=1, currency="USD")


@pytest.mark.parametrize(("slices", "shown"), [(5, "5"), (0, "-")])
def test_a_line_shows_how_many_slices_tell_of_the_node(slices, shown):
    header, line, *_ = as_table(view(slices)).splitlines()
    at = header.index("SLICES")
    assert line[at : at + len("SLICES")].strip() == shown


def test_a_line_shows_the_sizes_of_nvlink_islands():
    assert "NVSwitch 4" in as_table(view(1))
    assert "one GPU" in as_table(view(1, gpus=1))


def test_the_json_has_islands_and_slices_of_each_node():
    [node] = as_json(view(5))["nodes"]
    assert (node["islands"], node["slices"]) == ((4,), 5)
    assert len(HEADER) == 10
