"""Notices when something that all prices depend on has changed: policy, price tables, intensities, kinds of
hardware.

``world()`` costs a few comparisons while nothing changes. ``epoch`` counts the changes: vectors computed in
an older epoch are stale as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cluster.policy import ClusterPolicy
from metrics.carbon.intensity import Intensity
from metrics.interference import Pair
from metrics.samples import NoData
from scheduler.fleet import Fleet
from scheduler.node_classes import classifier_of
from scheduler.packing.prices import PriceTables
from scheduler.scoring.context import World, hour_by_model
from scheduler.scoring.interference import Rates, concerns, slowdowns
from scheduler.scoring.tables import state_values


class WorldKeeper:
    """Holds the ``World`` in force. Called with the fleet's lock held."""

    def __init__(
        self,
        fleet: Fleet,
        policy: Callable[[], ClusterPolicy],
        tables: Callable[[], PriceTables],
        carbon: Callable[[], Mapping[str, Intensity]],
        clock: Callable[[], float],
        learned: Callable[[], Mapping[Pair, float]],
    ) -> None:
        self.epoch = 0
        self._fleet = fleet
        self._policy, self._tables, self._carbon, self._clock = policy, tables, carbon, clock
        self._learned = learned
        self._slowdowns: tuple[Mapping[Pair, float], int] = ({}, -1)
        self._world: World | None = None
        self._hardware: tuple[int, int, int] = (-1, -1, -1)
        self._layout_generation = -1
        self._kinds: frozenset[str] = frozenset()

    def world(self) -> World:
        """The world as it is now."""
        fleet, old = self._fleet, self._world
        policy, tables = self._policy(), self._tables()
        grams, kinds = self._grams()
        learned = self._learned()
        if old is None or policy is not old.policy:
            fleet.classify(classifier_of(policy))
        hardware = (len(fleet.hardware.models), fleet.columns.gpus, len(fleet.profiles))
        if (
            old is not None
            and policy is old.policy
            and tables is old.tables
            and grams == old.grams_per_kwh
            and kinds == self._kinds
            and hardware == self._hardware
            and learned is self._slowdowns[0]
            and len(fleet.companies.classes) == self._slowdowns[1]
        ):
            if fleet.layout_generation == self._layout_generation:
                return old
            self._layout_generation = fleet.layout_generation
            if self._gap(policy, grams, kinds) == old.intensity_gap:
                return old
        self._layout_generation = fleet.layout_generation
        self._hardware, self._kinds = hardware, kinds
        interference = self._interference(policy, learned)
        self._slowdowns = (learned, len(fleet.companies.classes))
        self._world = World(
            policy=policy,
            tables=tables,
            values=state_values(tables, fleet.hardware.models, fleet.columns.gpus, fleet.profiles.values),
            grams_per_kwh=grams,
            intensity_gap=self._gap(policy, grams, kinds),
            hour_by_model=hour_by_model(policy, fleet.hardware),
            hardware=fleet.hardware,
            profiles=fleet.profiles,
            zones=fleet.zones,
            assets=fleet.assets,
            interference=interference,
        )
        self.epoch += 1
        return self._world

    def _interference(self, policy: ClusterPolicy, learned: Mapping[Pair, float]) -> Rates | NoData:
        known = slowdowns(policy.interference, learned)
        # Who stands beside whom is kept only while somebody asks.
        self._fleet.watch_neighbours(concerns(policy, learned))
        return known if isinstance(known, NoData) else Rates(known, self._fleet.companies)

    def _grams(self) -> tuple[dict[str, float], frozenset[str]]:
        now = self._clock()
        valid = {zone: i for zone, i in self._carbon().items() if i.valid_until_seconds > now}
        return {zone: i.grams_per_kwh for zone, i in valid.items()}, frozenset(i.kind for i in valid.values())

    def _gap(self, policy: ClusterPolicy, grams: Mapping[str, float], kinds: frozenset[str]) -> NoData | None:
        """Why the carbon term cannot be computed for every GPU node, or None."""
        if policy.carbon.provider == "none":
            return NoData("the policy names no carbon provider", "misconfigured")
        if len(kinds) > 1:
            return NoData("average and marginal intensities cannot be compared", "misconfigured")
        fleet = self._fleet
        columns = fleet.view()
        gpu_rows = columns.valid & (columns.row_model >= 0)
        zones = columns.zone_id[gpu_rows]
        nowhere = int((zones < 0).sum())
        if nowhere:
            return NoData(
                f"{nowhere} GPU node(s) stand in no known grid zone "
                f"(node label {policy.carbon.region_label})",
                "misconfigured",
            )
        names = [fleet.zones.values[zone] for zone in np.unique(zones).tolist()]
        missing = [name for name in names if name not in grams]
        if missing:
            return NoData(f"no carbon intensity for grid zone(s) {', '.join(sorted(missing))}", "empty")
        return None
