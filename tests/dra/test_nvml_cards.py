"""What ``Nvml.cards`` reads off each kind of node, and what becomes of it in the inventory."""

from __future__ import annotations

import dataclasses

import pynvml
import pytest

from dra.card_model import differences, model_of
from dra.card_wiring import topology_of
from dra.cards import Fabric, Link, identified
from dra.catalog import find_model, models
from dra.mig import geometry
from dra.nvlink import bridges, clique, islands, nvswitch, pcie_only
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.loaded import cards_of, pynvml_on
from tests.fake_nvml.state import FakeNode


def read(node, library, **more):
    with cards_of(node, library, **more) as nvml:
        return nvml.cards()


@pytest.mark.parametrize(
    ("profile", "model", "topology"),
    [
        ("dgx-a100", "A100-80GB", lambda model: nvswitch(model, 8)),
        ("hgx-a100-16", "A100-80GB", lambda model: nvswitch(model, 16)),
        ("dgx-h100", "H100-80GB", lambda model: nvswitch(model, 8)),
        ("a100-pcie-pairs", "A100-80GB", lambda model: bridges(model, 4)),
        (
            "nvl72",
            "GB200-186GB",
            lambda model: clique(model, 4, "5b4f1c2a-9d3e-48f0-a1b2-c3d4e5f60718.32766"),
        ),
        ("l40s", "L40S-48GB", lambda model: pcie_only(model, 8)),
    ],
)
@pytest.mark.parametrize("mig", [False, True])
def test_each_kind_of_node_is_recognised_by_its_wires(library, tmp_path, profile, model, topology, mig):
    node = FakeNode.create(tmp_path / "state", profile, mig=mig)
    cards = read(node, library)
    assert {model_of(card).name for card in cards} == {model}
    assert topology_of(cards) == topology(models()[model])
    assert {card.mig_capable for card in cards} == {profile != "l40s"}
    assert {card.mig_enabled for card in cards} == {mig if profile != "l40s" else None}


def test_a_fabric_of_one_node_is_no_rack_scale_domain(library, tmp_path):
    h100 = read(FakeNode.create(tmp_path / "h100", "dgx-h100"), library)
    assert {card.fabric for card in h100} == {None}
    rack = read(FakeNode.create(tmp_path / "rack", "nvl72"), library)
    assert {card.fabric for card in rack} == {Fabric("5b4f1c2a-9d3e-48f0-a1b2-c3d4e5f60718", 32766)}


def test_a_fabric_that_is_still_starting_is_not_told(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "nvl72", gpus=1)
    node.set("gpu.0.fabric", "2 5b4f1c2a9d3e48f0a1b2c3d4e5f60718 7 0")
    assert read(node, library)[0].fabric is None


def test_an_old_driver_that_knows_only_the_second_fabric_structure_still_tells(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "nvl72", gpus=1)
    node.fault("nvmlDeviceGetGpuFabricInfoV", "error", pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH, skip=0)
    node.fault("nvmlDeviceGetGpuFabricInfoV", "error", pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH, skip=2)
    assert read(node, library)[0].fabric is not None


@pytest.mark.parametrize("names", ["told", "made"])
@pytest.mark.parametrize("profile", ["dgx-a100", "dgx-h100", "nvl72"])
def test_profiles_and_placements_come_from_the_card(library, tmp_path, profile, names):
    node = FakeNode.create(tmp_path / "state", profile, gpus=1, mig=True)
    if names == "made":
        node.set("profiles_without_names", "1")
    (card,) = read(node, library)
    model = find_model(card.product)
    expected = {(p.name, p.size, p.starts, p.max_instances, p.compute_slices) for p in model.profiles}
    found = {(p.name, p.size, p.starts, p.max_instances, p.compute_slices) for p in card.profiles}
    assert found == expected
    assert card.placements_told
    assert card.profile(0).name.startswith("7g")
    assert geometry(model_of(card)).placements == geometry(model).placements
    assert differences([card]) == ()


def test_a_driver_with_only_the_first_profile_structure_is_read_too(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=1, mig=True)
    node.unsupported(0, "nvmlDeviceGetGpuInstanceProfileInfoV")
    (card,) = read(node, library)
    assert {p.name for p in card.profiles} == {p.name for p in models()["H100-80GB"].profiles}


def test_the_card_wins_over_the_catalogue_and_the_difference_is_told(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=2, mig=True)
    told = node.values()
    for gpu in (0, 1):
        node.set(f"gpu.{gpu}.profile.0", told["gpu.0.profile.0"].replace("0,1,2,3,4,5,6", "0,1,2,3,4,5"))
        node.set(f"gpu.{gpu}.profile.7", None)
    cards = read(node, library)
    model = model_of(cards[0])
    assert model.profile("1g.10gb").starts == (0, 1, 2, 3, 4, 5)
    assert model.profile("1g.10gb+me") is None
    assert model.placement_status == "told by the card"
    found = {(d.fact, d.profile, d.catalogue, d.card) for d in differences(cards)}
    assert found == {
        ("starts", "1g.10gb", "(0, 1, 2, 3, 4, 5, 6)", "(0, 1, 2, 3, 4, 5)"),
        ("profile", "1g.10gb+me", "1g.10gb+me", "none"),
    }
    assert len(differences(cards)) == 2  # one line for both cards


def test_a_model_whose_grid_the_catalogue_lacks_gets_it_from_the_card(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=1, mig=True)
    node.update({"gpu.0.name": "NVIDIA H200", "gpu.0.memory_mib": "143771"})
    (card,) = read(node, library)
    assert models()["H200-141GB"].units == 1
    assert model_of(card).name == "H200-141GB"
    assert model_of(card).units == 8
    assert geometry(model_of(card)).n_states == 256


