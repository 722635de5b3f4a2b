"""What is left of a pool's counters while devices are taken and given back (KEP-4815, partitionable devices).

Free = the sets' values minus what the already allocated devices consume, also those on slices for other
nodes (``checkAvailableCounters`` of k8s.io/dynamic-resource-allocation 1.36). As upstream, one overdrawn
counter anywhere in a pool blocks every device of that pool that consumes counters, and the books are kept
by **pool name alone**: of two drivers whose pools have one name, the first that is asked for defines the
counters, and what the other consumes counts only where its sets and counters have the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from dra.allocation import DeviceId
from dra.pools import Pool, consumed
from dra.resource_api import Device

_Counters = dict[tuple[str, str], Fraction]


class CounterLedger:
    """Free counters by pool name, then by set and counter name."""

    def __init__(self, held: Callable[[DeviceId], bool]) -> None:
        """``held`` tells whether others hold a device."""
        self._held = held
        self._free: dict[str, _Counters] = {}
        self._overdrawn: set[str] = set()

    def reserve(self, pool: Pool, device: Device) -> bool:
        """Consume what the device consumes, or return False and change nothing."""
        free = self._free.get(pool.name)
        if free is None:
            free = self._free[pool.name] = self._opened(pool)
        # Others' counters were not exceeded when they were reserved, so only the device's own can be now.
        if pool.name in self._overdrawn:
            return False
        needed: _Counters = {}
        for set_name, counter, value in consumed(device):
            key = (set_name, counter)
            needed[key] = needed.get(key, Fraction(0)) + value
        if any(free[key] < value for key, value in needed.items() if key in free):
            return False
        for key, value in needed.items():
            if key in free:
                free[key] -= value
        return True

    def give_back(self, pool: Pool, device: Device) -> None:
        """Undo ``reserve``."""
        free = self._free[pool.name]
        for set_name, counter, value in consumed(device):
            if (set_name, counter) in free:
                free[set_name, counter] += value

    def _opened(self, pool: Pool) -> _Counters:
        free = {
            (set_name, counter): value
            for set_name, counters in pool.counters.items()
            for counter, value in counters.items()
        }
        for item in (*pool.slices, *pool.elsewhere):
            for device in item.spec.devices:
                if self._held(DeviceId(pool.driver, pool.name, device.name)):
                    for set_name, counter, value in consumed(device):
                        free[set_name, counter] -= value
        if any(value < 0 for value in free.values()):
            self._overdrawn.add(pool.name)
        return free
