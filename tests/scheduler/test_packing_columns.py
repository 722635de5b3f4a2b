"""The knapsack over a GPU's and a node's free space: exact, monotone, and traced back to the filling that
earns it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra.catalog import models
from dra.mig import geometry
from scheduler.packing.columns import gpu_tables, model_classes, node_tables
from scheduler.packing.gradient import fragmentation
from scheduler.packing.mix import DemandClass

MODELS = ["A30-24GB", "A100-80GB", "RTX-PRO-6000-Blackwell-96GB"]


def offer_of(name, *, extra=()):
    model = models()[name]
    profiles = [DemandClass("mig", profile=profile.name) for profile in model.profiles]
    return model_classes(model, geometry(model), [*profiles, *extra])


class One:
    """One row of batched tables, with the filling of any of its states."""

    def __init__(self, tables):
        self.tables, self.values = tables, tables.values[0]

    def filling(self, state):
        return self.tables.filling(state)


def gpu_table(offer, price):
    return One(gpu_tables(offer, price[None]))


def node_table(offer, price, gpu, most):
    return One(node_tables(offer, price[None], gpu and gpu.tables, most))


def best_by_search(offer, price, mask):
    """The same value by exhaustive search, with at most one media instance."""

    @cache
    def search(occupied, media_free):
        best = 0.0
        for row, bits in enumerate(offer.bits.tolist()):
            media = bool(offer.media[row])
            if not bits & occupied and (media_free or not media):
                for index in offer.by_placement[row]:
                    best = max(best, price[index] + search(occupied | bits, media_free and not media))
        return best

    return search(mask, True)


@pytest.mark.parametrize("name", ["A30-24GB", "A100-80GB"])
@given(data=st.data())
def test_value_of_a_mask_is_that_of_an_exhaustive_search(name, data):
    offer = offer_of(name)
    count = len(offer.share)
    price = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.2]), min_size=count, max_size=count))
    )
    mask = data.draw(st.integers(0, offer.geometry.n_states - 1))
    table = gpu_table(offer, price)
    assert table.values[mask] == pytest.approx(best_by_search(offer, tuple(price), mask))


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_less_free_space_is_never_worth_more(name, data):
    offer = offer_of(name)
    count = len(offer.share)
    price = np.array(data.draw(st.lists(st.floats(0.0, 9.0), min_size=count, max_size=count)))
    values = gpu_table(offer, price).values
    masks = np.arange(offer.geometry.n_states)
    for unit in range(offer.model.units):
        assert (values[masks | (1 << unit)] <= values + 1e-9).all()


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_a_filling_earns_what_its_table_says(name, data):
    offer = offer_of(name)
    count = len(offer.share)
    price = np.array(data.draw(st.lists(st.floats(0.0, 9.0), min_size=count, max_size=count)))
    table = gpu_table(offer, price)
    mask = data.draw(st.integers(0, offer.geometry.n_states - 1))
    filling = table.filling(mask)
    assert sum(number * price[index] for index, number in filling) == pytest.approx(table.values[mask])
    free = offer.model.units - mask.bit_count()
    assert sum(number * offer.share[index] for index, number in filling) * offer.model.units <= free + 1e-9


def test_a_gpu_holds_one_media_instance_at_most():
    offer = offer_of("A100-80GB")
    names = [profile.name for profile in offer.model.profiles]
    price = np.zeros(len(names))
    price[names.index("1g.10gb+me")] = 1.0
    table = gpu_table(offer, price)
    assert table.values[0] == 1.0
    assert table.filling(0) == ((names.index("1g.10gb+me"), 1),)


def test_unit_seven_is_worth_nothing_to_one_slice_instances():
    offer = offer_of("A100-80GB")
    price = np.array([1.0 if p.name == "1g.10gb" else 0.0 for p in offer.model.profiles])
    values = gpu_table(offer, price).values
    assert values[0] == 7.0
    assert values[0b0111_1111] == 0.0


@given(gains=st.lists(st.floats(0.0, 40.0), min_size=4, max_size=4), opened=st.floats(0.0, 4.0))
def test_free_gpus_of_a_node_are_worth_at_least_their_parts(gains, opened):
    whole = [DemandClass("whole", gpus=gpus) for gpus in (1, 2, 4, 8)]
    offer = offer_of("A100-80GB", extra=whole)
    price = np.zeros(len(offer.model.profiles) + 4)
    price[[p.name for p in offer.model.profiles].index("7g.80gb")] = opened
    price[-4:] = gains
    node = node_table(offer, price, gpu_table(offer, price), 16)
    for left in range(17):
        for right in range(17 - left):
            assert node.values[left + right] >= node.values[left] + node.values[right] - 1e-9
        filling = node.filling(left)
        assert sum(number * price[index] for index, number in filling) == pytest.approx(node.values[left])
        assert sum(number * offer.share[index] for index, number in filling) <= left + 1e-9


def test_gpus_that_cannot_be_cut_serve_whole_pods_only():
    offer = offer_of("A100-80GB", extra=[DemandClass("whole", gpus=2)])
    price = np.ones(len(offer.model.profiles) + 1)
    node = node_table(offer, price, None, 8)
    assert node.values[:5].tolist() == [0.0, 0.0, 1.0, 1.0, 2.0]
    assert node.filling(3) == ((len(price) - 1, 1),)


def test_a_class_restricted_to_other_models_cannot_use_this_one():
    offer = offer_of("A30-24GB", extra=[DemandClass("whole", gpus=1, models=frozenset({"H100-80GB"}))])
    assert offer.by_gpus == {}


def test_gradient_counts_free_units_outside_every_free_window():
    classes = [DemandClass("mig", profile="3g.40gb"), DemandClass("whole", gpus=1)]
    model = models()["A100-80GB"]
    offer = model_classes(model, geometry(model), classes)
    only_3g = fragmentation(offer, np.array([1.0, 0.0]))[-1]
    assert only_3g[0] == 0.0
    assert only_3g[0b0000_0001] == 3 / 8  # the low window is gone, its three free units with it
    assert only_3g[0b0001_0001] == 6 / 8  # both windows are gone
    both = fragmentation(offer, np.array([1.0, 1.0]))[-1]
    assert both[0] == 0.0
    assert both[0b0000_0001] == pytest.approx((3 + 7) / 16)
    assert both[0xFF] == 0.0


@pytest.mark.parametrize("name", MODELS)
def test_gradient_is_a_share_of_the_free_units(name):
    offer = offer_of(name, extra=[DemandClass("whole", gpus=1)])
    table = fragmentation(offer, np.ones(len(offer.share)))[-1]
    free = np.array([offer.model.units - m.bit_count() for m in range(offer.geometry.n_states)])
    assert ((table >= 0.0) & (table <= free / offer.model.units + 1e-12)).all()
