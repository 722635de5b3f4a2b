"""Every policy of the autoscaling study on committed traces with fixed seeds: the same figures as ever.

What each case is stands in ``CASES``; every policy runs at its least, its shipped and its highest target.
The figures are those of each run, not means, so that one decision taken otherwise shows. Whoever means to
change a policy or the simulation writes them anew: ``python -m tests.simulator.test_autoscaling_fixed_seed``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from simulator.autoscaling_faults import FAULTS
from simulator.autoscaling_registry import AUTOSCALERS
from simulator.autoscaling_run import Outcome
from simulator.autoscaling_server import DEFAULT_MODEL, read_server
from simulator.autoscaling_study import FIRST_SEED, Asked, study
from simulator.autoscaling_trace import read_trace
from tests.simulator.autoscaling_cases import TRACES

FIGURES = Path(__file__).with_name("autoscaling_fixed_seed.json")
SEEDS = (FIRST_SEED, FIRST_SEED + 1)


@dataclass(frozen=True, slots=True)
class Case:
    """One study: a trace's first ``hours``, a start-up time, faults, the age of the metrics."""

    trace: str
    model: str | None
    hours: float
    startup_seconds: float
    faults: tuple[str, ...] = ()
    metric_delay_seconds: float = 0.0


CASES = {
    "windows": Case("servegen_aggregate_10min", "deepseek-r1", 1.0, 120.0),
    "requests": Case("azure2023_code", None, 0.2, 30.0),
    "faults": Case("servegen_aggregate_10min", "m-large", 1.0, 300.0, FAULTS, 5.0),
}


def figures(case: Case) -> dict[str, dict[str, dict[str, list[float]]]]:
    """By policy, target and figure the values of each seed, 12 digits of each."""
    asked = Asked(
        trace=read_trace(TRACES / f"{case.trace}.csv.gz", case.model, case.hours),
        server=read_server(DEFAULT_MODEL),
        targets={
            name: tuple(sorted({entry.targets[0], entry.ships, entry.targets[-1]}))
            for name, entry in AUTOSCALERS.items()
        },
        seeds=SEEDS,
        faults=case.faults,
        metric_delay_seconds=case.metric_delay_seconds,
    )
    (found,) = study(asked, (case.startup_seconds,))
    return {
        name: {f"{target:g}": _values(outcome) for target, outcome in by_target.items()}
        for name, by_target in found.outcomes.items()
    }


def _values(outcome: Outcome) -> dict[str, list[float]]:
    return {
        field.name: [float(f"{value:.12g}") for value in getattr(outcome, field.name).tolist()]
        for field in fields(Outcome)
    }


@pytest.mark.parametrize("name", CASES)
def test_fixed_seeds_give_the_figures_that_they_always_gave(name):
    expected = json.loads(FIGURES.read_text(encoding="utf-8"))[name]
    found = figures(CASES[name])
    assert list(found) == list(expected)
    for policy, by_target in expected.items():
        for target, values in by_target.items():
            for figure, numbers in values.items():
                got = found[policy][target][figure]
                assert got == pytest.approx(numbers, rel=1e-9, abs=1e-9), f"{policy} at {target}: {figure}"


def main() -> None:
    """Write the figures of the present code."""
    lines = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(
            f"  {json.dumps(policy)}: {json.dumps(values)}" for policy, values in figures(case).items()
        )
        + "\n}"
        for name, case in CASES.items()
    ]
    FIGURES.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
