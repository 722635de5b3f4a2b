"""What a MIG placement policy is, and all that it may look at.

A policy sees the cards, what runs since when, how many jobs of each profile wait, and what has finished. It
never sees how long a job will run. It is asked about one job at a time, in arrival order, and has to place a
job that fits. A policy that is an ``OrderingPolicy`` too says which of the jobs that fit goes first; it is
compared under its own name, because then the queue is no longer the same.
"""

from __future__ import annotations

from math import inf
from typing import Protocol, runtime_checkable

from scheduler.packing.mig_space import CardSpace

Choice = tuple[int, int]  # (card, number that the placement adds to the card's state)


class Fleet:
    """The cards of one run, as a scheduler could know them. Policies read, the run writes.

    ``states``: state of each card. ``node``: node of each card; a node's cards are neighbours in the list.
    ``running[card]``: job → (profile, start, number). ``waiting``: jobs of each profile that have arrived and
    not started, the one being placed included. ``arrived`` and ``finished``: jobs of each profile so far;
    ``finished_seconds``: summed run time of those that finished. ``oldest``: when the job of each profile
    that waits longest arrived, infinite where none waits.
    """

    __slots__ = (
        "arrived",
        "finished",
        "finished_seconds",
        "node",
        "now",
        "oldest",
        "running",
        "space",
        "states",
        "waiting",
    )

    def __init__(self, space: CardSpace, nodes: int, gpus: int) -> None:
        profiles = len(space.profiles)
        self.space = space
        self.states = [0] * (nodes * gpus)
        self.node = [card // gpus for card in range(nodes * gpus)]
        self.running: list[dict[int, tuple[int, float, int]]] = [{} for _ in self.states]
        self.waiting = [0] * profiles
        self.oldest = [inf] * profiles
        self.arrived = [0] * profiles
        self.finished = [0] * profiles
        self.finished_seconds = [0.0] * profiles
        self.now = 0.0

    def fits(self, profile: int) -> bool:
        """True when some card has room for the profile."""
        steps = self.space.steps[profile]
        return any(steps[state] for state in self.states)


class MigPolicy(Protocol):
    """One run's policy; a new run makes a new one."""

    def choose(self, fleet: Fleet, profile: int) -> Choice | None:
        """Where the oldest waiting job of ``profile`` goes. None only when it fits nowhere."""


@runtime_checkable
class OrderingPolicy(Protocol):
    """A policy that also decides who goes first."""

    def pick(self, fleet: Fleet, candidates: dict[int, float]) -> int:
        """One of ``candidates``: profile → seconds that its oldest job has waited; each fits somewhere."""
