"""NVLink: link matrices, ring bandwidth, islands, best sets and share tables."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.nvlink import (
    Topology,
    best_set,
    bridges,
    clique,
    cube_mesh,
    direct,
    first_fit_order,
    islands,
    nvswitch,
    pcie_only,
    set_bandwidth,
    share,
    share_tables,
    topology_for,
)

A100 = models()["A100-80GB"]
H100 = models()["H100-80GB"]
V100 = models()["V100-32GB"]
L40S = models()["L40S-48GB"]


def bits(*gpus):
    return sum(1 << gpu for gpu in gpus)


@st.composite
def small_topologies(draw):
    n = draw(st.integers(1, 6))
    speeds = draw(st.lists(st.sampled_from([0.0, 50.0, 100.0, 600.0]), min_size=n * n, max_size=n * n))
    rows = tuple(
        tuple(0.0 if a == b else speeds[min(a, b) * n + max(a, b)] for b in range(n)) for a in range(n)
    )
    return Topology("drawn", "direct", n, rows, 32.0)


def ring_by_trying_all_orders(topology, gpus):
    def hop(a, b):
        return max(topology.links[a][b], topology.pcie_gigabytes_per_second)

    first, *rest = gpus
    return max(
        min(hop(a, b) for a, b in itertools.pairwise([first, *order, first]))
        for order in itertools.permutations(rest)
    )


@settings(deadline=None)
@given(small_topologies())
def test_bandwidth_is_the_slowest_hop_of_the_best_ring(topology):
    for k in range(2, topology.gpus + 1):
        for gpus in itertools.combinations(range(topology.gpus), k):
            assert set_bandwidth(topology, bits(*gpus)) == ring_by_trying_all_orders(topology, gpus)


@settings(deadline=None)
@given(small_topologies(), st.data())
def test_share_tables_agree_with_choosing_sets_one_by_one(topology, data):
    k = data.draw(st.integers(0, topology.gpus))
    tables = share_tables(topology, k)
    for free in range(1 << topology.gpus):
        chosen = best_set(topology, free, k)
        if free.bit_count() < k:
            assert chosen is None
            assert math.isnan(tables.best[free])
            assert math.isnan(tables.first_fit[free])
            continue
        lowest = bits(*[g for g in range(topology.gpus) if free >> g & 1][:k])
        assert chosen is not None
        assert chosen & free == chosen
        assert chosen.bit_count() == k
        assert tables.best[free] == np.float32(share(topology, chosen))
        assert tables.first_fit[free] == np.float32(share(topology, lowest))
        assert tables.first_fit[free] <= tables.best[free] <= 1.0


@settings(deadline=None)
@given(small_topologies())
def test_islands_part_the_gpus_into_fully_linked_sets(topology):
    found = islands(topology)
    assert sum(found) == (1 << topology.gpus) - 1
    for island in found:
        members = [g for g in range(topology.gpus) if island >> g & 1]
        assert all(topology.links[a][b] > 0 for a, b in itertools.permutations(members, 2))


def test_every_pair_behind_nvswitches_has_full_bandwidth():
    topology = nvswitch(H100, 8)
    assert islands(topology) == (0xFF,)
    assert {set_bandwidth(topology, bits(a, b)) for a, b in itertools.combinations(range(8), 2)} == {900.0}
    assert share(topology, bits(0, 3, 5, 6)) == 1.0


def test_bridges_join_pairs_and_the_rest_is_pcie():
    topology = bridges(A100, 8)
    assert islands(topology) == (bits(0, 1), bits(2, 3), bits(4, 5), bits(6, 7))
    assert set_bandwidth(topology, bits(2, 3)) == 600.0
    assert set_bandwidth(topology, bits(1, 2)) == 64.0
    assert share(topology, bits(1, 2)) == pytest.approx(64 / 600)
    assert best_set(topology, bits(1, 2, 3, 5), 2) == bits(2, 3)


def test_the_best_set_breaks_no_pair_when_a_broken_one_serves_as_well():
    topology = bridges(A100, 8)
    assert best_set(topology, bits(0, 1, 2, 4, 5), 1) == bits(2)
    assert best_set(topology, bits(0, 1, 2, 5), 2) == bits(0, 1)


def test_the_cube_mesh_has_six_links_a_gpu_and_the_known_double_pairs():
    topology = cube_mesh(V100)
    assert all(sum(row) == 300.0 for row in topology.links)
    assert all(topology.links[a][b] == topology.links[b][a] for a in range(8) for b in range(8))
    assert islands(topology) == (bits(0, 1, 2, 3), bits(4, 5, 6, 7))
    for pair in ((0, 3), (1, 2), (4, 7), (5, 6)):
        assert set_bandwidth(topology, bits(*pair)) == 100.0
        assert share(topology, bits(*pair)) == 1.0
    assert set_bandwidth(topology, bits(0, 1)) == 50.0


def test_first_fit_on_a_cube_mesh_improves_when_islands_are_listed_together():
    plain, listed = cube_mesh(V100), cube_mesh(V100).reordered((0, 3, 1, 2, 4, 7, 5, 6))
    assert share_tables(plain, 2).first_fit[0xFF] == 0.5
    assert share_tables(listed, 2).first_fit[0xFF] == 1.0


def test_the_order_to_publish_gpus_in_makes_first_fit_meet_the_best_sets():
    assert first_fit_order(cube_mesh(V100)) == (0, 3, 1, 2, 4, 7, 5, 6)
    assert first_fit_order(bridges(A100, 4).reordered((0, 2, 1, 3))) == (0, 2, 1, 3)
    assert first_fit_order(nvswitch(H100, 8)) == tuple(range(8))
    assert first_fit_order(pcie_only(L40S, 3)) == (0, 1, 2)
    assert first_fit_order(pcie_only(L40S, 1)) == (0,)


@settings(deadline=None)
@given(small_topologies())
def test_the_order_names_every_gpu_once(topology):
    assert sorted(first_fit_order(topology)) == list(range(topology.gpus))


def test_pcie_only_nodes_are_full_share_everywhere_and_single_gpus_need_no_link():
    topology = pcie_only(L40S, 4)
    assert islands(topology) == (1, 2, 4, 8)
    assert share(topology, bits(0, 3)) == 1.0
    assert set_bandwidth(topology, bits(2)) == math.inf
    assert share(bridges(A100, 4), bits(2)) == 1.0


def test_a_rack_scale_tray_keeps_its_clique():
    topology = clique(models()["GB200-186GB"], 4, "uuid.7")
    assert topology.clique == "uuid.7"
    assert set_bandwidth(topology, 0b1111) == 1800.0


@pytest.mark.parametrize(
    ("model", "gpus", "labels", "product", "kind"),
    [
        (H100, 8, {}, "NVIDIA-H100-80GB-HBM3", "nvswitch"),
        (H100, 8, {}, "NVIDIA-H100-PCIe", "pcie"),
        (A100, 4, {"slicewise.io/nvlink-topology": "bridges"}, "NVIDIA-A100-80GB-PCIe", "bridges"),
        (A100, 4, {}, "NVIDIA-A100-SXM4-80GB", "direct"),
        (V100, 8, {}, "Tesla-V100-SXM2-32GB", "cube-mesh"),
        (V100, 16, {}, "Tesla-V100-SXM3-32GB", "nvswitch"),
        (L40S, 8, {"slicewise.io/nvlink-topology": "nvswitch"}, "NVIDIA-L40S", "pcie"),
        (H100, 8, {"slicewise.io/nvlink-topology": "pcie"}, "NVIDIA-H100-80GB-HBM3", "pcie"),
        (H100, 8, {"slicewise.io/nvlink-topology": "nonsense"}, "NVIDIA-H100-80GB-HBM3", "nvswitch"),
        (models()["GB200-186GB"], 4, {"nvidia.com/gpu.clique": "u.1"}, "NVIDIA-GB200", "nvswitch"),
    ],
)
def test_the_label_decides_and_else_the_form_factor(model, gpus, labels, product, kind):
    assert topology_for(model, gpus, labels, product).kind == kind


def test_direct_links_are_split_among_the_others():
    assert set_bandwidth(direct(A100, 4), 0b1111) == 200.0


def test_reordering_renames_gpus_and_refuses_nonsense():
    topology = bridges(A100, 4).reordered((0, 2, 1, 3))
    assert islands(topology) == (bits(0, 2), bits(1, 3))
    assert bridges(A100, 4).reordered((2, 3)).gpus == 2
    with pytest.raises(ValueError, match="different GPUs"):
        bridges(A100, 4).reordered((0, 0))


def test_more_gpus_than_a_node_has_are_refused():
    with pytest.raises(ValueError, match="1 to 16 GPUs, got 32"):
        nvswitch(H100, 32)


def test_all_tables_of_an_eight_gpu_node_take_well_under_a_second():
    topology = cube_mesh(V100).reordered((7, 6, 5, 4, 3, 2, 1, 0))
    begin = time.perf_counter()
    for k in range(1, 9):
        share_tables(topology, k)
    assert time.perf_counter() - begin < 0.5
