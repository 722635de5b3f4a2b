"""The solver in its own process: answers, and everything that can go wrong with it is no more than no
answer.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import msgspec
import pytest

from cluster.policy import Planner, PlanSolver
from scheduler.packing.plan_problem import PlanAnswer
from scheduler.planner.batch import Batch
from scheduler.planner.loop import PlannerLoop
from scheduler.planner.nominate import Nominator
from scheduler.planner.problem import Snapshot
from scheduler.planner.solver import SolveReply, SolveRequest, read_frame, reply_to, write_frame
from scheduler.planner.solver_client import SolverProcess
from scheduler.planner.solving import Solving
from tests.planner.test_plan_gangs import Slots, member
from tests.planner.test_plan_rounds import Clock, RecordingApi, Seen
from tests.polling import SOON_SECONDS, until
from tests.scheduler.plan_cases import random_problem
from tests.scheduler.test_plan_packing import whole_problem


class Box:
    """Waits for what a callback brings."""

    def __init__(self):
        self.answers = []
        self.came = threading.Event()

    def __call__(self, answer):
        self.answers.append(answer)
        self.came.set()


@pytest.fixture
def process():
    made = []

    def make(*command, **options):
        solver = SolverProcess(command, **options) if command else SolverProcess()
        made.append(solver)
        solver.start()
        return solver

    yield make
    for solver in made:
        solver.stop()
        assert solver.pid is None


def ask(solver, problem, seconds=10.0, within=2 * SOON_SECONDS):
    box = Box()
    assert solver.submit(problem, seconds, box)
    assert box.came.wait(within)
    return box.answers[0]


def test_it_answers_from_its_own_process_at_low_priority(process):
    solver = process()
    answer = ask(solver, whole_problem(4, [(2, 2)]))
    assert isinstance(answer, PlanAnswer)
    assert answer.placed == (2,)
    assert os.getpriority(os.PRIO_PROCESS, solver.pid) >= 10
    assert ask(solver, random_problem(1)) is not None


def test_a_second_plan_is_not_taken_while_one_is_made(process):
    solver = process(sys.executable, "-c", "import time; time.sleep(60)")
    box = Box()
    assert solver.submit(whole_problem(1, [(1, 1)]), 30.0, box)
    assert not solver.submit(whole_problem(1, [(1, 1)]), 30.0, box)


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(3)",
        "import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write(b'\\x03\\0\\0\\0abc')",
        "import sys; sys.stdout.buffer.write(b'\\xff' * 8); sys.stdout.flush(); sys.stdin.read()",
    ],
    ids=["dies", "answers nonsense", "answers without end"],
)
def test_a_broken_process_is_no_answer_and_the_next_try_comes_later(process, program):
    now = Clock()
    solver = SolverProcess((sys.executable, "-c", program), clock=now)
    solver.start()
    try:
        assert ask(solver, whole_problem(1, [(1, 1)])) is None
        assert not solver.submit(whole_problem(1, [(1, 1)]), 1.0, Box())
        now.now += 1.1
        assert ask(solver, whole_problem(1, [(1, 1)])) is None
    finally:
        solver.stop()


def test_a_process_that_hangs_is_killed_at_the_deadline(process):
    solver = process(sys.executable, "-c", "import time; time.sleep(600)", start_seconds=0.0)
    hung = solver.pid
    started = time.monotonic()
    assert ask(solver, whole_problem(1, [(1, 1)]), seconds=0.05) is None
    assert time.monotonic() - started < SOON_SECONDS
    with pytest.raises(ProcessLookupError):
        os.kill(hung, 0)


def test_a_killed_process_is_started_anew(process):
    solver = process()
    assert ask(solver, whole_problem(1, [(1, 1)])) is not None
    os.kill(solver.pid, 9)
    answer = ask(solver, whole_problem(1, [(1, 1)]))
    if answer is None:
        box = Box()
        until(lambda: solver.submit(whole_problem(1, [(1, 1)]), 1.0, box), 20, "the next try")
        assert box.came.wait(SOON_SECONDS)
        (answer,) = box.answers
    assert answer is not None


def test_it_ends_with_its_input_and_with_its_parent():
    alone = subprocess.Popen([sys.executable, "-m", "scheduler.planner.solver"], stdin=subprocess.PIPE)
    assert alone.stdin is not None
    alone.stdin.close()
    assert alone.wait(SOON_SECONDS) == 0
    parent = (
        "import subprocess, sys, time\n"
        "command = [sys.executable, '-m', 'scheduler.planner.solver']\n"
        "child = subprocess.Popen(command, stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as above:
        assert above.stdout is not None
        child = int(above.stdout.readline())
        above.kill()
    until(lambda: not _lives(child), 30, "the solver to end with its parent")


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_frames_and_errors():
    stream = io.BytesIO()
    write_frame(stream, b"abc")
    stream.seek(0)
    assert read_frame(stream) == b"abc"
    assert read_frame(stream) is None
    broken = whole_problem(2, [(1, 1)])
    reply = reply_to(SolveRequest(5, 1.0, replace(broken, gpus=())))
    assert isinstance(reply, SolveReply)
    assert reply.answer is None
    assert reply.error


# --- the planner and its solver ---------------------------------------------------------------------------


class FakeSolver:
    """Answers when told to."""

    def __init__(self, takes=True):
        self.takes = takes
        self.asked = []

    def submit(self, problem, seconds, done):
        if self.takes:
            self.asked.append((problem, seconds, done))
        return self.takes

    def stop(self):
        pass


class SnapshotSlots(Slots):
    """Two nodes of two slots each; the problem's only node class is n2."""

    def choose(self, pod, hold_seconds):
        used = list(self.held.values())
        for node in ("n1", "n2"):
            if used.count(node) < 2:
                return self.hold(pod, node, hold_seconds)
        return super().hold(pod, "n1", 0.0)

    def snapshot(self, batch: Batch):
        problem = whole_problem(2, [(1, len(batch.singles))])
        uids = tuple(pod.uid for pod in batch.singles)
        return Snapshot(problem, (("n2",),), (uids,), ())


