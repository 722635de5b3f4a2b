"""Which GPU models exist, how MIG may cut them, what power and which links they have.

The numbers are data, not code: ``data/gpu_models.json`` holds each model with the source of its placements
and a mark on every other fact. A model whose placements nobody has seen has ``units == 1`` and no profiles:
it is handled as a whole GPU until a driver publishes its placements. Profile names mean different things on
different models (1g.35gb is one slice on a GB300 and a double-memory slice on an H200), so a profile is
always looked up through its model.

Sources: NVIDIA MIG user guide, captured ``nvidia-smi mig -lgipp`` and ResourceSlices, named per model in the
file. Does not decide whether instances fit together: see ``dra.mig``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class MigProfile:
    """A GPU-instance profile of one model; ``size`` and ``starts`` are in units of the model's memory grid.

    ``capacities`` holds what one instance takes, by NVIDIA's counter names ("multiprocessors",
    "ofa-engines", ..., and "memory_mib"), as far as seen. ``inferred`` marks a placement that was concluded
    from a sister model.
    """

    name: str
    profile_id: int | None
    compute_slices: int
    memory_gb: int
    size: int
    starts: tuple[int, ...]
    max_instances: int
    media: bool
    capacities: tuple[tuple[str, int], ...] = ()
    inferred: bool = False

    @property
    def plain(self) -> bool:
        """True without a suffix (+me, +gfx, -me, ...): such profiles differ in space only."""
        return "+" not in self.name and "-" not in self.name


@dataclass(frozen=True, slots=True)
class NvlinkSpec:
    """NVLink of one GPU; ``gigabytes_per_second`` is the total of all links, both directions."""

    generation: int
    links: int
    gigabytes_per_second: float


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One GPU model. ``units`` is the MIG memory grid (4, 8, 12), or 1 where no placements are known.

    ``pcie_gigabytes_per_second`` counts both directions, as NVLink numbers do.
    """

    name: str
    memory_mib: int
    units: int
    compute_slices: int
    profiles: tuple[MigProfile, ...]
    placement_status: str
    idle_watts: float
    peak_watts: float
    nvlink: NvlinkSpec | None
    pcie_gigabytes_per_second: float
    products: tuple[str, ...]
    sources: tuple[str, ...]
    architecture: str = ""

    def __hash__(self) -> int:
        # Models are keys of many tables; hashing all fields each time would cost more than the look-up.
        return hash((self.name, self.units, len(self.profiles)))

    def profile(self, name: str) -> MigProfile | None:
        """The profile of that name, or None."""
        for candidate in self.profiles:
            if candidate.name == name:
                return candidate
        return None


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """A product string that the catalogue does not have."""

    product: str


# A GPU of an unknown model still has to be priced. These are the numbers of a mid-range PCIe card.
_UNKNOWN_IDLE_WATTS = 30.0
_UNKNOWN_PEAK_WATTS = 300.0
_UNKNOWN_PCIE_GIGABYTES_PER_SECOND = 32.0


@lru_cache(maxsize=1)
def models() -> Mapping[str, GpuModel]:
    """All models of the catalogue by name, in the order of the file; read once."""
    document = msgspec.json.decode(files("dra").joinpath("data/gpu_models.json").read_bytes())
    return MappingProxyType({name: _model(name, entry) for name, entry in document["models"].items()})


@lru_cache(maxsize=4096)
def find_model(product: str) -> GpuModel | UnknownModel:
    """The model for a product string: NVML's name, a GPU-feature-discovery label, or our own model name."""
    return _by_product().get(_normal(product), UnknownModel(product))


@lru_cache(maxsize=1024)
def whole_gpu_model(product: str, memory_mib: int) -> GpuModel:
    """A stand-in for a product that the catalogue does not have: one unit, no MIG, no NVLink."""
    return GpuModel(
        name=product,
        memory_mib=memory_mib,
        units=1,
        compute_slices=1,
        profiles=(),
        placement_status="unknown model: handled as a whole GPU",
        idle_watts=_UNKNOWN_IDLE_WATTS,
        peak_watts=_UNKNOWN_PEAK_WATTS,
        nvlink=None,
        pcie_gigabytes_per_second=_UNKNOWN_PCIE_GIGABYTES_PER_SECOND,
        products=(product,),
        sources=("not in the catalogue; power and PCIe are assumed",),
    )


@lru_cache(maxsize=1)
def _by_product() -> Mapping[str, GpuModel]:
    table: dict[str, GpuModel] = {}
    for model in models().values():
        for name in (model.name, *model.products):
            table[_normal(name)] = model
    return table


def _normal(product: str) -> str:
    """One spelling for "NVIDIA A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB-SHARED" and "...-MIG-1g.10gb"."""
    text = "-".join(product.split()).lower()
    text = text.removesuffix("-shared").split("-mig-")[0]
    return text.removeprefix("mock-")


def _model(name: str, entry: Mapping[str, Any]) -> GpuModel:
    nvlink = entry["nvlink"]
    marks = [f"{fact}: {source}" for fact, source in entry["fact_sources"].items()]
    if nvlink is not None:
        marks.append(f"nvlink: {nvlink['source']}")
    return GpuModel(
        name=name,
        memory_mib=entry["memory_mib"],
        units=entry["units"],
        compute_slices=entry["compute_slices"],
        profiles=tuple(_profile(item) for item in entry["profiles"]),
        placement_status=entry["placement_status"],
        idle_watts=float(entry["idle_watts"]),
        peak_watts=float(entry["peak_watts"]),
        nvlink=None
        if nvlink is None
        else NvlinkSpec(nvlink["generation"], nvlink["links"], float(nvlink["gigabytes_per_second"])),
        pcie_gigabytes_per_second=float(entry["pcie_gigabytes_per_second"]),
        products=tuple(entry["products"]),
        sources=(*entry["sources"], *marks),
        architecture=entry["architecture"],
    )


def _profile(item: Mapping[str, Any]) -> MigProfile:
    return MigProfile(
        name=item["name"],
        profile_id=item["profile_id"],
        compute_slices=item["compute_slices"],
        memory_gb=item["memory_gb"],
        size=item["size"],
        starts=tuple(item["starts"]),
        max_instances=item["max_instances"],
        media=item["media"],
        capacities=tuple(item.get("capacities", {}).items()),
        inferred="inferred_from" in item,
    )
