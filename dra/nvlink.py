"""How fast the GPUs of one node talk to each other, and which set of k free GPUs talks best.

Model: a matrix of direct link bandwidth between GPUs (GB/s, both directions). A set of k GPUs runs
collectives around a ring, so its bandwidth is the slowest hop of the best ring through all of them (for k =
2 the pair); a hop without a link goes over PCIe. Behind an NVSwitch every pair has the GPU's full bandwidth.
One GPU never waits for a link: infinite.

``share`` divides by the best set of the same size on the empty node, so a node is compared with itself when
empty.

Bit i of a set and row i of the matrix mean the i-th GPU in the order the topology was given in;
``reordered`` renames them.

Sources: NVIDIA data sheets for bandwidth per generation; the DGX-1V matrix is from memory and agrees with
the static sets in NVIDIA/go-gpuallocator; ring bottleneck as in NCCL's ring search. Not modelled: NUMA, PCIe
switches, several rings at once, links shared with other tenants, traffic between nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dra.catalog import GpuModel

Kind = Literal["nvswitch", "bridges", "cube-mesh", "pcie", "direct"]

MOST_GPUS = 16
"""Tables over sets of GPUs have 2 ** gpus entries; no node with more than 16 is known."""

TOPOLOGY_LABEL = "slicewise.io/nvlink-topology"
CLIQUE_LABEL = "nvidia.com/gpu.clique"

# Links between the eight V100 of a DGX-1V, six for each GPU (from memory).
_CUBE_MESH_LINKS: tuple[Mapping[int, int], ...] = (
    {1: 1, 2: 1, 3: 2, 4: 2},
    {0: 1, 2: 2, 3: 1, 5: 2},
    {0: 1, 1: 2, 3: 2, 6: 1},
    {0: 2, 1: 1, 2: 2, 7: 1},
    {0: 2, 5: 1, 6: 1, 7: 2},
    {1: 2, 4: 1, 6: 2, 7: 1},
    {2: 1, 4: 1, 5: 2, 7: 2},
    {3: 1, 4: 2, 5: 1, 6: 2},
)

# PCIe cards of these models carry bridge connectors; the total over the bridges of one card, both directions.
_BRIDGE_GIGABYTES_PER_SECOND: Mapping[str, float] = {
    "A30-24GB": 200.0,
    "A100-40GB": 600.0,
    "A100-80GB": 600.0,
    "H100-80GB": 600.0,
    "H100-94GB": 600.0,
    "H200-141GB": 900.0,
}


@dataclass(frozen=True, slots=True)
class Topology:
    """Direct links inside one node. ``links[i][j]`` in GB/s, 0 = none; ``clique`` names a rack-scale NVLink
    domain.
    """

    name: str
    kind: Kind
    gpus: int
    links: tuple[tuple[float, ...], ...]
    pcie_gigabytes_per_second: float
    clique: str | None = None

    def __hash__(self) -> int:
        # A key of many tables; name and size tell nearly all topologies apart.
        return hash((self.name, self.gpus, self.links[0]))

    def reordered(self, order: tuple[int, ...]) -> Topology:
        """The same hardware with GPU ``order[p]`` at position p; GPUs left out of ``order`` are dropped.

        Raises ValueError when ``order`` names a GPU twice or one that does not exist.
        """
        if len(set(order)) != len(order) or any(not 0 <= gpu < self.gpus for gpu in order):
            raise ValueError(
                f"topology {self.name}: order {order} is not made of different GPUs below {self.gpus}"
            )
        if order == tuple(range(self.gpus)):
            return self
        links = tuple(tuple(self.links[a][b] for b in order) for a in order)
        return Topology(self.name, self.kind, len(order), links, self.pcie_gigabytes_per_second, self.clique)


@dataclass(frozen=True, eq=False)
class ShareTables:
    """float32[2 ** gpus] by FREE bits: share of the best bandwidth that k GPUs get; nan where fewer than k
    are free.

    ``first_fit``: for the k lowest free bits. ``best``: for the best set among the free ones.
    """

    first_fit: NDArray[np.float32]
    best: NDArray[np.float32]


def nvswitch(model: GpuModel, gpus: int) -> Topology:
    """All GPUs behind NVSwitches: any pair at the GPU's full bandwidth."""
    return _uniform(f"{model.name} nvswitch", "nvswitch", model, gpus, _total(model))


