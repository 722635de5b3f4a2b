"""What is left of a pool's counters while devices are taken and given back (KEP-4815, partitionable devices).

Free = the sets' values minus what the already allocated devices consume, also those on slices for other
nodes. As upstream, one overdrawn counter anywhere in a pool blocks every device of that pool that consumes
counters.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from dra.pools import Pool, consumed
from dra.resource_api import Device

_Key = tuple[str, str, str, str]


class CounterLedger:
    """Free counters by driver, pool, set and counter name."""

    def __init__(self) -> None:
        self._free: dict[_Key, Fraction] = {}
        self._overdrawn: set[tuple[str, str]] = set()

    def open(self, pool: Pool, allocated: Iterable[Device]) -> None:
        """Enter a pool with the devices of it that others hold."""
        for set_name, counters in pool.counters.items():
            for counter, value in counters.items():
                self._free[pool.driver, pool.name, set_name, counter] = value
        for device in allocated:
            for set_name, counter, value in consumed(device):
                key = (pool.driver, pool.name, set_name, counter)
                self._free[key] -= value
                if self._free[key] < 0:
                    self._overdrawn.add((pool.driver, pool.name))

    def suffice(self, pool: Pool, device: Device) -> bool:
        """Whether the device can be taken now."""
        if not device.consumes_counters:
            return True
        return (pool.driver, pool.name) not in self._overdrawn and all(
            self._free[pool.driver, pool.name, set_name, counter] >= value
            for set_name, counter, value in consumed(device)
        )

    def take(self, pool: Pool, device: Device) -> None:
        """Consume what the device consumes."""
        for set_name, counter, value in consumed(device):
            self._free[pool.driver, pool.name, set_name, counter] -= value

    def give_back(self, pool: Pool, device: Device) -> None:
        """Undo ``take``."""
        for set_name, counter, value in consumed(device):
            self._free[pool.driver, pool.name, set_name, counter] += value
