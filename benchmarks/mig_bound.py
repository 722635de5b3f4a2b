"""How many pods any order of MIG devices could accept: two cards of one node, solved exactly.

Without a queue: instances arrive (Poisson, by the mix), take a place if first-fit finds one, are refused
otherwise, and run for exponential times. The state of both cards is one of some 80,000 pairs of layouts, so
the share of accepted pods is computed by value iteration (White 1963), not simulated:

- ``ascending``, ``descending``: the first card with room, the lowest or highest start;
- ``gpu-slices``: the first card with room, the start that loses least worth
  (``scheduler.packing.mig_values``, told the mix);
- ``slicewise``: the card and start of both cards that lose least (``dra.node_order``);
- ``optimal``: the best policy that takes every pod that fits, told the mix, the load and what runs on both
  cards: no order of devices can do better. ``optimal-refusing``: one that may also refuse a pod that fits, to
  keep room.

Writes build/bench/mig_bound.json. Usage: python -m benchmarks.mig_bound [--load 0.9] [--model H100-80GB]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.mig import ORDER_MIXES
from dra.device_order import device_order, order_table
from scheduler.packing.mig_space import CardSpace, memory_space
from scheduler.packing.mig_values import mask_values, walk_of
from simulator.mig_arrivals import parse_mix
from simulator.mig_grid import mig_model
from simulator.mig_study import setting

OUTPUT = Path("build/bench/mig_bound.json")
_MOST_ROUNDS = 5000
_TOLERANCE_PERCENT = 0.01

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Step = Callable[[Floats, int], tuple[Floats, NDArray[np.bool_]]]
"""(values by state, profile) → (value after the placement, where there is one)."""


class Pair:
    """Two cards of the same layouts (``scheduler.packing.mig_values.Walk``)."""

    def __init__(self, space: CardSpace, shares: Floats, load: float) -> None:
        walk = walk_of(space)
        self.space, self.size = space, len(walk.state)
        self.state, self.running = walk.state, walk.running
        self.before, self.after = walk.before, walk.after
        slices = np.array(space.compute_slices, dtype=np.float64)
        self.rates = load * 2 * space.model.compute_slices / float(slices @ shares) * shares

    def accepted_percent(self, step: Step, *, may_refuse: bool = False) -> float:
        """Share of all arrivals that are accepted in the long run."""
        clock = float(self.rates.sum()) + 2 * float(self.running.max())
        values = np.zeros((self.size, self.size))
        low = high = 0.0
        for _ in range(_MOST_ROUNDS):
            new = values + self._ends(values) / clock
            for profile, rate in enumerate(self.rates.tolist()):
                best, fits = step(values, profile)
                gain = np.where(fits, 1.0 + np.where(fits, best, 0.0) - values, 0.0)
                new += rate / clock * (np.maximum(gain, 0.0) if may_refuse else gain)
            change = new - values
            values = new - new[0, 0]
            scale = 100.0 * clock / float(self.rates.sum())
            low, high = scale * float(change.min()), scale * float(change.max())
            if high - low < _TOLERANCE_PERCENT:
                break
        return (low + high) / 2

    def _ends(self, values: Floats) -> Floats:
        none = np.zeros((1, self.size))
        first = np.concatenate([values, none])[self.before].sum(axis=0)
        second = np.concatenate([values, none.T], axis=1)[:, self.before].sum(axis=1)
        found: Floats = first + second - (self.running[:, None] + self.running[None, :]) * values
        return found

    def optimal(self, values: Floats, profile: int) -> tuple[Floats, NDArray[np.bool_]]:
        """The better card and start. Both cards are alike, so values are symmetric."""
        padded = np.concatenate([values, np.full((1, self.size), -np.inf)])
        one = padded[self.after[profile]].max(axis=0)
        best = np.maximum(one, one.T)
        return best, np.isfinite(best)

    def first_fit(self, choice: Callable[[int, int], tuple[int, float] | None], *, best_card: bool) -> Step:
        """``choice(profile, state)``: (number, loss) of the start taken on a card; ``best_card``: the card
        that loses less, else the first with room.
        """
        targets, fits = [], []
        rows, columns = np.meshgrid(np.arange(self.size), np.arange(self.size), indexing="ij")
        for profile, steps in enumerate(self.space.steps):
            after, loss = np.full(self.size, self.size), np.full(self.size, np.inf)
            for position, state in enumerate(self.state.tolist()):
                found = choice(profile, state)
                if found is not None:
                    numbers = [number for _, number in steps[state]]
                    after[position] = self.after[profile][numbers.index(found[0]), position]
                    loss[position] = found[1]
            room, other = after[rows] < self.size, after[columns] < self.size
            second = other & (~room | (best_card & (loss[columns] < loss[rows])))
            to_row = np.where(room & ~second, after[rows], rows)
            to_column = np.where(second, after[columns], columns)
            targets.append(to_row * self.size + to_column)
            fits.append(room | other)
        return lambda values, profile: (values.ravel()[targets[profile]], fits[profile])


def measure(model_name: str, mix: str, load: float) -> dict[str, Any]:
    """One mix."""
    asked = setting(model=model_name, nodes=1, gpus=2, jobs=1, mix=parse_mix(mix), load=load, grid="memory")
    shares = np.array(asked.weights) / sum(asked.weights)
    space = memory_space(mig_model(asked.model), asked.profiles)
    pair = Pair(space, shares, load)
    table = order_table(
        mask_values(space.model, dict(zip(asked.profiles, 1000.0 * shares, strict=True))).tolist()
    )

    def by_worth(profile: int, state: int) -> tuple[int, float] | None:
        order = device_order(space.model, state, table)
        bits = (p.bits for p in order if p.profile == space.profiles[profile] and not p.bits & state)
        first = next(bits, None)
        return None if first is None else (first, float(table.lost(state, first)))

    def by_start(last: bool) -> Callable[[int, int], tuple[int, float] | None]:
        def choice(profile: int, state: int) -> tuple[int, float] | None:
            steps = space.steps[profile][state]
            return (steps[-1 if last else 0][1], 0.0) if steps else None

        return choice

    return {
        "mix": mix,
        "load": load,
        "accepted_percent": {
            "ascending": pair.accepted_percent(pair.first_fit(by_start(False), best_card=False)),
            "descending": pair.accepted_percent(pair.first_fit(by_start(True), best_card=False)),
            "gpu-slices": pair.accepted_percent(pair.first_fit(by_worth, best_card=False)),
            "slicewise": pair.accepted_percent(pair.first_fit(by_worth, best_card=True)),
            "optimal": pair.accepted_percent(pair.optimal),
            "optimal-refusing": pair.accepted_percent(pair.optimal, may_refuse=True),
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mig_bound", description=__doc__)
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--model", default="H100-80GB")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    found = []
    for mix in ORDER_MIXES:
        found.append(measure(options.model, mix, options.load))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    report = {
        "command": f"python -m benchmarks.mig_bound --load {options.load:g} --model {options.model}",
        "mixes": found,
        "seconds": round(time.monotonic() - began, 1),
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
