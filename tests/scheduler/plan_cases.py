"""Small planning problems for tests: a few nodes of real GPU models, and pods drawn for them."""

from __future__ import annotations

import random

from dra.catalog import models
from dra.mig import geometry
from dra.nvlink import bridges, nvswitch
from scheduler.packing.plan_problem import (
    NO_QUOTA,
    WHOLE,
    Gang,
    Gpu,
    GpuValue,
    Need,
    NodeClass,
    NodeKind,
    Order,
    PlanProblem,
    Profile,
    Wanted,
)

PROFILES = ("1g.10gb", "1g.10gb+me", "2g.20gb", "3g.40gb", "7g.80gb")
H100 = models()["H100-80GB"]


def worth_table(rng: random.Random) -> tuple[float, ...]:
    """A value a mask: less free space is never worth more."""
    gain = [rng.uniform(0.1, 1.0) for _ in range(H100.units)]
    return tuple(
        sum(value for unit, value in enumerate(gain) if not mask >> unit & 1)
        for mask in range(1 << H100.units)
    )


def order(rng: random.Random) -> Order:
    """The placements of an H100 in some published order."""
    placements = [p for p in geometry(H100).placements if p.profile in PROFILES]
    rng.shuffle(placements)
    return Order(tuple((PROFILES.index(p.profile), p.start, p.size) for p in placements))


def random_problem(
    seed: int, *, quotas: bool = True, gangs: bool = True, most_nodes: int = 4, most_pods: int = 14
) -> PlanProblem:
    """Contended as a rule: a few nodes of up to four GPUs, partly used, and more pods than fit."""
    rng = random.Random(seed)
    gpus = rng.randint(1, 4)
    shapes = [
        Need(steps=((WHOLE, 1),), scalars=((0, 2),)),
        Need(steps=((WHOLE, 2),), scalars=((0, 4),), linked=rng.random() < 0.5),
        *(
            Need(steps=((profile, rng.choice((1, 1, 2))),), scalars=((0, 1),))
            for profile in rng.sample(range(len(PROFILES)), 3)
        ),
        Need(steps=((WHOLE, 1), (0, 1)), scalars=((0, 2),)),
    ]
    sizes = {0: 0.125, 1: 0.125, 2: 0.25, 3: 0.5, 4: 1.0, WHOLE: 1.0}
    topology = nvswitch(H100, gpus) if rng.random() < 0.5 else bridges(H100, gpus)
    kinds = tuple(
        NodeKind(
            gpus=tuple(Gpu(0, 0, 0, whole=True) for _ in range(gpus)),
            pools=(tuple(free * rng.uniform(1.0, 3.0) for free in range(gpus + 1)),),
            needs=tuple(shapes),
            topology=topology,
            best_links=rng.random() < 0.5,
        )
        for _ in range(2)
    )
    placements = [p for p in geometry(H100).placements if "+" not in p.profile]
    nodes = []
    for _ in range(rng.randint(1, most_nodes)):
        masks = []
        for _ in range(gpus):
            mask = 0
            for placement in rng.sample(placements, 2):
                if rng.random() < 0.4 and not mask & placement.bits:
                    mask |= placement.bits
            masks.append(mask)
        nodes.append(
            NodeClass(
                kind=rng.randrange(2),
                masks=tuple(masks),
                scalars=(rng.choice((3, 8, 1000)),),
                other=tuple(None if rng.random() < 0.1 else round(rng.uniform(0.0, 5.0), 3) for _ in shapes),
                count=rng.choice((1, 1, 2)),
            )
        )
    caps = (float(rng.randint(1, 4)),) if quotas and rng.random() < 0.5 else ()
    quota = 0 if caps else NO_QUOTA
    wanted = tuple(
        Wanted(shape, rng.randrange(2), rng.randint(1, max(1, most_pods // 6)), rng.choice((quota, NO_QUOTA)))
        for shape in range(len(shapes))
    )
    made_gangs = tuple(
        Gang(
            tuple((shape, rng.randint(1, 2)) for shape in sorted(rng.sample(range(len(shapes)), 2))),
            rng.randrange(2),
            rng.choice((quota, NO_QUOTA)),
        )
        for _ in range(rng.randint(0, 3) if gangs else 0)
    )
    return PlanProblem(
        profiles=tuple(Profile(name, "+me" in name) for name in PROFILES),
        values=(GpuValue(H100.units, worth_table(rng)),),
        orders=(order(rng),),
        kinds=kinds,
        nodes=tuple(nodes),
        gpus=tuple(sum(sizes[step] * count for step, count in need.steps) for need in shapes),
        wanted=wanted,
        gangs=made_gangs,
        quotas=caps,
    )
