"""Resource slices kept small: hardware that many nodes share is stored once.

A slice of a MIG-capable GPU lists some 26 devices, 70 KiB when decoded; 45,000 of them fit in no
scheduler's memory. Nodes of one kind publish the same devices but for UUIDs, so a slice is kept as a digest
of its devices with the UUIDs taken out, plus those UUIDs. The devices themselves are stored once per
digest, packed, and the inventory made of them once per sequence of digests; a node's own inventory is that
one with the node's names put in. Pure.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from dra.inventory import NodeInventory, from_slices
from dra.nvlink import CLIQUE_LABEL, TOPOLOGY_LABEL
from dra.resource_api import CounterSet, Device, ObjectMeta, ResourcePool, ResourceSlice, ResourceSliceSpec

# NVML's identifiers of GPUs and MIG instances, wherever they stand as a string attribute. Begins with literal
# text on purpose: the search is eight times faster. One that looks otherwise only means less sharing.
_UUID = re.compile(rb'":\{"string":"([GM][PI][UG]-[^"]+)"')
_MOST_TEMPLATES = 4096
_LABELS = (TOPOLOGY_LABEL, CLIQUE_LABEL, "nvidia.com/gpu.product")


class LeanSliceSpec(msgspec.Struct, rename="camel", frozen=True):
    """ResourceSliceSpec with devices and counters left as JSON."""

    driver: str = ""
    pool: ResourcePool = ResourcePool()
    node_name: str | None = None
    devices: msgspec.Raw = msgspec.Raw(b"[]")
    shared_counters: msgspec.Raw = msgspec.Raw(b"[]")


class LeanSlice(msgspec.Struct, rename="camel", frozen=True):
    """A ResourceSlice as the watch delivers it here."""

    metadata: ObjectMeta = ObjectMeta()
    spec: LeanSliceSpec = LeanSliceSpec()


class _Content(msgspec.Struct, rename="camel", frozen=True):
    devices: tuple[Device, ...] = ()
    shared_counters: tuple[CounterSet, ...] = ()


_CONTENT = msgspec.json.Decoder(_Content)


@dataclass(frozen=True, slots=True)
class SliceFact:
    """What is kept of one slice. ``uuids`` in order of first appearance."""

    name: str
    node: str
    driver: str
    pool: ResourcePool
    digest: bytes
    uuids: tuple[str, ...]


def lean(item: ResourceSlice) -> LeanSlice:
    """The lean form of a slice that was decoded whole."""
    spec = item.spec
    encode = msgspec.json.Encoder(order="deterministic").encode
    return LeanSlice(
        item.metadata,
        LeanSliceSpec(
            spec.driver,
            spec.pool,
            spec.node_name,
            msgspec.Raw(encode(spec.devices).replace(b'"int":null,"bool":null,', b"")),
            msgspec.Raw(encode(spec.shared_counters)),
        ),
    )


class SliceStore:
    """Packed devices by digest, and inventories by sequence of digests."""

    def __init__(self) -> None:
        self._packed: dict[bytes, bytes] = {}
        self._templates: OrderedDict[tuple[object, ...], NodeInventory | None] = OrderedDict()

    def fact(self, item: LeanSlice) -> SliceFact:
        """Take a slice in. Raises nothing: JSON that does not decode is found when the inventory is made."""
        devices, counters = bytes(item.spec.devices), bytes(item.spec.shared_counters)
        found = tuple(dict.fromkeys(_UUID.findall(devices)))
        for index, uuid in enumerate(found):
            devices = devices.replace(b'"%b"' % uuid, b'"@uuid-%d@"' % index)
        body = b'{"devices":%b,"sharedCounters":%b}' % (devices or b"[]", counters or b"[]")
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if digest not in self._packed:
            self._packed[digest] = zlib.compress(body, 6)
        return SliceFact(
            name=item.metadata.name,
            node=item.spec.node_name or "",
            driver=item.spec.driver,
            pool=item.spec.pool,
            digest=digest,
            uuids=tuple(uuid.decode() for uuid in found),
        )

    def inventory(
        self, node: str, facts: Sequence[SliceFact], labels: Mapping[str, str]
    ) -> NodeInventory | None:
        """The inventory of a node from its slices and labels (``dra.inventory.from_slices``)."""
        ordered = sorted(facts, key=lambda fact: fact.name)
        hints = {label: labels[label] for label in _LABELS if label in labels}
        # What tells two nodes apart but for names: pools by rank, generations relative to the newest.
        pools = sorted({fact.pool.name for fact in ordered})
        newest = max((fact.pool.generation for fact in ordered), default=0)
        places = tuple(
            (
                fact.driver,
                pools.index(fact.pool.name),
                fact.pool.generation - newest,
                fact.pool.resource_slice_count,
            )
            for fact in ordered
        )
        key = (tuple(hints.items()), places, tuple(fact.digest for fact in ordered))
        if key not in self._templates:
            self._templates[key] = self._template(places, ordered, hints)
            if len(self._templates) > _MOST_TEMPLATES:
                self._templates.popitem(last=False)
        self._templates.move_to_end(key)
        template = self._templates[key]
        if template is None or template.pool is None:
            return None
        real = {
            f"@uuid-{position}-{index}@": uuid
            for position, fact in enumerate(ordered)
            for index, uuid in enumerate(fact.uuids)
        }
        return replace(
            template,
            node=node,
            pool=pools[int(template.pool)],
            gpus=tuple(replace(gpu, uuid=real.get(gpu.uuid, gpu.uuid)) for gpu in template.gpus),
            shared=tuple(replace(gpu, uuid=real.get(gpu.uuid, gpu.uuid)) for gpu in template.shared),
        )

    def forget_unused(self, live: set[bytes]) -> None:
        """Drop packed devices that no slice refers to any more."""
        for digest in self._packed.keys() - live:
            del self._packed[digest]

    def __len__(self) -> int:
        return len(self._packed)

    def _template(
        self,
        places: Sequence[tuple[str, int, int, int]],
        facts: Sequence[SliceFact],
        labels: Mapping[str, str],
    ) -> NodeInventory | None:
        slices = []
        for position, (fact, (driver, pool, age, count)) in enumerate(zip(facts, places, strict=True)):
            # Placeholders number the UUIDs of one slice; here they are told apart between slices.
            body = zlib.decompress(self._packed[fact.digest]).replace(b'"@uuid-', b'"@uuid-%d-' % position)
            try:
                content = _CONTENT.decode(body)
            except msgspec.DecodeError:
                # Not a slice as resource.k8s.io/v1 has it: its pool counts as incomplete.
                continue
            slices.append(
                ResourceSlice(
                    metadata=ObjectMeta(name=f"{position:06d}"),
                    spec=ResourceSliceSpec(
                        driver=driver,
                        pool=ResourcePool(name=str(pool), generation=age, resource_slice_count=count),
                        node_name="node",
                        devices=content.devices,
                        shared_counters=content.shared_counters,
                    ),
                )
            )
        return from_slices("node", slices, labels)
