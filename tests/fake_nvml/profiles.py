"""The nodes that the fake NVML can be: facts of each GPU as keys and values of the state file.

MIG placements come from the project's catalogue. Engine counts that the catalogue lacks are those of a sister
model with the same grid, so they only have the right order. Wattages, serials and bus ids are made up, in the
form that cards show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dra.catalog import GpuModel, MigProfile, models

GPU, SWITCH = 0, 2
SINGLE_SWITCH, SEVERAL_SWITCHES, HOST_BRIDGE, NODE, SYSTEM = 10, 20, 30, 40, 50
NO_CLUSTER = "0" * 32
NVL72_CLUSTER = "5b4f1c2a9d3e48f0a1b2c3d4e5f60718"
ENGINES = ("multiprocessors", "copy-engines", "decoders", "encoders", "jpeg-engines", "ofa-engines")

_SISTERS = {"A100-80GB": "A100-40GB", "GB200-186GB": "B200-180GB"}
# As cards number them; the catalogue lacks a few.
_USUAL_IDS = {"1g": 19, "2g": 14, "3g": 9, "4g": 5, "7g": 0}
_ENUMS = {"1g": 0, "2g": 1, "3g": 2, "4g": 3, "7g": 4}
_SUFFIXED_ENUMS = {
    "1g+me": 7,
    "2g+me": 8,
    "1g+gfx": 10,
    "2g+gfx": 11,
    "4g+gfx": 12,
    "1g-me": 13,
    "2g-me": 14,
    "1g+me.all": 15,
    "2g+me.all": 16,
}
_DOUBLE_MEMORY_ENUM = 9


@dataclass(frozen=True, slots=True)
class Board:
    """One kind of GPU as NVML shows it; ``reset``: a change of MIG mode waits for a reset (Ampere)."""

    product: str
    model: str
    architecture: int
    capability: str
    memory_mib: int
    limit_watts: int
    links: int = 0
    link_version: int = 0
    link_megabytes: int = 0
    reset: bool = False
    pci_device_id: int = 0


A100_SXM = Board("NVIDIA A100-SXM4-80GB", "A100-80GB", 7, "8.0", 81920, 400, 12, 4, 25000, True, 0x20B210DE)
A100_PCIE = Board("NVIDIA A100 80GB PCIe", "A100-80GB", 7, "8.0", 81920, 300, 12, 4, 25000, True, 0x20B510DE)
H100 = Board("NVIDIA H100 80GB HBM3", "H100-80GB", 9, "9.0", 81559, 700, 18, 6, 26562, False, 0x233010DE)
GB200 = Board("NVIDIA GB200", "GB200-186GB", 10, "10.0", 189471, 1200, 18, 7, 50000, False, 0x294110DE)
L40S = Board("NVIDIA L40S", "L40S-48GB", 8, "8.9", 46068, 350, pci_device_id=0x26B910DE)


@dataclass(frozen=True, slots=True)
class NodeProfile:
    """A kind of node: where its GPUs sit and how they are wired. ``ancestor(a, b)``: NVML topology level."""

    board: Board
    buses: tuple[str, ...]
    numa: tuple[int, ...]
    roots: tuple[str, ...]
    ancestor: Callable[[int, int], int]
    wiring: str = "none"
    fabric: str | None = None
    clique: int = 0
    driver: str = "570.124.06"


def _halves(a: int, b: int) -> int:
    if a // 2 == b // 2:
        return SEVERAL_SWITCHES
    return NODE if a // 4 == b // 4 else SYSTEM


NODES: Mapping[str, NodeProfile] = {
    "dgx-a100": NodeProfile(
        A100_SXM,
        ("07", "0F", "47", "4E", "87", "90", "B7", "BD"),
        (3, 3, 1, 1, 7, 7, 5, 5),
        ("00", "00", "40", "40", "80", "80", "b0", "b0"),
        lambda a, b: SEVERAL_SWITCHES if a // 2 == b // 2 else SYSTEM,
        "switch",
    ),
    "hgx-a100-16": NodeProfile(
        A100_SXM,
        tuple(f"{number:02X}" for number in range(0x10, 0xD0, 0x0C)),
        tuple(gpu // 8 for gpu in range(16)),
        tuple(f"{gpu // 2:x}0" for gpu in range(16)),
        lambda a, b: SEVERAL_SWITCHES if a // 2 == b // 2 else NODE if a // 8 == b // 8 else SYSTEM,
        "switch",
    ),
    "dgx-h100": NodeProfile(
        H100,
        ("1B", "43", "52", "61", "9D", "C3", "D1", "DF"),
        (0, 0, 0, 0, 1, 1, 1, 1),
        ("15", "3d", "4c", "5b", "97", "bd", "cb", "d9"),
        lambda a, b: NODE if a // 4 == b // 4 else SYSTEM,
        "switch",
        # Behind NVSwitches of one node the fabric is there, with a cluster of zeros: no rack-scale domain.
        fabric=NO_CLUSTER,
    ),
    "a100-pcie-pairs": NodeProfile(
        A100_PCIE,
        ("17", "31", "B1", "CA"),
        (0, 0, 1, 1),
        ("16", "30", "b0", "c9"),
        lambda a, b: NODE if a // 2 == b // 2 else SYSTEM,
        "pairs",
    ),
    "nvl72": NodeProfile(
        GB200,
        ("01", "01", "01", "01"),
        (0, 0, 1, 1),
        ("00", "00", "00", "00"),
        lambda a, b: NODE if a // 2 == b // 2 else SYSTEM,
        "switch",
        fabric=NVL72_CLUSTER,
        clique=32766,
    ),
    "l40s": NodeProfile(
        L40S,
        ("01", "25", "41", "61", "81", "A1", "C1", "E1"),
        (0, 0, 0, 0, 1, 1, 1, 1),
        ("00", "20", "40", "60", "80", "a0", "c0", "e0"),
        _halves,
    ),
}


def facts(name: str, gpus: int | None = None) -> dict[str, str]:
    """Keys and values of a node of that kind, MIG off; ``gpus``: only its first ones."""
    node = NODES[name]
    count = gpus if gpus is not None else len(node.buses)
    board = node.board
    values = {"driver": node.driver, "nvml": f"12.{node.driver}", "cuda": "12080", "gpus": str(count)}
    for gpu in range(count):
        own = {
            "uuid": uuid(name, gpu),
            "name": board.product,
            "serial": f"16{abs(hash_of(name)):06d}{gpu:02d}"[:13],
            "minor": str(gpu),
            "module": str(gpu + 1),
            "pci": bus_id(node, gpu),
            "pci_device_id": str(board.pci_device_id),
            "numa": str(node.numa[gpu]),
            "architecture": str(board.architecture),
            "compute_capability": board.capability,
            "memory_mib": str(board.memory_mib),
            "power_milliwatts": str(61500 + 250 * gpu),
            "power_limit_milliwatts": str(1000 * board.limit_watts),
            "energy_millijoules": str(987654321 + 1000 * gpu),
            "ecc": "1",
            "ecc.0.0": "0",
            "ecc.1.0": "0",
            "ecc.0.1": "0",
            "ecc.1.1": "0",
            "remapped_rows": "0 0 0 0",
            "events": str(0xFFFF),
        }
        model = models()[board.model]
        if model.profiles:
            own |= {"mig_current": "0", **_profiles(model)}
            if board.reset:
                own["mig_needs_reset"] = "1"
        own |= _links(node, gpu, count)
        if node.fabric is not None:
            own["fabric"] = f"3 {node.fabric} {node.clique} 0"
        for other in range(count):
            if other != gpu:
                own[f"ancestor.{other}"] = str(node.ancestor(gpu, other))
        values |= {f"gpu.{gpu}.{key}": value for key, value in own.items()}
    return values


def uuid(name: str, gpu: int) -> str:
    """The made-up UUID of a GPU."""
    return f"GPU-{hash_of(name):08x}-5a5a-4b4b-8c8c-{gpu:012x}"


def bus_id(node: NodeProfile, gpu: int) -> str:
    """As NVML spells it: eight digits of domain, then bus, device and function."""
    domain = gpu if node.buses.count(node.buses[gpu]) > 1 else 0
    return f"{domain:08X}:{node.buses[gpu]}:00.0"


def hash_of(name: str) -> int:
    """A stable number from a name."""
    return sum((place + 1) * 7919 * byte for place, byte in enumerate(name.encode())) & 0xFFFFFF


def _links(node: NodeProfile, gpu: int, count: int) -> dict[str, str]:
    board = node.board
    if node.wiring == "none":
        return {}
    own = {
        "links": str(board.links),
        "link_version": str(board.link_version),
        "link_megabytes_per_second": str(board.link_megabytes),
    }
    mate = gpu ^ 1
    for link in range(board.links):
        if node.wiring == "switch":
            own[f"link.{link}"] = f"1 {SWITCH} 00000000:C{link % 6 + 2:X}:00.0"
        elif mate < count:
            own[f"link.{link}"] = f"1 {GPU} {bus_id(node, mate)}"
        else:
            own[f"link.{link}"] = "0 255 none"
    for other in range(count):
        if other != gpu and (node.wiring == "switch" or other == mate):
            own[f"p2p.{other}"] = "0"
    return own


def _profiles(model: GpuModel) -> dict[str, str]:
    return {f"profile.{enum_of(model, profile)}": _profile(model, profile) for profile in model.profiles}


def enum_of(model: GpuModel, profile: MigProfile) -> int:
    """NVML's number of a profile (NVML_GPU_INSTANCE_PROFILE_*), which is not its id."""
    slices = profile.name.split("g.")[0] + "g"
    suffix = profile.name.partition("gb")[2]
    if suffix:
        return _SUFFIXED_ENUMS[slices + suffix]
    smaller = any(
        other.plain and other.compute_slices == profile.compute_slices and other.size < profile.size
        for other in model.profiles
    )
    return _DOUBLE_MEMORY_ENUM if smaller else _ENUMS[slices]


def _profile(model: GpuModel, profile: MigProfile) -> str:
    number = (
        profile.profile_id
        if profile.profile_id is not None
        else _USUAL_IDS[profile.name.split("g.")[0] + "g"]
    )
    known = dict(profile.capacities)
    sisters = models()[_SISTERS[model.name]].profiles if model.name in _SISTERS else ()
    sister = next((p for p in sisters if p.profile_id == number), None)
    like = dict(sister.capacities) if sister is not None else {}
    engines = [known.get(kind, like.get(kind, 0)) for kind in ENGINES]
    memory = known.get("memory_mib", profile.memory_gb * 1024 - 256)
    starts = ",".join(map(str, profile.starts))
    numbers = [number, profile.compute_slices, profile.max_instances, *engines, memory, profile.size]
    return f"{' '.join(map(str, numbers))} {starts} {profile.name}"
