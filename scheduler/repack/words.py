"""A plan as JSON-ready data. Money in the policy's currency: ``cost`` once, ``gainPerHour`` an hour. Pure."""

from __future__ import annotations

from scheduler.repack.scene import Move, RepackPlan


def as_json(made: RepackPlan) -> dict[str, object]:
    """The plan as a document."""
    return {
        "moves": [_move(move) for move in made.moves],
        "reliefs": [
            {
                "pod": relief.waiter.full_name,
                "demand": str(relief.waiter.demand),
                "node": relief.node,
                "moves": len(relief.moves),
                "cost": round(relief.cost, 4),
                "worthPerHour": round(relief.waiter.value_per_hour, 4),
            }
            for relief in made.reliefs
        ],
        "unmet": [
            {"pod": one.waiter.full_name, "demand": str(one.waiter.demand), "reason": one.reason}
            for one in made.unmet
        ],
    }


def _move(move: Move) -> dict[str, object]:
    return {
        "pod": move.pod.full_name,
        "from": move.source,
        "to": move.target or None,
        "wave": move.wave,
        "why": move.why,
        "for": None if move.waiter is None else move.waiter.full_name,
        "cost": round(move.cost, 4),
        "gainPerHour": round(move.gain_per_hour, 4),
    }