def solving_planner(solver, slots, clock, min_pods=2):
    api, seen = RecordingApi(), Seen()
    planner = PlannerLoop(
        asks_for_gpus=lambda pod: True,
        chooser=slots,
        nominator=Nominator(api, 2),
        policy=lambda: Planner(solver=PlanSolver(min_pods=min_pods, deadline_seconds=2.0)),
        active=lambda: True,
        observer=seen,
        ungated_grace_seconds=0.0,
        clock=clock,
        solving=Solving(solver, slots),
    )
    return planner, api, seen


def nodes_of(made):
    return {one.waiting.uid: one.node for one in made.nominations}


def answer_for(problem, status="optimal"):
    answer = reply_to(SolveRequest(1, 1.0, problem)).answer
    assert answer is not None
    return msgspec.convert({**msgspec.to_builtins(answer), "status": status}, PlanAnswer)


def singles(count):
    return [member(f"p{index}", "", gated=False) for index in range(count)]


def test_a_large_batch_waits_for_the_solver_and_its_room_is_held_meanwhile():
    solver, slots, clock = FakeSolver(), SnapshotSlots(4), Clock()
    planner, api, _ = solving_planner(solver, slots, clock)
    planner.replaced(singles(2))
    assert planner.round() is None
    assert len(slots.held) == 2
    assert planner.round() is None
    problem, seconds, done = solver.asked[0]
    assert seconds == 2.0
    done(answer_for(problem))
    made = planner.round()
    planner.stop()
    assert made is not None
    assert nodes_of(made) == {"p0": "n2", "p1": "n2"}
    assert len(api.patches) == 2


