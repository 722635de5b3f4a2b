"""The MIG benchmarks around the runs themselves: timelines of pods, and the page written from the files."""

import msgspec
import numpy as np
import pytest

from benchmarks.mig_bound import Pair
from benchmarks.mig_jobs import Jobs, figures
from benchmarks.mig_on_cluster import summary
from benchmarks.mig_page import numbers
from cluster.wire import Pod
from dra.catalog import models
from scheduler.packing.mig_space import memory_space
from simulator.mig_arrivals import Arrivals


def pod(name, node="", nominated="", refused=False):
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}] if refused else []
    return msgspec.convert(
        {
            "metadata": {"name": name},
            "spec": {"nodeName": node},
            "status": {"nominatedNodeName": nominated, "conditions": conditions},
        },
        Pod,
    )


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def jobs():
    found = Jobs({"job-00000": 2.0, "job-00001": 3.0}, Clock())
    for number in (0, 1):
        name = f"job-0000{number}"
        found.created[name] = 0.0
        found.profile[name] = "1g.10gb"
    found.unhindered.add("job-00000")
    return found


def test_each_step_counts_when_it_was_first_seen(jobs):
    for at, seen in (
        (0.02, pod("job-00000", refused=True)),
        (0.05, pod("job-00000", nominated="a", refused=True)),
        (0.06, pod("job-00000", nominated="b")),
        (0.10, pod("job-00000", node="b")),
        (0.20, pod("job-00000", node="b")),
    ):
        jobs.clock.now = at
        jobs.changed("MODIFIED", seen)
    assert (jobs.refused, jobs.nominated, jobs.bound) == (
        {"job-00000": 0.02},
        {"job-00000": 0.05},
        {"job-00000": 0.10},
    )
    assert jobs.endings == [(2.1, "job-00000")]
    assert jobs.waiting() == ["job-00001"]


def test_figures_count_what_was_bound_and_time_only_the_unhindered(jobs):
    jobs.clock.now = 0.1
    jobs.changed("MODIFIED", pod("job-00000", node="a"))
    jobs.given_up.add("job-00001")
    options = type("Options", (), {"profiles": ["1g.10gb"], "nodes": 1, "gpus": 1, "speed": 10.0})
    arrivals = Arrivals(at=(0.0, 0.0), profile=(0, 0), seconds=(20.0, 30.0))
    found = figures(options, arrivals, jobs, 4.0, "")
    assert found["mean_scheduling_milliseconds"] == pytest.approx(100.0)
    assert (found["accepted"], found["accepted_percent"]) == (1, 50.0)
    assert found["mean_wait_seconds"] == pytest.approx(1.0)
    assert found["gpc_utilisation_percent"] == pytest.approx(100 * 20 / (7 * 40), abs=0.01)
    assert found["slowest"] == [{"pod": "job-00000", "profile": "1g.10gb", "bound": 100}]


def spread(mean):
    return {"mean": mean, "sd": 1.0}


def study(policies, paired):
    measures = ("mean_wait_seconds", "p95_wait_seconds", "gpc_utilisation_percent", "stranded_percent")
    measures = (*measures, "accepted_percent")
    return {
        "grid": "memory",
        "load": 1.4,
        "cards": 8,
        "model": "H100-80GB",
        "jobs": 500,
        "seeds": 20,
        "mix": {"1g.10gb": 35.0},
        "policies": {name: {m: spread(value) for m in measures} for name, value in policies.items()},
        "paired": {
            name: {"mean_wait_seconds": pair, "accepted_percent": pair} for name, pair in paired.items()
        },
    }


def test_the_page_says_what_the_files_say():
    surely = {"mean": -36.2, "ci95": [-70.1, -2.3]}
    pairs = {f"{a}-vs-{b}": surely for a in ("slicewise", "slicewise-webhook") for b in ("hami", "first-fit")}
    main = study({"slicewise": 12.0, "slicewise-webhook": 13.0, "hami": 14.0, "first-fit": 15.0}, pairs)
    orders = study(
        {"slicewise-installed": 90.0, "driver-ascending": 88.0},
        {"slicewise-installed-vs-driver-ascending": {"mean": 2.0, "ci95": [1.5, 2.5]}},
    )
    report = {"command": "python -m it", "studies": [main], "elsewhere": [main], "orders": [orders]}
    side = {"mean_scheduling_milliseconds": 67.7, "accepted_percent": 100.0}
    page = numbers(report, [{"command": "python -m cluster", "sides": {"slicewise": side}}])
    assert "| `hami` | 14 / 14; 14.00; 14.0 |" in page
    assert "| `slicewise` − `hami` | -36 [-70, -2] |" in page
    assert "| `slicewise` | 1 (1) / 0 | 1 (1) / 0 |" in page
    assert "| 1g 35; 1 × 8 GPUs; 1.4 | 90.00; 90.00 | 88.00; 88.00 | +2.00 [+1.50, +2.50] |" in page
    assert "| `slicewise` | 67.7 |" in page
    assert "by seed" not in page


def test_the_bound_is_on_the_page():
    accepted = {"slicewise": 78.738, "optimal": 79.14}
    bound = {"command": "it", "mixes": [{"mix": "1g:35", "load": 0.9, "accepted_percent": accepted}]}
    assert "| 1g:35; 0.9 | 78.74 | 79.14 |" in numbers({"command": "it", "studies": []}, [], bound)


def test_the_optimum_is_one_that_no_order_reaches_and_hand_arithmetic_confirms():
    # One profile that fills a card, two cards, offered load 0.5: an Erlang loss system of two servers.
    asked = memory_space(models()["H100-80GB"], ("7g.80gb",))
    pair = Pair(asked, np.array([1.0]), 0.5)
    erlangs = 1.0
    blocked = (erlangs**2 / 2) / (1 + erlangs + erlangs**2 / 2)
    assert pair.accepted_percent(pair.optimal) == pytest.approx(100 * (1 - blocked), abs=0.02)
    mixed = Pair(memory_space(models()["H100-80GB"], ("1g.10gb", "4g.40gb")), np.array([0.5, 0.5]), 1.0)

    def first(profile, state):
        steps = mixed.space.steps[profile][state]
        return (steps[0][1], 0.0) if steps else None

    assert mixed.accepted_percent(mixed.first_fit(first, best_card=False)) < mixed.accepted_percent(
        mixed.optimal
    )


def test_seeds_are_compared_in_pairs():
    runs = [
        {"seed": 42 + n, "sides": {"ascending": {"accepted": a}, "slicewise": {"accepted": b}}}
        for n, (a, b) in enumerate([(250, 254), (260, 262), (240, 246)])
    ]
    found = summary(runs, ["ascending", "slicewise"])
    assert found["accepted"] == {"ascending": [250, 260, 240], "slicewise": [254, 262, 246]}
    assert found["paired"]["ascending"]["mean"] == 4.0
    low, high = found["paired"]["ascending"]["ci95"]
    assert low < 4.0 < high
    report = {"command": "it", "jobs": 300, "sides": runs[0]["sides"], **found}
    page = numbers({"command": "it", "studies": []}, [report])
    assert "| `ascending` | 250 | 260 | 240 | +4.00" in page
    assert "| `slicewise` | 254 | 262 | 246 |  |" in page
