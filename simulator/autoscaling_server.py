"""The serving model of a replica: how long an iteration takes, how many requests it serves at a time.

    iteration(n) = base + n · (compute·tc + memory·tm)        [s], n requests in the batch
    tc = (in + out)/(out + 1) tokens computed, tm = in + out/2 tokens read, per request and iteration
    a request needs out + 1 iterations, and (compute + memory)·in + out·(compute + memory·(in + out/2)) on top
    first token after its wait: iteration(n) + (compute + memory)·in

The form of the queueing analysis in llm-d's Workload Variant Autoscaler. All replicas are taken to have the
same batch (a router that sends to the least loaded one). What a request needs on top is turned into
iterations at a full batch, so that its need is one number (``work``) and the speed of a replica is
1/iteration(n).

Does not model preemption, prefix caches, chunked prefill as such, or unequal replicas.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from simulator.autoscaling_trace import Floats

DEFAULT_MODEL = Path(__file__).with_name("data") / "llm-8b-a100.json"


class ServerRefused(Exception):
    """A file that is not a serving model; the message says where and what to do."""


class ServerModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the formula above; ``slots`` requests at a time, ``ttft_seconds`` the objective of the first token,
    ``queue_timeout_seconds`` after which a waiting request is refused, ``drain_seconds`` for which a deleted
    replica that had served keeps its GPU.
    """

    name: str
    base_seconds: float
    compute_seconds_per_token: float
    memory_seconds_per_token: float
    slots: int
    kv_cache_tokens: float
    ttft_seconds: float
    queue_timeout_seconds: float
    drain_seconds: float

    def slope_seconds(self, taken: Floats, given: Floats) -> Floats:
        """What one more request in the batch adds to an iteration; tokens in and out, elementwise."""
        computed = (taken + given) / (given + 1.0)
        return self.compute_seconds_per_token * computed + self.memory_seconds_per_token * (
            taken + given / 2.0
        )

    def full_iteration_seconds(self, slope: Floats) -> Floats:
        """One iteration with every slot taken."""
        return self.base_seconds + self.slots * slope

    def work(self, taken: Floats, given: Floats, full_iteration: Floats | float) -> Floats:
        """Iterations that a request needs, what it needs on top included."""
        token = self.compute_seconds_per_token + self.memory_seconds_per_token
        on_top = token * taken + given * (
            self.compute_seconds_per_token + self.memory_seconds_per_token * (taken + given / 2.0)
        )
        return given + 1.0 + on_top / full_iteration

    def patience_seconds(self, taken: Floats, full_iteration: Floats | float) -> Floats:
        """How long a request may wait and still have its first token in time; 0 where it cannot."""
        token = self.compute_seconds_per_token + self.memory_seconds_per_token
        return np.maximum(0.0, self.ttft_seconds - full_iteration - token * taken)

    def kv_tokens(self, taken: Floats, given: Floats) -> Floats:
        """Tokens that a request holds in the cache on average over its life."""
        return taken + given / 2.0


def read_server(path: Path) -> ServerModel:
    """Read a serving model (JSON). Raises ServerRefused."""
    try:
        model = msgspec.json.decode(path.read_bytes(), type=ServerModel)
    except OSError as problem:
        raise ServerRefused(f"{path}: cannot be read: {problem}; give a JSON file") from problem
    except msgspec.DecodeError as problem:
        raise ServerRefused(f"{path}: {problem}; take {DEFAULT_MODEL.name} for a pattern") from problem
    for name in model.__struct_fields__[1:]:
        value, least = (
            getattr(model, name),
            0.0 if name in ("drain_seconds", "compute_seconds_per_token") else None,
        )
        if not np.isfinite(value) or (value <= 0.0 if least is None else value < least):
            raise ServerRefused(f"{path}: {name}: got {value:g}, expected a positive number")
    return model
