"""The replay gives what the real allocators of Kubernetes 1.34, 1.35 and 1.36 give."""

import os
from collections import Counter

import pytest

from deploy.local.build import BinaryUnavailable
from dra.releases import RELEASES
from tests.oracle.build import ALLOCATORS, VERSIONS, built, ensure_oracle, running
from tests.oracle.cases import make_case
from tests.oracle.compare import judge, replay
from tests.oracle.rules import RULES

CASES, SEED = 500, 2026
ALWAYS = "1.36"
WANTED = "SLICEWISE_ORACLES"


@pytest.fixture(scope="module", params=VERSIONS)
def oracle(request, build_progress):
    """(version, running oracle). 1.36 shares its packages with the control plane of the other tests; the
    others cost over a minute of CPU each, so they run where they are built or asked for.
    """
    version = request.param
    path = built(version)
    if path is None and version != ALWAYS and os.environ.get(WANTED) != "all":
        pytest.skip(
            f"the oracle of {version} is not built and would take more than a minute of CPU: "
            f"set {WANTED}=all, or run python -m benchmarks.dra_oracle once"
        )
    try:
        path = path or ensure_oracle(version, build_progress)
    except BinaryUnavailable as problem:
        pytest.skip(f"no oracle on this machine: {problem}")
    with running(path) as process:
        yield version, process


def as_answer(answer):
    """An answer of compare.py in the rules' form."""
    if answer[0] != "allocated":
        return answer[0]
    return [[f"{result[0]}={result[3]}" for result in claim] for claim in answer[1]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.version} {rule.name}")
def test_the_replay_keeps_the_rule(rule):
    assert [as_answer(answer) for answer in replay(rule.version, rule.case)] == [rule.answer], rule.source


def test_the_real_allocator_keeps_the_rules(oracle):
    version, process = oracle
    for rule in (rule for rule in RULES if rule.version == version):
        process.send(rule.case)
        line = process.receive()
        expected = rule.answer if isinstance(rule.answer, str) else "allocated"
        assert [answer["outcome"] for answer in line["answers"]] == [expected], (rule.name, line)
        if expected == "allocated":
            claims = line["answers"][0]["claims"]
            got = [[f"{result['request']}={result['device']}" for result in claim] for claim in claims]
            assert got == rule.answer, rule.name


def test_random_cases_have_the_answer_of_the_real_allocator(oracle):
    version, process = oracle
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    different = []
    for number in range(CASES):
        case = make_case(version, SEED, number)
        process.send(case)
        replayed = replay(version, case, most_steps=20_000)
        line = process.receive()
        assert line["allocator"] == ALLOCATORS[version]
        verdict = judge(version, case, replayed, line)
        outcomes[verdict.outcome] += 1
        kinds[verdict.kind] += 1
        if verdict.outcome == "different":
            different.append(verdict.detail)
    assert not different, "\n".join(different[:5])
    # Searches that are given up (the real one after 0.3 s, which depends on the machine) say nothing.
    assert outcomes["undecided"] <= CASES // 10
    assert min(kinds["allocated"], kinds["none"], kinds["error"]) >= CASES // 10, kinds


def test_a_case_is_made_from_its_number_alone():
    for version in RELEASES:
        assert make_case(version, 1, 7) == make_case(version, 1, 7)
        assert make_case(version, 1, 7) != make_case(version, 2, 7)
