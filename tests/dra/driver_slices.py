"""The slices that our driver publishes for cards, as the scheduler reads them."""

from __future__ import annotations

from dra.driver.devices import Circumstances
from dra.driver.hardware import assign_numbers, hardware
from dra.driver.sharing import Sharing, parse_sharing
from dra.driver.slice_plan import plan, pool_name, wanted
from dra.resource_api import slices_from_json
from tests.dra.memory_cards import VERSIONS


def driver_documents(name, *cards, shared=(), version="1.35+"):
    """JSON of the slices. ``shared``: rules of the sharing file."""
    sharing = parse_sharing({"gpus": list(shared)}, "test") if shared else Sharing()
    node = hardware(cards, assign_numbers({}, cards, ()), sharing, {})
    now = Circumstances(occupied={}, held=(), tables={}, unhealthy_since={}, versions=VERSIONS)
    found = plan(wanted(name, node, now, version), {}, node=name, pool=pool_name(name), owner=None)
    return list(found.creates)


def driver_slices(name, *cards, shared=(), version="1.35+"):
    """The same, decoded."""
    return slices_from_json(driver_documents(name, *cards, shared=shared, version=version))