def direct(model: GpuModel, gpus: int) -> Topology:
    """All-to-all without a switch: each GPU splits its links evenly among the others."""
    return _uniform(f"{model.name} direct", "direct", model, gpus, _total(model) / max(1, gpus - 1))


def bridges(model: GpuModel, gpus: int) -> Topology:
    """PCIe cards joined in pairs 0-1, 2-3, ... by NVLink bridges; an odd last card has none."""
    speed = _BRIDGE_GIGABYTES_PER_SECOND.get(model.name, _total(model))
    rows = [[speed if a // 2 == b // 2 and a != b else 0.0 for b in range(gpus)] for a in range(gpus)]
    return _topology(f"{model.name} bridges", "bridges", model, rows)


def cube_mesh(model: GpuModel, gpus: int = 8) -> Topology:
    """The hybrid cube mesh of a DGX-1V, or its first ``gpus`` GPUs. Raises ValueError for more than eight."""
    if not 1 <= gpus <= len(_CUBE_MESH_LINKS):
        raise ValueError(f"{model.name}: a cube mesh has 1 to {len(_CUBE_MESH_LINKS)} GPUs, got {gpus}")
    links = model.nvlink.links if model.nvlink is not None else 6
    per_link = _total(model) / links
    rows = [[per_link * _CUBE_MESH_LINKS[a].get(b, 0) for b in range(gpus)] for a in range(gpus)]
    return _topology(f"{model.name} cube-mesh", "cube-mesh", model, rows)


def pcie_only(model: GpuModel, gpus: int) -> Topology:
    """No NVLink at all."""
    return _uniform(f"{model.name} pcie", "pcie", model, gpus, 0.0)


def clique(model: GpuModel, gpus: int, clique_id: str) -> Topology:
    """A tray of a rack-scale NVLink domain (NVL72): switched inside the node, and beyond it within
    ``clique_id``.
    """
    inside = nvswitch(model, gpus)
    return Topology(inside.name, "nvswitch", gpus, inside.links, inside.pcie_gigabytes_per_second, clique_id)


def topology_for(model: GpuModel, gpus: int, labels: Mapping[str, str], product: str = "") -> Topology:
    """The topology of a node with ``gpus`` equal GPUs, from its labels, else from the product's form factor.

    The label ``slicewise.io/nvlink-topology`` (nvswitch, bridges, cube-mesh, direct, pcie) decides. Without
    it: a board with NVLink on the module (SXM, HBM3, B200, ...) has its usual wiring; PCIe cards have none,
    since a bridge cannot be guessed. An unknown label value, or links on a model without NVLink, counts as
    absent.
    """
    clique_id = labels.get(CLIQUE_LABEL)
    kind = labels.get(TOPOLOGY_LABEL, "").lower()
    if kind == "pcie" or model.nvlink is None:
        return pcie_only(model, gpus)
    if kind not in ("nvswitch", "bridges", "cube-mesh", "direct"):
        kind = _usual_wiring(model, gpus, product or labels.get("nvidia.com/gpu.product", ""))
    if kind == "nvswitch":
        return clique(model, gpus, clique_id) if clique_id else nvswitch(model, gpus)
    if kind == "bridges":
        return bridges(model, gpus)
    if kind == "cube-mesh" and gpus <= len(_CUBE_MESH_LINKS):
        return cube_mesh(model, gpus)
    if kind == "direct":
        return direct(model, gpus)
    return pcie_only(model, gpus)


def set_bandwidth(topology: Topology, gpus_bits: int) -> float:
    """GB/s of the slowest hop of the best ring through the set; infinite for fewer than two GPUs."""
    if gpus_bits.bit_count() < 2:
        return math.inf
    return float(_bandwidths(topology)[gpus_bits])


@lru_cache(maxsize=1024)
def islands(topology: Topology) -> tuple[int, ...]:
    """A partition into sets in which every pair has a direct link: largest first found, lowest GPUs first.

    A GPU without links is an island of its own.
    """
    left = (1 << topology.gpus) - 1
    linked = [speed > 0.0 for a, row in enumerate(topology.links) for b, speed in enumerate(row) if a != b]
    if all(linked):
        return (left,)
    if not any(linked):
        return tuple(1 << gpu for gpu in range(topology.gpus))
    cliques = _cliques(topology)
    found: list[int] = []
    while left:
        inside = [bits for bits in cliques if bits & left == bits]
        best = min(inside, key=lambda bits: (-bits.bit_count(), _low_bits(bits)))
        found.append(best)
        left &= ~best
    return tuple(sorted(found, key=lambda bits: bits & -bits))


@lru_cache(maxsize=65536)
def best_set(topology: Topology, free_bits: int, k: int) -> int | None:
    """The fastest set of k free GPUs; None when fewer are free.

    Among equally fast sets, the one that leaves the most link bandwidth among the GPUs that stay free; then
    lowest bits.
    """
    if k < 0 or free_bits.bit_count() < k:
        return None
    sets = [int(bits) for bits in _sets_of(topology.gpus, k) if int(bits) & free_bits == bits]
    inner = _inner_bandwidth(topology)
    return max(
        sets,
        key=lambda bits: (
            set_bandwidth(topology, bits),
            inner[free_bits & ~bits],
            [-b for b in _low_bits(bits)],
        ),
    )


@lru_cache(maxsize=1024)
def first_fit_order(topology: Topology) -> tuple[int, ...]:
    """The order of GPUs in which first-fit for 2, 4, 8, ... on the empty node meets good sets: halves of
    halves.
    """

    def order(bits: int) -> tuple[int, ...]:
        if bits.bit_count() < 2:
            return tuple(_low_bits(bits))
        half = best_set(topology, bits, 1 << ((bits.bit_count() - 1).bit_length() - 1)) or 0
        return order(half) + order(bits & ~half)

    return order((1 << topology.gpus) - 1)


def share(topology: Topology, chosen_bits: int) -> float:
    """Bandwidth of the chosen set against the best set of its size on the empty node, 0..1; 1 for fewer than
    two.
    """
    k = chosen_bits.bit_count()
    if k < 2:
        return 1.0
    return set_bandwidth(topology, chosen_bits) / _best_when_empty(topology, k)


@lru_cache(maxsize=4096)
def share_tables(topology: Topology, k: int) -> ShareTables:
    """Shares for every set of free GPUs, by free bits; k <= 1 gives 1 wherever k GPUs are free."""
    n_states = 1 << topology.gpus
    masks = np.arange(n_states, dtype=np.int64)
    first_fit = np.full(n_states, np.nan, dtype=np.float32)
    best = np.full(n_states, np.nan, dtype=np.float32)
    enough = np.bitwise_count(masks) >= k
    if k < 2:
        first_fit[enough] = best[enough] = 1.0
    elif k <= topology.gpus:
        bandwidths = _bandwidths(topology)
        top = _best_when_empty(topology, k)
        first_fit[enough] = (bandwidths[_lowest(masks, k, topology.gpus)] / top)[enough]
        reach = np.where(np.bitwise_count(masks) == k, bandwidths, 0.0)
        for bit in range(topology.gpus):
            upper = masks[(masks >> bit) & 1 == 1]
            reach[upper] = np.maximum(reach[upper], reach[upper ^ (1 << bit)])
        best[enough] = (reach / top)[enough]
    first_fit.setflags(write=False)
    best.setflags(write=False)
    return ShareTables(first_fit, best)


def _total(model: GpuModel) -> float:
    if model.nvlink is None:
        raise ValueError(f"GPU model {model.name} has no NVLink: use pcie_only")
    return model.nvlink.gigabytes_per_second


def _uniform(name: str, kind: Kind, model: GpuModel, gpus: int, speed: float) -> Topology:
    return _topology(
        name, kind, model, [[0.0 if a == b else speed for b in range(gpus)] for a in range(gpus)]
    )


def _topology(name: str, kind: Kind, model: GpuModel, rows: list[list[float]]) -> Topology:
    if not 1 <= len(rows) <= MOST_GPUS:
        raise ValueError(f"{name}: a node has 1 to {MOST_GPUS} GPUs, got {len(rows)}")
    links = tuple(tuple(row) for row in rows)
    return Topology(name, kind, len(rows), links, model.pcie_gigabytes_per_second)


def _usual_wiring(model: GpuModel, gpus: int, product: str) -> str:
    text = product.lower()
    if gpus < 2 or "pcie" in text or "nvl" in text or model.name == "A30-24GB":
        return "pcie"
    if model.name.startswith("P100"):
        return "pcie"  # the first cube mesh is wired in another way than the DGX-1V; not known here
    if model.name.startswith("V100"):
        return "nvswitch" if gpus > len(_CUBE_MESH_LINKS) or "sxm3" in text else "cube-mesh"
    if model.name.startswith(("A100", "H100-80", "H200")):
        return "direct" if gpus <= 4 else "nvswitch"
    if model.name.startswith(("GB", "B")):
        return "nvswitch"
    return "pcie"


@lru_cache(maxsize=1024)
def _bandwidths(topology: Topology) -> NDArray[np.float64]:
    """float64[2 ** gpus]: ring bandwidth of each set; infinite below two GPUs."""
    n = topology.gpus
    hops = [
        [max(topology.links[a][b], topology.pcie_gigabytes_per_second) if a != b else 0.0 for b in range(n)]
        for a in range(n)
    ]
    bandwidths = np.full(1 << n, topology.pcie_gigabytes_per_second, dtype=np.float64)
    sizes = np.bitwise_count(np.arange(1 << n))
    for floor in sorted({speed for row in hops for speed in row if speed > 0.0}):
        near = [sum(1 << b for b in range(n) if hops[a][b] >= floor) for a in range(n)]
        bandwidths[_has_ring(n, near)] = floor
    bandwidths[sizes < 2] = np.inf
    bandwidths.setflags(write=False)
    return bandwidths


def _has_ring(n: int, near: list[int]) -> NDArray[np.bool_]:
    """bool[2 ** n]: sets whose graph (``near[a]`` = neighbours of a) has a ring through all members.

    Held-Karp over sets: ``ends[s]`` holds the vertices at which a path can end that starts at the lowest
    member of s and visits all of s. A pair is a ring when it has the edge.
    """
    everyone = (1 << n) - 1
    if all(near[a] == everyone & ~(1 << a) for a in range(n)):
        return np.ones(1 << n, dtype=np.bool_)
    ends = [0] * (1 << n)
    ring = np.zeros(1 << n, dtype=np.bool_)
    for a in range(n):
        ends[1 << a] = 1 << a
    for members in range(1, 1 << n):
        lowest = (members & -members).bit_length() - 1
        reached = ends[members]
        if not reached:
            continue
        ring[members] = bool(reached & near[lowest])
        beyond = everyone & ~members & ~((1 << lowest) - 1)
        while beyond:
            vertex = beyond & -beyond
            beyond ^= vertex
            if reached & near[vertex.bit_length() - 1]:
                ends[members | vertex] |= vertex
    return ring


@lru_cache(maxsize=1024)
def _cliques(topology: Topology) -> tuple[int, ...]:
    """All sets in which every pair has a direct link, single GPUs included."""
    n = topology.gpus
    near = [sum(1 << b for b in range(n) if topology.links[a][b] > 0.0) for a in range(n)]
    is_clique = [True] * (1 << n)
    for members in range(1, 1 << n):
        lowest = members & -members
        rest = members ^ lowest
        is_clique[members] = is_clique[rest] and near[lowest.bit_length() - 1] & rest == rest
    return tuple(members for members in range(1, 1 << n) if is_clique[members])


@lru_cache(maxsize=1024)
def _inner_bandwidth(topology: Topology) -> NDArray[np.float64]:
    """float64[2 ** gpus]: sum of direct link bandwidth over the pairs inside each set."""
    inner = np.zeros(1 << topology.gpus, dtype=np.float64)
    masks = np.arange(1 << topology.gpus, dtype=np.int64)
    for a in range(topology.gpus):
        for b in range(a):
            inner += topology.links[a][b] * ((masks >> a) & (masks >> b) & 1)
    return inner


@lru_cache(maxsize=256)
def _sets_of(gpus: int, k: int) -> NDArray[np.int64]:
    masks = np.arange(1 << gpus, dtype=np.int64)
    sets: NDArray[np.int64] = masks[np.bitwise_count(masks) == k]
    return sets


def _best_when_empty(topology: Topology, k: int) -> float:
    return float(_bandwidths(topology)[_sets_of(topology.gpus, k)].max())


def _lowest(masks: NDArray[np.int64], k: int, gpus: int) -> NDArray[np.int64]:
    """The k lowest set bits of each mask."""
    kept = np.zeros_like(masks)
    for bit in range(gpus):
        take = ((masks >> bit) & 1 == 1) & (np.bitwise_count(kept) < k)
        kept[take] |= 1 << bit
    return kept


def _low_bits(bits: int) -> list[int]:
    return [i for i in range(bits.bit_length()) if bits >> i & 1]
