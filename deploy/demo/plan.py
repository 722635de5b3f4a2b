"""Everything that is decided before either side starts: fleet, arrivals, load, sizes, clock.

Both sides get the same ``DemoPlan``, so that they cannot differ by accident. Pure but for reading the two
data files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.demo.arrivals import Arrival, read_rows, schedule
from deploy.demo.fleet import DemoNode, capacity, demo_fleet
from deploy.demo.llm_load import FULL_WINDOW_SECONDS, read_requests, static_replicas
from deploy.demo.llm_model import LlmRequest, ServerSpeed
from deploy.demo.measure import Mix, expected_mix
from deploy.demo.workload import LLM_PROFILE, LLM_UNITS

DATA = Path(__file__).parent / "data"
PER_REPLICA = 14
"""Requests in flight that the autoscaler wants on a replica of 16 slots."""
LLM_SPARE_REPLICAS = 2
LEAD_SECONDS = 8.0
"""Seconds before the first arrival in which the LLM replicas come up."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Times are seconds since the start of a side's clock; the run ends at ``end_seconds``."""

    seed: int
    window_seconds: float
    end_seconds: float
    nodes: tuple[DemoNode, ...]
    arrivals: tuple[Arrival, ...]
    requests: tuple[LlmRequest, ...]
    speed: ServerSpeed
    mix: Mix
    static_replicas: int
    max_replicas: int
    peak_share: float


def make_plan(seed: int, window_seconds: float = FULL_WINDOW_SECONDS, peak_share: float = 0.93) -> DemoPlan:
    """The plan for a seed. Arrivals fill ``window_seconds``; the LLM's hour is squeezed into the same
    window. A window below the full one takes fewer pods and requests, so that both come as fast.
    """
    nodes = demo_fleet()
    speed = ServerSpeed()
    text = (DATA / "azure_conv_cut.csv").read_text()
    requests = read_requests(text, window_seconds=window_seconds)
    static = static_replicas(requests, speed, window_seconds=window_seconds, per_replica=speed.slots)
    units = capacity(nodes)
    # Room for the LLM with the autoscaler's spare slots is not given to others: what is asked stays below
    # what is there, on both sides.
    units["mig-80gb"] -= (static + LLM_SPARE_REPLICAS) * LLM_UNITS
    rows = read_rows((DATA / "openb_cut.csv").read_text())
    arrivals = schedule(
        rows[: max(1, round(len(rows) * min(1.0, window_seconds / FULL_WINDOW_SECONDS)))],
        seed=seed,
        window_seconds=window_seconds,
        capacity=units,
        peak_share=peak_share,
    )
    mix = expected_mix(arrivals, {"mig-80gb": {LLM_PROFILE: float(LLM_UNITS * static)}})
    return DemoPlan(
        seed=seed,
        window_seconds=window_seconds,
        end_seconds=window_seconds + 5.0,
        nodes=nodes,
        arrivals=arrivals,
        requests=requests,
        speed=speed,
        mix=mix,
        static_replicas=static,
        max_replicas=2 * static,
        peak_share=peak_share,
    )
