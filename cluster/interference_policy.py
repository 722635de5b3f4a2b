"""The interference section of the cluster policy: what pods lose to neighbours on the same hardware.

    interference:
      defaultClass: none                  # pods without the annotation slicewise.io/interference
      slowdown:
        gpu:                              # a neighbour's share of a time-sliced or MPS-shared GPU
          memory: {memory: 0.35, compute: 0.10}
          compute: {memory: 0.10, compute: 0.30}
        node:                             # one GPU's worth of neighbours on the same host
          memory: {memory: 0.03, compute: 0.0}
          compute: {memory: 0.0, compute: 0.0}

``slowdown.<where>.<class>.<neighbour>`` is the share of its speed that a pod of the class loses to one
neighbour. Class names are the user's own, but for ``none``: such pods neither lose anything nor cause loss.
Nothing counts as 0 for not being said: each table given names every pair of the classes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from cluster.policy_model import AtLeastOne, Flag, PolicyModel, Positive, Share

UNAFFECTED: Final = "none"
"""The class of pods that neither lose anything to neighbours nor cause loss."""

ClassName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Pairs = dict[ClassName, dict[ClassName, Share]]


class Slowdown(PolicyModel):
    """Share of speed lost by class and neighbour's class, by what they share."""

    gpu: Pairs = Field(
        default_factory=dict,
        description="lost to each neighbour's replica on the same time-sliced or MPS-shared GPU",
    )
    pcie_root: Pairs = Field(
        default_factory=dict,
        description="lost to each GPU's worth of neighbours under the same PCIe root",
    )
    node: Pairs = Field(
        default_factory=dict, description="lost to each GPU's worth of neighbours on the same node"
    )

    def declared(self) -> Mapping[str, Pairs]:
        """The tables that say something, by the key in YAML."""
        tables = {"gpu": self.gpu, "pcieRoot": self.pcie_root, "node": self.node}
        return {name: pairs for name, pairs in tables.items() if pairs}


class Learning(PolicyModel):
    """How slowdowns are learned from latency (else from SM activity) beside who the neighbours were."""

    enabled: Flag = Field(
        default=True, description="whether measured slowdowns correct the declared ones; needs Prometheus"
    )
    min_samples: AtLeastOne = Field(
        default=30,
        description="samples of a pair, as many with fewer and with more neighbours, before it is learned",
    )
    prior_spread: Positive = Field(
        default=0.1,
        description="standard deviation of a declared slowdown: the smaller, the more it takes to move it",
    )


class Interference(PolicyModel):
    """What is known of neighbours' harm before anything is measured."""

    default_class: ClassName | None = Field(
        default=None,
        description="class of GPU pods that state none; none: they neither lose anything nor cause loss",
    )
    slowdown: Slowdown = Slowdown()
    learning: Learning = Learning()

    def contradictions(self) -> Sequence[tuple[tuple[str | int, ...], object, str, str]]:
        found = list(_gaps(self.slowdown))
        declared = self.slowdown.declared()
        if declared and self.default_class is None:
            found.append(
                (
                    ("interference", "defaultClass"),
                    None,
                    "the class of GPU pods that state none, because interference.slowdown is given",
                    f"add one of its classes, or {UNAFFECTED}",
                )
            )
        known = {UNAFFECTED, *(name for pairs in declared.values() for name in pairs)}
        if declared and self.default_class is not None and self.default_class not in known:
            found.append(
                (
                    ("interference", "defaultClass"),
                    self.default_class,
                    f"one of {', '.join(sorted(known))}",
                    "use a class of interference.slowdown, or add it there",
                )
            )
        return found


def _gaps(slowdown: Slowdown) -> Iterator[tuple[tuple[str | int, ...], object, str, str]]:
    tables = slowdown.declared()
    classes = sorted(
        {name for pairs in tables.values() for name in pairs}
        | {name for pairs in tables.values() for losses in pairs.values() for name in losses}
    )
    for where, pairs in tables.items():
        for name in classes:
            if name == UNAFFECTED:
                yield (
                    ("interference", "slowdown", where, name),
                    name,
                    f"no such class: {UNAFFECTED} neither loses anything nor causes loss",
                    "delete it",
                )
                continue
            missing = [other for other in classes if other not in pairs.get(name, {}) and other != UNAFFECTED]
            if missing:
                yield (
                    ("interference", "slowdown", where, name),
                    None,
                    f"a number for each class of interference.slowdown; there is none for "
                    f"{', '.join(missing)}",
                    "add it; write 0 where nothing is lost",
                )
