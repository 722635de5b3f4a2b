"""Which whole GPUs are offered in shares, and how large a share is: the operator's file.

    gpus:
    - {index: 3, mode: time-slicing, shares: 4}
    - {model: L40S-48GB, mode: mps, shares: 8, pipeDirectory: /run/nvidia-mps}

``index`` is the number in the device's name and goes before ``model`` (a catalogue name). ``shares``: how
many claims fit when each takes one; a claim may ask for more by ``capacity.requests.share`` (steps of 1), or
for memory by ``capacity.requests.memory`` (consumable capacity, KEP-5075; on by default from Kubernetes
1.36).

MPS limits a claim's memory and threads to its part; time-slicing limits nothing and shares honestly among
processes that ask the GPU for work. The MPS control daemon is not started here: it must run on the node with
its pipe directory as named. Pure; the shell reads the file.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

MOST_SHARES = 128

Mode = Literal["mps", "time-slicing"]


class SharingRefused(Exception):
    """The sharing file cannot be used: the message says where, what was found and what is expected."""


class SharedGpu(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One rule: which GPUs, how, in how many shares."""

    mode: Mode
    shares: int
    index: int | None = None
    model: str | None = None
    pipe_directory: str = "/run/nvidia-mps"


class Sharing(Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    gpus: tuple[SharedGpu, ...] = ()

    def rule(self, index: int, model: str) -> SharedGpu | None:
        """The rule for a GPU: the first that names its number, else the first that names its model."""
        for shared in self.gpus:
            if shared.index == index:
                return shared
        return next((s for s in self.gpus if s.index is None and s.model == model), None)


def parse_sharing(document: object, where: str) -> Sharing:
    """Check a document read from YAML or JSON. Raises SharingRefused."""
    try:
        sharing = msgspec.convert(document or {}, Sharing)
    except msgspec.ValidationError as problem:
        raise SharingRefused(f"{where}: {problem}") from problem
    for number, shared in enumerate(sharing.gpus):
        at = f"{where}: gpus[{number}]"
        if (shared.index is None) == (shared.model is None):
            raise SharingRefused(f"{at}: expected one of index and model")
        if not 2 <= shared.shares <= MOST_SHARES:
            raise SharingRefused(f"{at}.shares: got {shared.shares}, expected 2 to {MOST_SHARES}")
        if not shared.pipe_directory.startswith("/"):
            raise SharingRefused(
                f"{at}.pipeDirectory: got {shared.pipe_directory!r}, expected an absolute path"
            )
    return sharing