def test_no_answer_by_the_deadline_is_the_plan_by_price():
    solver, clock = FakeSolver(), Clock()
    planner, _, _ = solving_planner(solver, SnapshotSlots(4), clock)
    planner.replaced(singles(2))
    assert planner.round() is None
    clock.now += 3.1
    made = planner.round()
    assert made is not None
    assert nodes_of(made) == {"p0": "n1", "p1": "n1"}
    # The answer that comes after all is for nobody.
    problem, _, done = solver.asked[0]
    done(answer_for(problem))
    assert planner.round() is None
    planner.stop()


@pytest.mark.parametrize("answer", [None, "greedy"])
def test_an_answer_that_is_none_or_no_better_is_the_plan_by_price(answer):
    solver, clock = FakeSolver(), Clock()
    planner, _, _ = solving_planner(solver, SnapshotSlots(4), clock)
    planner.replaced(singles(2))
    planner.round()
    problem, _, done = solver.asked[0]
    done(None if answer is None else answer_for(problem, answer))
    made = planner.round()
    planner.stop()
    assert made is not None
    assert nodes_of(made) == {"p0": "n1", "p1": "n1"}


def test_a_solver_that_cannot_take_it_costs_no_time():
    planner, _, _ = solving_planner(FakeSolver(takes=False), SnapshotSlots(4), Clock())
    planner.replaced(singles(2))
    made = planner.round()
    planner.stop()
    assert made is not None
    assert len(made.nominations) == 2


def test_a_small_batch_is_planned_by_price_beside_a_large_one():
    solver, clock = FakeSolver(), Clock()
    planner, _, _ = solving_planner(solver, SnapshotSlots(4), clock)
    planner.replaced(singles(2))
    assert planner.round() is None
    planner.changed("ADDED", member("late", "", gated=False))
    made = planner.round()
    assert made is not None
    assert list(nodes_of(made)) == ["late"]
    problem, _, done = solver.asked[0]
    done(answer_for(problem))
    made = planner.round()
    planner.stop()
    assert made is not None
    # No pod is ever planned twice.
    assert sorted(nodes_of(made)) == ["p0", "p1"]


def test_a_pod_that_went_away_meanwhile_is_left_out():
    solver, slots, clock = FakeSolver(), SnapshotSlots(4), Clock()
    planner, _, _ = solving_planner(solver, slots, clock)
    pods = singles(2)
    planner.replaced(pods)
    planner.round()
    planner.changed("DELETED", pods[0])
    problem, _, done = solver.asked[0]
    done(answer_for(problem))
    made = planner.round()
    planner.stop()
    assert made is not None
    assert nodes_of(made) == {"p1": "n2"}
    assert list(slots.held) == ["p1"]


def test_a_planner_that_no_longer_leads_gives_the_room_back():
    solver, slots, clock = FakeSolver(), SnapshotSlots(4), Clock()
    planner, _, _ = solving_planner(solver, slots, clock)
    planner.replaced(singles(2))
    planner.round()
    planner._active = lambda: False
    assert planner.round() is None
    planner.stop()
    assert slots.held == {}


def test_a_few_pods_that_prices_alone_leave_waiting_are_solved_for():
    solver, slots, clock = FakeSolver(), SnapshotSlots(1), Clock()
    planner, _, _ = solving_planner(solver, slots, clock, min_pods=64)
    planner.replaced(singles(2))
    planner.round()
    assert len(solver.asked) == 1
    solver.asked[0][2](None)
    made = planner.round()
    planner.stop()
    assert made is not None
    assert len(made.nominations) == 1
    assert len(made.unplaced) == 1


def test_a_problem_that_cannot_be_stated_is_planned_by_price():
    class Broken(SnapshotSlots):
        def snapshot(self, batch):
            raise ArithmeticError("as the test wants")

    planner, _, _ = solving_planner(FakeSolver(), Broken(4), Clock())
    planner.replaced(singles(2))
    made = planner.round()
    planner.stop()
    assert made is not None
    assert len(made.nominations) == 2
