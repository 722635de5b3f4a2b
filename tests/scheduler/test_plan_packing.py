"""Plans: sound, never worse than greedy, bounded, all or nothing, and not hurt by more room."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dra.catalog import models
from dra.mig import geometry
from dra.nvlink import bridges
from scheduler.packing.plan_bound import PlanBounds
from scheduler.packing.plan_check import violations
from scheduler.packing.plan_greedy import greedy
from scheduler.packing.plan_problem import (
    MEDIA,
    WHOLE,
    Gang,
    Gpu,
    GpuValue,
    Need,
    NodeClass,
    NodeKind,
    Order,
    Placing,
    PlanProblem,
    Profile,
    Used,
    Wanted,
    better,
)
from scheduler.packing.plan_relaxation import Relaxation
from scheduler.packing.plan_replay import Replay
from scheduler.packing.plan_solve import solve_plan
from tests.scheduler.plan_cases import H100, random_problem

SEEDS = st.integers(0, 10**9)
SECONDS = 1.0


def solve(problem):
    return solve_plan(problem, SECONDS, time.monotonic)


def whole_problem(free, pods, *, nodes=1, level=0, gangs=(), quotas=(), linked=False, topology=None):
    """Nodes with so many free GPUs that are all alike; each pod is a number of whole GPUs."""
    sizes = sorted({size for size, _ in pods} | {size for gang in gangs for size, _ in gang})
    kind = NodeKind(
        gpus=tuple(Gpu(0, -1, 0, whole=True) for _ in range(free)),
        pools=(tuple(float(count) for count in range(free + 1)),),
        needs=tuple(Need(steps=((WHOLE, size),), linked=linked) for size in sizes),
        topology=topology,
    )
    return PlanProblem(
        profiles=(),
        values=(GpuValue(1, (0.0, 0.0)),),
        orders=(),
        kinds=(kind,),
        nodes=(NodeClass(0, (0,) * free, (), (1.0,) * len(sizes), nodes),),
        gpus=tuple(float(size) for size in sizes),
        wanted=tuple(Wanted(sizes.index(size), level, count, 0 if quotas else -1) for size, count in pods),
        gangs=tuple(Gang(tuple((sizes.index(s), n) for s, n in gang), level) for gang in gangs),
        quotas=quotas,
    )


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_plan_is_sound_never_worse_than_greedy_and_never_above_its_bound(seed):
    problem = random_problem(seed)
    first, _ = greedy(Replay(problem))
    assert violations(problem, first) == []
    answer = solve(problem)
    assert violations(problem, answer.placing) == []
    assert not better(problem, first, answer.placing)
    assert answer.placed <= answer.placed_bound
    assert answer.objective <= answer.bound + 1e-4 * max(1.0, abs(answer.bound))
    assert answer.price >= answer.price_bound - 1e-4 * max(1.0, abs(answer.price))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
@example(2352)  # a pool worth more with fewer free GPUs
def test_the_relaxation_bounds_every_filling(seed):
    problem = random_problem(seed, gangs=False)
    replay = Replay(problem)
    prices = [1.0 + (seed * (shape + 3)) % 7 for shape in range(problem.shapes)]
    earned = Relaxation(replay).earn(np.array(prices))
    for node in range(len(problem.nodes)):
        for length in (1, 2, 3):
            for wanted in itertools.islice(itertools.product(range(problem.shapes), repeat=length), 40):
                kept, filled = replay.fill(node, wanted)
                worth = sum(prices[shape] for shape in kept) - filled.price
                # Demand caps what the scalars' bound counts, so only fillings within it are bounded.
                if all(kept.count(shape) <= problem.demand()[shape] for shape in kept):
                    assert worth <= earned.most[node] + 1e-9


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_no_plan_by_hand_beats_the_bound_of_small_problems(seed):
    problem = random_problem(seed, quotas=False, gangs=False, most_nodes=1, most_pods=6)
    problem = replace(
        problem,
        nodes=(replace(problem.nodes[0], count=1),),
        wanted=tuple(replace(entry, count=1, level=0) for entry in problem.wanted),
    )
    answer = solve(problem)
    replay = Replay(problem)
    best = max(
        (
            (len(kept), -filled.price)
            for count in range(problem.shapes + 1)
            for wanted in itertools.permutations(range(problem.shapes), count)
            for kept, filled in [replay.fill(0, wanted)]
        ),
    )
    assert best[0] <= answer.placed_bound[0]
    if best[0] == answer.placed[0]:
        assert -best[1] >= answer.price_bound - 1e-6


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, 3))
def test_more_room_never_places_fewer_by_priority(seed, extra):
    problem = random_problem(seed)
    node = problem.nodes[extra % len(problem.nodes)]
    more = replace(problem, nodes=(*problem.nodes, replace(node, masks=(0,) * len(node.masks), count=2)))
    answer, with_more = solve(problem), solve(more)
    if answer.placed == answer.placed_bound or with_more.placed == with_more.placed_bound:
        assert with_more.placed >= answer.placed


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_no_gpu_is_cut_into_an_illegal_state(seed):
    problem = random_problem(seed)
    replay = Replay(problem)
    legal = {p.bits for p in geometry(H100).placements} | {(1 << H100.units) - 1}
    for use in solve(problem).placing.used:
        state = replay.start(use.node)
        for shape in use.filling:
            after = replay.add(use.node, state, shape)
            assert after is not None
            for before_mask, mask in zip(state.masks, after.masks, strict=True):
                assert before_mask & ~mask == 0
                taken = (mask ^ before_mask) & ~MEDIA
                assert taken.bit_count() == 0 or _covered(taken, legal)
            state = after


def _covered(taken, legal):
    """Whether some placements cover exactly these units."""
    return taken == 0 or any(bits & ~taken == 0 and _covered(taken ^ bits, legal) for bits in legal)


def test_the_same_problem_gives_the_same_plan():
    problem = random_problem(7)
    assert solve(problem).placing == solve(problem).placing


def test_a_problem_and_its_answer_cross_a_pipe_unchanged():
    problem = random_problem(3)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(problem), type=PlanProblem)
    assert again == problem


def test_a_plan_finds_the_packing_that_greedy_misses():
    # Greedy puts the single GPUs first on the nodes they are cheapest on and leaves no node whole.
    problem = whole_problem(4, [(1, 4), (4, 1)], nodes=2)
    cheap = replace(problem.nodes[0], count=1, other=(1.0, 1.0))
    problem = replace(problem, nodes=(cheap, replace(cheap, other=(1.0 + 1e-6, 1.0))))
    answer = solve(problem)
    assert answer.placed == (5,)


def test_a_gang_is_placed_whole_or_not_at_all():
    assert solve(whole_problem(4, [], nodes=2, gangs=[[(2, 4)]])).placing.gangs == (True,)
    answer = solve(whole_problem(4, [], nodes=2, gangs=[[(2, 5)]]))
    assert answer.placing == Placing((), (), (False,))


def test_of_two_gangs_that_do_not_fit_together_one_runs():
    answer = solve(whole_problem(4, [], nodes=2, gangs=[[(2, 3)], [(2, 3)]]))
    assert sum(answer.placing.gangs) == 1


def test_a_higher_priority_goes_first_whatever_it_costs():
    problem = whole_problem(2, [(1, 2), (2, 1)])
    urgent = replace(problem, wanted=(problem.wanted[0], replace(problem.wanted[1], level=1)))
    assert solve(urgent).placed == (1, 0)
    assert solve(problem).placed == (2,)


def test_a_quota_caps_what_is_placed():
    assert solve(whole_problem(4, [(1, 4)], quotas=(3.0,))).placed == (3,)


def test_pods_that_need_nvlink_get_an_island_or_nothing():
    pairs = bridges(models()["A100-80GB"], 4)
    linked = whole_problem(4, [(2, 2)], linked=True, topology=pairs)
    assert solve(linked).placed == (2,)
    # With GPU 0 taken, first-fit gives GPUs 1 and 2, which no bridge joins.
    broken = replace(linked, nodes=(replace(linked.nodes[0], masks=(1, 0, 0, 0)),))
    assert solve(broken).placed == (0,)
    # The device plugin looks for linked ones.
    best = replace(broken, kinds=(replace(broken.kinds[0], best_links=True),))
    assert solve(best).placed == (1,)


def mig_problem(placements, masks, pods, *, media=False):
    return PlanProblem(
        profiles=(Profile("p", media),),
        values=(GpuValue(8, tuple(float(8 - mask.bit_count()) for mask in range(256))),),
        orders=(Order(tuple((0, start, size) for start, size in placements)),),
        kinds=(
            NodeKind(
                gpus=tuple(Gpu(0, 0, 0, whole=False) for _ in masks),
                pools=((0.0,) * (len(masks) + 1),),
                needs=(Need(steps=((0, 1),)),),
            ),
        ),
        nodes=(NodeClass(0, tuple(masks), (), (0.0,)),),
        gpus=(0.5,),
        wanted=(Wanted(0, 0, pods),),
    )


def test_what_first_fit_will_give_decides_how_many_fit():
    # A size-4 instance at 2 leaves no room for a second one; published first, it is what first-fit gives.
    assert solve(mig_problem([(2, 4), (0, 4), (4, 4)], [0], 2)).placed == (1,)
    assert solve(mig_problem([(0, 4), (4, 4), (2, 4)], [0], 2)).placed == (2,)


def test_one_media_engine_a_gpu():
    placements = [(start, 1) for start in range(7)]
    assert solve(mig_problem(placements, [0, 0], 5, media=True)).placed == (2,)
    assert solve(mig_problem(placements, [0, 0], 5)).placed == (5,)


def test_equal_nodes_are_used_one_by_one():
    answer = solve(whole_problem(2, [(2, 3)], nodes=5))
    assert answer.placed == (3,)
    assert sum(use.count for use in answer.placing.used) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: replace(p, used=(replace(p.used[0], count=9),)), "of 2 nodes used"),
        (lambda p: replace(p, used=(replace(p.used[0], price=0.5),)), "costs"),
        (lambda p: replace(p, singles=(99,)), "of 2 pods"),
        (lambda p: replace(p, used=()), "pods and gangs placed"),
        (lambda p: replace(p, used=(Used(0, (0, 0), 0.0, 1),)), "does not fit"),
    ],
)
def test_a_broken_plan_is_told_apart(change, words):
    problem = whole_problem(2, [(2, 2)], nodes=2)
    sound = solve(problem).placing
    assert violations(problem, sound) == []
    assert any(words in told for told in violations(problem, change(sound)))


def test_nothing_waiting_is_an_empty_plan():
    answer = solve(whole_problem(2, []))
    assert answer.placing.used == ()
    assert answer.gap_percent == 0.0


def test_bounds_without_cuts_say_nothing_wrong():
    problem = whole_problem(2, [(1, 3)])
    assert PlanBounds(problem, (), (10.0,)).placed(1.0) == (3,)
