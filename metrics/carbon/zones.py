"""Which grid zone a cloud region lies in: the value of a node's region label -> the provider's zone id.

The table is data (``data/zones.json``) and anybody's maps disagree at the edges, so the policy's
``carbon.regions`` always wins. A region that nobody mapped has no zone: guessing one would price a node by
another country's grid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from metrics.samples import NoData


def zone_of(region: str, overrides: Mapping[str, str], provider: str = "electricity-maps") -> str | NoData:
    """Zone id of ``region`` for ``provider``. Providers ``static`` and ``file`` use Electricity Maps' ids."""
    zone = overrides.get(region) or known_zones(provider).get(region)
    if zone is None:
        return NoData(
            f"no grid zone is known for region {region!r}; name one in carbon.regions", "misconfigured"
        )
    return zone


@lru_cache(maxsize=8)
def known_zones(provider: str) -> Mapping[str, str]:
    """The shipped table for ``provider``; empty for a provider without one."""
    text = files("metrics.carbon").joinpath("data/zones.json").read_text(encoding="utf-8")
    schemes = json.loads(text)["schemes"]
    scheme = "electricity-maps" if provider in ("static", "file") else provider
    return {str(region): str(zone) for region, zone in schemes.get(scheme, {}).items()}
