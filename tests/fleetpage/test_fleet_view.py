from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.fleetpage.view import NodeFacts, PodView, build_view, gpu_spans
from deploy.demo.fleet import demo_fleet
from deploy.demo.publishing import hardware
from dra.catalog import models
from dra.inventory import DeviceRef
from dra.mig import Placement
from metrics.samples import NoData
from tests.fleetpage.picture import claim, demo_view

H100 = models()["H100-80GB"]


@given(mask=st.integers(0, 255), start=st.integers(0, 6))
def test_spans_cover_every_unit_exactly_once(mask: int, start: int) -> None:
    occupant = (DeviceRef(0, Placement("1g.10gb", start, 1)), ("ns/pod",))
    spans = gpu_spans(H100, mask, [occupant])
    covered = [unit for span in spans for unit in range(span.start, span.start + span.size)]
    assert covered == list(range(8))


@given(mask=st.integers(0, 255))
def test_free_and_stranded_units_are_those_that_are_not_occupied(mask: int) -> None:
    spans = gpu_spans(H100, mask, [])
    free = sum(span.size for span in spans if span.kind in ("free", "stranded"))
    assert free == 8 - mask.bit_count()


def test_the_last_unit_is_stranded_when_only_profiles_that_cannot_reach_it_are_left() -> None:
    # Units 0 to 6 taken: no profile but those of two units and more reaches unit 7, and none of them fits.
    kinds = {(span.start, span.kind) for span in gpu_spans(H100, 0b0111_1111, [])}
    assert (7, "stranded") in kinds


def test_occupied_units_that_no_claim_names_are_shown_as_used() -> None:
    (span, *_) = gpu_spans(H100, 0b1111, [])
    assert (span.kind, span.size, span.pods) == ("used", 4, ())


def test_a_second_claim_on_the_same_units_is_left_out_of_the_picture() -> None:
    half = DeviceRef(0, Placement("3g.40gb", 0, 4))
    spans = gpu_spans(H100, 0, [(half, ("ns/first",)), (DeviceRef(0, None), ("ns/second",))])
    assert [span.pods for span in spans if span.pods] == [("ns/first",)]


def test_devices_of_a_claim_are_drawn_on_their_gpu_with_their_pod() -> None:
    node = next(node for node in demo_fleet() if node.shape.prefix == "h100")
    inventory = hardware(node, "slicewise", {})
    held = claim("llm-0", inventory, "gpu-1-3g40gb-4")
    view = build_view([NodeFacts(inventory, (0, 0xF0))], [held], [], generation=7, currency="EUR")
    (drawn,) = view.nodes
    used = [
        (span.start, span.size, span.kind, span.profile, span.pods)
        for span in drawn.gpus[1].spans
        if span.pods
    ]
    assert used == [(4, 4, "mig", "3g.40gb", ("team-a/llm-0",))]
    assert drawn.gpus[0].spans[0].kind == "free"
    assert drawn.grams_per_kwh is None
    assert drawn.carbon_note == "no carbon data"
    assert (view.generation, view.currency, view.totals.used_units) == (7, "EUR", 4)


def test_missing_carbon_data_says_why_and_is_never_zero() -> None:
    inventory = hardware(demo_fleet()[0], "plain", {})
    facts = NodeFacts(inventory, (0, 0), grams_per_kwh=NoData("the provider did not answer"))
    (node,) = build_view([facts], [], [], generation=1, currency="USD").nodes
    assert (node.grams_per_kwh, node.carbon_note) == (None, "the provider did not answer")


def test_waiting_pods_are_counted_and_pods_are_ordered() -> None:
    pods = [PodView("b", "x", "n1", "1 whole GPU"), PodView("a", "y", "", "1 × 1g.10gb")]
    view = build_view([], [], pods, generation=1, currency="USD")
    assert view.totals.waiting_pods == 1
    assert [pod.namespace for pod in view.pods] == ["a", "b"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_totals_agree_with_the_spans_of_a_whole_fleet(seed: int) -> None:
    view = demo_view(seed)
    spans = [span for node in view.nodes for gpu in node.gpus for span in gpu.spans]
    assert view.totals.units == sum(span.size for span in spans)
    assert view.totals.gpus == sum(node.shape.gpus for node in demo_fleet())
    assert 0 < view.totals.used_units < view.totals.units
