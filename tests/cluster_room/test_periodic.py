"""A periodic thread: its first turn, its pause, its end, and that an error of the work does not end it."""

import threading

from cluster.periodic import Gate, Periodic
from tests.polling import SOON_SECONDS

NEVER_SECONDS = 3600.0


def test_the_first_turn_comes_a_period_after_the_start():
    turned = threading.Event()
    loop = Periodic("late", turned.set, NEVER_SECONDS, if_failed="-")
    loop.start()
    loop.stop()
    assert not turned.is_set()


def test_the_first_turn_comes_at_once_where_it_is_asked_for():
    turned = threading.Event()
    loop = Periodic("early", turned.set, NEVER_SECONDS, if_failed="-", at_once=True)
    loop.start()
    assert turned.wait(SOON_SECONDS)
    loop.stop()


def test_turns_follow_one_another():
    third, turns = threading.Event(), []

    def work():
        turns.append(threading.current_thread().name)
        if len(turns) == 3:
            third.set()

    loop = Periodic("often", work, 0.001, if_failed="-")
    loop.start()
    assert third.wait(SOON_SECONDS)
    loop.stop()
    assert set(turns) == {"often"}


def test_a_nudge_brings_the_next_turn_forward():
    turned = threading.Event()
    loop = Periodic("nudged", turned.set, NEVER_SECONDS, if_failed="-")
    loop.start()
    loop.nudge()
    assert turned.wait(SOON_SECONDS)
    loop.stop()


def test_a_nudge_while_the_work_runs_is_not_lost():
    began, may_end, second = threading.Event(), threading.Event(), threading.Event()

    def work():
        if began.is_set():
            second.set()
        began.set()
        may_end.wait(SOON_SECONDS)

    loop = Periodic("busy", work, NEVER_SECONDS, if_failed="-", at_once=True)
    loop.start()
    assert began.wait(SOON_SECONDS)
    loop.nudge()
    may_end.set()
    assert second.wait(SOON_SECONDS)
    loop.stop()


def test_an_error_is_logged_and_the_thread_goes_on(caplog):
    second, turns = threading.Event(), []

    def work():
        turns.append(None)
        if len(turns) == 1:
            raise ValueError("the first turn fails")
        second.set()

    loop = Periodic("clumsy", work, 0.001, if_failed="the work failed; trying again")
    loop.start()
    assert second.wait(SOON_SECONDS)
    loop.stop()
    assert "the work failed; trying again" in caplog.text
    assert "the first turn fails" in caplog.text


def test_stopping_waits_for_the_turn_that_runs_and_may_be_said_twice():
    began, ended = threading.Event(), threading.Event()

    def work():
        began.set()
        loop._stopping.wait(SOON_SECONDS)
        ended.set()

    loop = Periodic("slow", work, NEVER_SECONDS, if_failed="-", at_once=True)
    loop.start()
    assert began.wait(SOON_SECONDS)
    loop.stop()
    loop.stop()
    assert ended.is_set()


def test_one_that_was_never_started_can_be_stopped():
    Periodic("idle", lambda: None, NEVER_SECONDS, if_failed="-").stop()


def test_no_turn_begins_while_its_gate_is_shut():
    gate, turned = Gate(NEVER_SECONDS), threading.Event()
    gate.hold()
    loop = Periodic("polite", turned.set, NEVER_SECONDS, if_failed="-", at_once=True)
    loop.yield_to(gate)
    loop.start()
    assert not turned.wait(0.2)
    gate.release()
    assert turned.wait(SOON_SECONDS)
    loop.stop()


def test_a_gate_that_nobody_opens_delays_a_turn_and_no_more():
    gate, turned = Gate(0.05), threading.Event()
    gate.hold()
    loop = Periodic("patient", turned.set, NEVER_SECONDS, if_failed="-", at_once=True)
    loop.yield_to(gate)
    loop.start()
    assert turned.wait(SOON_SECONDS)
    loop.stop()


def test_a_loop_that_waits_at_its_gate_is_stopped_without_another_turn():
    gate, turned = Gate(0.05), threading.Event()
    gate.hold()
    loop = Periodic("stopped", turned.set, NEVER_SECONDS, if_failed="-")
    loop.yield_to(gate)
    loop.start()
    loop.stop()
    assert not turned.is_set()


def test_long_work_gives_way_between_its_steps():
    gate, steps, second = Gate(NEVER_SECONDS), [], threading.Event()

    def work():
        steps.append("first")
        gate.hold()
        first.set()
        loop.give_way()
        steps.append("second")
        second.set()

    first = threading.Event()
    loop = Periodic("long", work, NEVER_SECONDS, if_failed="-", at_once=True)
    loop.yield_to(gate)
    loop.start()
    assert first.wait(SOON_SECONDS)
    assert not second.wait(0.2)
    gate.release()
    assert second.wait(SOON_SECONDS)
    loop.stop()


def come(gate: Gate, *, fresh: bool) -> tuple[threading.Thread, threading.Event]:
    """Somebody comes to the gate; the event says when they are through."""
    through = threading.Event()

    def wait() -> None:
        gate.wait(fresh=fresh)
        through.set()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, through


def passes(gate: Gate, *, fresh: bool) -> bool:
    """Whether who comes now gets through with nobody letting them; shut and opened afterwards."""
    thread, through = come(gate, fresh=fresh)
    passed = through.wait(SOON_SECONDS)
    gate.release()
    thread.join(SOON_SECONDS)
    return passed


def waits(gate: Gate, *, fresh: bool) -> bool:
    """Whether who comes now has to wait; lets them go afterwards."""
    thread, through = come(gate, fresh=fresh)
    waited = not through.wait(0.2)
    gate.release()
    thread.join(SOON_SECONDS)
    assert through.is_set()
    return waited


def test_long_work_begins_right_after_the_gate_was_opened_and_not_before_it_is_shut_again():
    now = [100.0]
    gate = Gate(2 * SOON_SECONDS, clock=lambda: now[0])
    assert passes(gate, fresh=True), "nobody uses it"
    now[0] += 0.5
    assert passes(gate, fresh=True), "it was just opened"
    now[0] += 3.0
    assert passes(gate, fresh=False)
    now[0] += 3.0
    assert waits(gate, fresh=True), "it may be shut at any moment"
    now[0] += 10 * SOON_SECONDS
    assert passes(gate, fresh=True), "nobody has used it for long"
