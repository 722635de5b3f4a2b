"""The policies of the autoscaling study by name: how each is made, what its own target is, where it ships.

``ships`` is the target of the ``default`` entry. In-flight targets of the HPA have no default: 0.8 of what a
replica serves at a time is what guides advise. The static policy has none either: 1.0 is the peak. The swept
targets are each policy's own: a share of the slots, a utilisation, a queue length, a factor, an objective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from simulator.autoscaling_demand import Demand, Ints
from simulator.autoscaling_policies.fixed import Clairvoyant, Static
from simulator.autoscaling_policies.hpa import HpaGpu, HpaInFlight
from simulator.autoscaling_policies.keda import KedaQueue
from simulator.autoscaling_policies.kpa import Kpa
from simulator.autoscaling_policies.ray_serve import DEFAULT_TARGET, RayServe
from simulator.autoscaling_policies.slicewise import Slicewise
from simulator.autoscaling_policies.wva import Wva
from simulator.autoscaling_policy import Autoscaler, Bounds
from simulator.autoscaling_server import ServerModel
from simulator.autoscaling_trace import Floats


@dataclass(frozen=True, slots=True)
class Setting:
    """The runs that a policy is made for: one value a run in each array."""

    bounds: Bounds
    server: ServerModel
    demand: Demand
    rows: Ints
    targets: Floats
    startup_seconds: Floats


@dataclass(frozen=True, slots=True)
class Entry:
    """``make`` a policy for a setting; ``ships`` its default target, ``sweep`` the targets tried with
    hindsight; ``target`` says what the number is.
    """

    make: Callable[[Setting], Autoscaler]
    ships: float
    sweep: tuple[float, ...]
    target: str

    @property
    def targets(self) -> tuple[float, ...]:
        """The targets to run, ascending, the shipped one among them."""
        return tuple(sorted({self.ships, *self.sweep}))


def _static(setting: Setting) -> Autoscaler:
    peak = setting.demand.needed.max(axis=0)[setting.rows]
    return Static(setting.bounds, setting.targets, peak)


def _clairvoyant(setting: Setting) -> Autoscaler:
    return Clairvoyant(setting.bounds, setting.targets, setting.demand, setting.rows, setting.startup_seconds)


_SHARES = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)

AUTOSCALERS: Mapping[str, Entry] = MappingProxyType(
    {
        "slicewise": Entry(
            lambda s: Slicewise.asked(s.bounds, s.targets, s.server.ttft_seconds, s.startup_seconds),
            0.99,
            (0.95, 0.999),
            "share of requests in time",
        ),
        "hpa-gpu": Entry(
            lambda s: HpaGpu(s.bounds, s.targets), 0.8, (0.5, 0.6, 0.7, 0.9, 0.95, 0.98), "GPU utilisation"
        ),
        "hpa-inflight": Entry(
            lambda s: HpaInFlight(s.bounds, s.targets), 0.8, _SHARES, "in flight, share of the slots"
        ),
        "keda-queue": Entry(
            lambda s: KedaQueue(s.bounds, s.targets),
            5.0,
            (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0),
            "waiting requests a replica",
        ),
        "kpa": Entry(lambda s: Kpa(s.bounds, s.targets), 0.7, _SHARES, "concurrency, share of the slots"),
        "wva": Entry(
            lambda s: Wva(s.bounds, s.targets),
            1.0,
            (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.2, 0.5),
            "factor of the saturation thresholds and triggers",
        ),
        "ray-serve": Entry(
            lambda s: RayServe(s.bounds, s.targets),
            DEFAULT_TARGET,
            (5.0, 8.0, 9.6, 11.2, 12.0, 12.8, 13.6, 14.4, 15.2),
            "ongoing requests a replica",
        ),
        "static": Entry(
            _static, 1.0, tuple(np.round(np.arange(0.4, 1.01, 0.05), 2).tolist()), "share of the peak"
        ),
        "clairvoyant": Entry(
            _clairvoyant,
            1.0,
            (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.94, 0.97, 1.03, 1.06, 1.1),
            "margin on what will be needed",
        ),
    }
)
