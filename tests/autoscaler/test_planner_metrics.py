"""What the planner's solver answered is counted, also when it answered nothing."""

import time

from autoscaler.fleet_side import _Observer
from metrics.exposition import Exposition
from metrics.label_values import PLAN_SOLVES
from scheduler.packing.plan_solve import solve_plan
from tests.scheduler.test_plan_packing import whole_problem


def counted(exposition: Exposition) -> dict[str, float]:
    return {
        status: exposition.registry.get_sample_value("slicewise_planner_solves_total", {"status": status})
        or 0.0
        for status in PLAN_SOLVES
    }


def test_answers_of_the_solver_are_counted_by_their_status():
    exposition = Exposition("controller", "1")
    observer = _Observer(exposition, recorder=None)
    answer = solve_plan(whole_problem(4, [(2, 2)]), 5.0, time.monotonic)
    observer.solved(answer)
    observer.solved(None)
    assert counted(exposition) == {**dict.fromkeys(PLAN_SOLVES, 0), answer.status: 1, "none": 1}