def test_a_product_that_nobody_knows_is_still_a_gpu(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "l40s", gpus=1)
    node.set("gpu.0.name", "NVIDIA X9000")
    cards = read(node, library)
    assert model_of(cards[0]).memory_mib == 46068
    assert [d.fact for d in differences(cards)] == ["model"]


def test_links_that_are_down_are_not_counted_and_are_noted(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "a100-pcie-pairs")
    node.update({f"gpu.0.link.{link}": "0 255 none" for link in range(4)})
    first, second, third, _ = read(node, library)
    assert first.links == (Link(1, "gpu", 8),)
    assert first.health.state == "healthy"
    assert first.health.reasons == ("4 NVLinks are down",)
    assert second.links == (Link(0, "gpu", 12),)
    topology = topology_of(read(node, library))
    assert topology.links[0][1] == 400.0
    assert topology.links[2][3] == 600.0
    assert third.health.reasons == ()


def test_a_pair_without_its_bridge_is_joined_by_pcie(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "a100-pcie-pairs")
    node.update({f"gpu.{gpu}.link.{link}": "0 255 none" for gpu in (0, 1) for link in range(12)})
    topology = topology_of(read(node, library))
    assert islands(topology) == (0b0001, 0b0010, 0b1100)


def test_a_switch_that_is_split_joins_only_what_peer_status_says(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=4)
    node.update({f"gpu.{a}.p2p.{b}": "5" for a in range(4) for b in range(4) if a // 2 != b // 2})
    assert islands(topology_of(read(node, library))) == (0b0011, 0b1100)


def test_where_links_are_not_told_peer_status_stands_for_a_switch(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=4)
    for gpu in range(4):
        node.unsupported(gpu, "nvmlDeviceGetNvLinkState")
    assert topology_of(read(node, library)) == nvswitch(models()["H100-80GB"], 4)


@pytest.mark.parametrize(
    ("profile", "peers"),
    [("dgx-h100", [(), (2, 3), (1, 3), (1, 2)]), ("a100-pcie-pairs", [(), (), (3,), (2,)])],
)
@pytest.mark.parametrize("told", [True, False])
def test_peers_are_who_can_be_reached_now(library, tmp_path, profile, peers, told):
    node = FakeNode.create(tmp_path / "state", profile, gpus=4, mig=(0,))
    for gpu in range(0 if told else 4):
        node.unsupported(gpu, "nvmlDeviceGetP2PStatus")
    assert [card.nvlink_peers for card in read(node, library)] == peers


@pytest.mark.parametrize(
    ("fact", "value", "state", "words"),
    [
        ("remapped_rows", "0 1 0 1", "unhealthy", "could not be remapped"),
        ("remapped_rows", "1 0 1 0", "healthy", "wait for a reset"),
        ("ecc.1.0", "3", "healthy", "3 uncorrected ECC errors"),
    ],
)
def test_health_is_read_from_the_cards_own_counters(library, tmp_path, fact, value, state, words):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=2)
    node.set(f"gpu.1.{fact}", value)
    good, bad = read(node, library)
    assert (good.health.state, good.health.reasons) == ("healthy", ())
    assert bad.health.state == state
    assert words in bad.health.reasons[0]


def test_a_card_that_is_lost_keeps_its_place_and_comes_back(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=3)
    with cards_of(node, library) as nvml:
        before = nvml.cards()
        node.lose(1)
        during = nvml.cards()
        node.find(1)
        after = nvml.cards()
    assert [card.uuid for card in during] == [card.uuid for card in before]
    assert [card.health.state for card in during] == ["healthy", "unhealthy", "healthy"]
    assert not during[1].live_told
    assert after == before


def test_a_call_that_the_installed_library_lacks_counts_as_not_told(library, tmp_path, monkeypatch):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=1)
    monkeypatch.delattr(pynvml, "nvmlDeviceGetModuleId")
    (card,) = read(node, library)
    assert card.module_id is None


def test_the_wiring_of_one_card_alone_is_pcie(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=1)
    assert topology_of(read(node, library)) == pcie_only(models()["H100-80GB"], 1)


def test_a_card_that_nvml_no_longer_counts_is_no_longer_listed(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "l40s", gpus=3)
    with cards_of(node, library) as nvml:
        node.set("gpus", "2")
        assert [card.index for card in nvml.cards()] == [0, 1]


def test_one_broken_card_does_not_keep_the_others_from_being_used(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "dgx-h100", gpus=3, mig=True)
    node.unsupported(1, "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID")
    with cards_of(node, library) as nvml:
        assert "cannot be read" in nvml.cards()[1].health.reasons[0]
        node.xid(2, 79)
        assert nvml.wait_event(5).gpu_uuid == node.uuid(2)


def test_a_card_that_never_told_its_name_is_not_identified(library, tmp_path):
    node = FakeNode.create(tmp_path / "state", "l40s", gpus=3)
    node.lose(0)
    cards = read(node, library)
    assert cards[0].uuid == ""
    assert [card.index for card in identified(cards)] == [1, 2]


def test_more_cards_than_a_topology_can_hold_are_refused(library, tmp_path):
    (card,) = read(FakeNode.create(tmp_path / "state", "l40s", gpus=1), library)
    many = [dataclasses.replace(card, index=i, uuid=f"GPU-{i}") for i in range(17)]
    with pytest.raises(ValueError, match="1 to 16 GPUs, got 17"):
        topology_of(many)


def test_nvml_that_cannot_start_is_a_reason_and_not_an_exception(library, tmp_path):
    from dra.cards import NoDriver
    from dra.nvml import open_cards

    with pynvml_on(FakeNode(tmp_path / "absent"), library):
        found = open_cards()
    assert isinstance(found, NoDriver)
    assert "Driver Not Loaded" in found.reason
