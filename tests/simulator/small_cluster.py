"""A cluster and a pod list small enough for tests, with the kinds of the openb trace."""

from __future__ import annotations

from simulator.openb import NodeShape, PodShape, Trace, trace_of


def nodes(copies: int = 4) -> tuple[NodeShape, ...]:
    kinds = [(96_000, 393_216, 8, "G2"), (104_000, 524_288, 2, "T4"), (64_000, 262_144, 2, "P100")]
    return tuple(
        NodeShape(f"node-{kind}-{copy}", cpu, memory, gpus, model)
        for copy in range(copies)
        for kind, (cpu, memory, gpus, model) in enumerate(kinds)
    )


def trace() -> Trace:
    pods = (
        [PodShape(3_152, 8_192, 1, 810)] * 13
        + [PodShape(11_300, 30_000, 1, 1000)] * 20
        + [PodShape(8_000, 16_384, 1, 470)] * 10
        + [PodShape(4_000, 8_192, 1, 320, ("T4",))] * 4
        + [PodShape(12_500, 30_000, 0, 0)] * 8
        + [PodShape(32_000, 65_536, 4, 1000)] * 2
        + [PodShape(4_000, 8_192, 1, 160)] * 3
    )
    return trace_of("small", pods)
