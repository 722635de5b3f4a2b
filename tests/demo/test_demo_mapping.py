from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.mapping import CARD_SHARE, POOLS, SMALL_CARD_LIMIT, UNITS_BY_PROFILE, TraceRow, request_of
from dra.catalog import models


def row(*, gpus: int = 1, milli: int = 1000, best_effort: bool = False) -> TraceRow:
    return TraceRow("p", 1000, 1024, gpus, milli, best_effort, 0.0, 10.0)


@pytest.mark.parametrize(("gpus", "milli"), [(1, 1000), (2, 1000), (4, 1000), (8, 1000)])
def test_whole_gpu_pods_ask_for_as_many_gpus(gpus: int, milli: int) -> None:
    request = request_of(row(gpus=gpus, milli=milli), 0)
    assert (request.resource, request.count, request.profile, request.pool) == (
        "nvidia.com/gpu",
        gpus,
        None,
        "whole",
    )


@pytest.mark.parametrize(
    ("milli", "profile"),
    [
        (110, "1g.10gb"),
        (250, "1g.10gb"),
        (251, "2g.20gb"),
        (470, "2g.20gb"),
        (500, "2g.20gb"),
        (501, "3g.40gb"),
        (810, "3g.40gb"),
        (860, "4g.40gb"),
    ],
)
def test_a_share_becomes_the_smallest_profile_with_enough_compute_and_memory(
    milli: int, profile: str
) -> None:
    assert request_of(row(milli=milli), 0).resource == f"nvidia.com/mig-{profile}"


@given(milli=st.integers(1, 999), number=st.integers(0, 10), best_effort=st.booleans())
def test_a_profile_never_gives_less_than_the_share(milli: int, number: int, best_effort: bool) -> None:
    request = request_of(row(milli=milli, best_effort=best_effort), number)
    model = models()["A30-24GB" if request.pool == "mig-24gb" else "A100-80GB"]
    profile = model.profile(request.profile or "")
    assert profile is not None
    share = milli / 1000 * (1.0 if request.pool == "mig-24gb" else CARD_SHARE)
    assert profile.compute_slices / model.compute_slices >= share
    assert profile.size / model.units >= share


def test_every_second_small_best_effort_pod_asks_for_the_24_gb_card() -> None:
    small = row(milli=SMALL_CARD_LIMIT, best_effort=True)
    assert request_of(small, 0).resource == "nvidia.com/mig-2g.12gb"
    assert request_of(small, 1).pool == "mig-80gb"
    assert request_of(row(milli=SMALL_CARD_LIMIT), 0).pool == "mig-80gb"
    assert request_of(row(milli=SMALL_CARD_LIMIT + 1, best_effort=True), 0).pool == "mig-80gb"


def test_units_agree_with_the_catalogue_of_gpus() -> None:
    for name, units in UNITS_BY_PROFILE.items():
        sizes = {
            p.size for key in ("A100-80GB", "H100-80GB", "A30-24GB") if (p := models()[key].profile(name))
        }
        assert sizes == {units}, name


def test_every_request_is_in_a_known_pool() -> None:
    assert {request_of(row(milli=m, best_effort=True), m).pool for m in range(1, 1001)} == set(POOLS)
