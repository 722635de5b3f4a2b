"""The grid under a workload: the mean intensity of the zones that its pods' nodes stand in, pod by pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metrics.carbon.intensity import Intensity
from metrics.samples import NoData
from scheduler.fleet import Fleet


def grid_under(fleet: Fleet, current: Mapping[str, Intensity], nodes: Sequence[str]) -> float | NoData:
    """g/kWh of pods on ``nodes`` (each counts as often as it is named); NoData where a zone is not known."""
    grams = []
    with fleet.lock:
        columns, zones = fleet.columns, fleet.zones.values
        places = [int(columns.zone_id[fleet.rows[node]]) for node in nodes if node in fleet.rows]
        names = [zones[place] if place >= 0 else None for place in places]
    for name in names:
        found = None if name is None else current.get(name)
        if found is None:
            return NoData(f"the intensity of grid zone {name or 'unknown'} is not known", "empty")
        grams.append(found.grams_per_kwh)
    if not grams:
        return NoData("no pod has a node yet", "empty")
    return sum(grams) / len(grams)
