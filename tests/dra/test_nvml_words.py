"""The pure parts around NVML: names, places in the machine, what an event means for a card."""

from __future__ import annotations

import pytest

from dra.card_health import harmful, health_of, reason_of
from dra.cards import HealthEvent
from dra.nvml_names import profile_name
from dra.nvml_system import kernel_address, numa_node, pcie_root


@pytest.mark.parametrize(
    ("number", "slices", "memory_mib", "card_mib", "name"),
    [
        (0x0, 1, 4864, 40960, "1g.5gb"),
        (0x9, 1, 9984, 40960, "1g.10gb"),
        (0x7, 1, 9984, 81559, "1g.10gb+me"),
        (0x4, 7, 81152, 81559, "7g.80gb"),
        (0x9, 1, 47872, 189471, "1g.47gb"),  # a quarter of 186 GiB is 46.5
        (0xA, 1, 24192, 97887, "1g.24gb+gfx"),
        (0xD, 1, 24192, 97887, "1g.24gb-me"),
        (0xF, 1, 24192, 97887, "1g.24gb+me.all"),
        (0x0, 1, 9984, None, "1g.10gb"),
    ],
)
def test_a_profile_without_a_name_gets_the_one_that_nvidias_tools_give(
    number, slices, memory_mib, card_mib, name
):
    assert profile_name("", number, slices, memory_mib, card_mib) == name


def test_the_cards_own_name_goes_first():
    assert profile_name("MIG 1g.12gb+me", 0x0, 1, 1, 1) == "1g.12gb+me"


def test_a_bus_id_is_spelled_as_the_kernel_does():
    assert kernel_address("00000000:1B:00.0") == "0000:1b:00.0"
    assert kernel_address("00010002:C1:00.0") == "0002:c1:00.0"


def test_where_the_kernel_tells_nothing_nothing_is_told(tmp_path):
    assert pcie_root(tmp_path, "00000000:1B:00.0") is None
    assert numa_node(tmp_path, "00000000:1B:00.0") is None


@pytest.mark.parametrize(("text", "node"), [("1\n", 1), ("-1\n", None), ("", None)])
def test_a_numa_node_below_zero_is_none(tmp_path, text, node):
    folder = tmp_path / "bus" / "pci" / "devices" / "0000:1b:00.0"
    folder.mkdir(parents=True)
    (folder / "numa_node").write_text(text)
    assert numa_node(tmp_path, "00000000:1B:00.0") == node


@pytest.mark.parametrize(
    ("kind", "code", "harm"),
    [
        ("xid", 79, True),
        ("xid", 48, True),
        ("xid", 95, True),
        ("xid", 13, False),
        ("xid", 43, False),
        ("xid", 94, False),
        ("xid", 63, False),
        ("ecc", 0, True),
        ("mig-changed", 0, False),
        ("other", 0, False),
        ("lost", 0, False),
    ],
)
def test_only_events_of_the_hardware_keep_new_work_away(kind, code, harm):
    assert harmful(HealthEvent("GPU-1", kind, code)) is harm


def test_reasons_name_the_fault_and_where_it_was():
    assert reason_of(HealthEvent("GPU-1", "xid", 95, 7)) == "the driver reported XID 95 in GPU instance 7"
    assert health_of(fabric_summary=2).state == "unhealthy"
    assert health_of(fabric_summary=1, uncorrected_errors=0, remapped_rows=(1, 1, 0, 0)).reasons == ()
