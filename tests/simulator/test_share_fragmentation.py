"""FGD's measure, and the policy on it, against a literal reading of the paper's definitions."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.packing.share_gradient import ShareGradient
from scheduler.packing.shares import MILLI, ShareClass
from simulator.cluster_state import ClusterState
from simulator.openb import NodeShape, PodShape
from simulator.policies.fgd import Fgd

MODELS = ("A", "B")
_milli = st.sampled_from([0, 30, 190, 320, 470, 530, 810, 1000])
_models = st.sampled_from([(), ("A",), ("B",), ("A", "B")])
_cpu = st.sampled_from([0, 3152, 4000, 8000, 12000, 40000])


@st.composite
def _targets(draw):
    items = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["none", "share", "whole"]))
        cpu = draw(_cpu)
        if kind == "none":
            items.append((0, 0, cpu, ()))
        elif kind == "share":
            items.append((1, draw(st.sampled_from([160, 320, 470, 810])), cpu, draw(_models)))
        else:
            items.append((draw(st.sampled_from([1, 2, 4])), MILLI, cpu, draw(_models)))
    return tuple(ShareClass(*item, 1.0 / len(items)) for item in items)


def literal(target, model, cpu, free):
    """F_n(M), term by term."""
    total = 0.0
    for m in target:
        runs = (
            m.gpus > 0
            and (not m.models or model in m.models)
            and cpu >= m.cpu_milli
            and sum(f >= m.gpu_milli for f in free) >= m.gpus
        )
        total += m.count * (sum(f for f in free if f < m.gpu_milli) if runs else sum(free))
    return total


@given(_targets(), st.sampled_from(MODELS), _cpu, st.lists(_milli, min_size=1, max_size=4))
def test_fragmentation_is_the_paper_s_sum(target, model, cpu, free):
    measure = ShareGradient(target, MODELS)
    row = np.array([MODELS.index(model)])
    found = measure.of(row, np.array([cpu]), np.array([free]))
    assert math.isclose(found[0], literal(target, model, cpu, free), abs_tol=1e-6)


@given(_targets(), st.sampled_from(MODELS), _cpu, st.lists(_milli, min_size=1, max_size=4), _milli)
def test_fragmentation_after_a_share_is_that_of_the_changed_node(target, model, cpu, free, share):
    measure = ShareGradient(target, MODELS)
    row = np.array([MODELS.index(model)])
    found = measure.after_share(row, np.array([cpu]), np.array([free]), share)
    for gpu, room in enumerate(free):
        if room >= share:
            changed = [*free[:gpu], room - share, *free[gpu + 1 :]]
            assert math.isclose(found[0, gpu], literal(target, model, cpu, changed), abs_tol=1e-6)


@settings(max_examples=60)
@given(_targets(), st.lists(_milli, min_size=2, max_size=4), _cpu, st.sampled_from([320, 470, 1000]))
def test_the_policy_scores_and_chooses_gpus_as_published(target, free, cpu, share):
    state = ClusterState([NodeShape("n", 100_000, 1_000, len(free), "A")])
    state.gpu_free[0] = free
    state.cpu[0] = cpu
    pod = PodShape(3000, 1, 1, share)
    if cpu < 3000 or max(free) < share:
        return
    before = literal(target, "A", cpu, free)
    best, chosen = -1, -1
    for gpu, room in enumerate(free):
        if room < share:
            continue
        after = literal(target, "A", cpu - 3000, [*free[:gpu], room - share, *free[gpu + 1 :]])
        score = int(100 / (1 + math.exp(-(before - after) / 1000)))
        if score > best:
            best, chosen = score, gpu
    scores, gpus = Fgd(state, target).scores(state, pod, np.array([0]))
    # A score on the edge of two whole numbers may fall either way by arithmetic.
    assert abs(scores[0, 0] - best) <= 1
    if share < MILLI and scores[0, 0] == best:
        assert gpus[0] == chosen or free[gpus[0]] == free[chosen]
