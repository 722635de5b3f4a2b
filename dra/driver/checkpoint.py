"""What the driver must remember beyond its own life: which claim holds what, and how far it got.

A record is written before the card is touched (``preparing``) and again when all is ready (``prepared``);
``unpreparing`` is written before anything is taken away. So after a crash every instance on a card is either
named by a record, or was announced by one, or is someone else's. The text is JSON with a version and a
SHA-256 of the state: a file that was cut or edited is refused, never half believed.

Instance ids do not survive a reboot (NVML: GPU instances are gone after a reset), hence ``boot_id``.

Pure: bytes in and out; ``checkpoint_file`` writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

VERSION = 1

Stage = Literal["preparing", "prepared", "unpreparing"]


class CheckpointRefused(Exception):
    """The checkpoint cannot be used: the message says what was found and what to do."""


class HeldDevice(Struct, frozen=True, omit_defaults=True):
    """One device of a claim. Of a MIG device ``profile_id`` is set, and the ids once the instance is made.

    ``start``, ``size``: memory units; both 0 for a whole or shared GPU. ``seen``: ids of the GPU instances
    that were on the card when the intent was written: those are not ours. ``share_id``: set for one share of
    a GPU. ``admin``: access for monitoring, which holds nothing.
    """

    request: str
    pool: str
    device: str
    gpu_uuid: str
    start: int = 0
    size: int = 0
    profile_id: int | None = None
    profile: str = ""
    share_id: str | None = None
    consumed: dict[str, str] = {}
    admin: bool = False
    gpu_instance_id: int | None = None
    compute_instance_id: int | None = None
    mig_uuid: str | None = None
    seen: tuple[int, ...] = ()

    @property
    def bits(self) -> int:
        """Bitmask of the memory units, 0 for a whole or shared GPU."""
        return ((1 << self.size) - 1) << self.start


class ClaimRecord(Struct, frozen=True):
    """One claim that holds devices of this node."""

    uid: str
    namespace: str
    name: str
    stage: Stage
    devices: tuple[HeldDevice, ...]


class Checkpoint(Struct, frozen=True):
    """The whole memory. ``numbers``: the number in the device names of each GPU, by UUID. ``leftovers``:
    instances of claims that are gone, on cards that could not be asked; to be destroyed when they answer.
    ``switched``: UUIDs of the GPUs that we put, or were about to put, in MIG mode.
    """

    boot_id: str = ""
    claims: dict[str, ClaimRecord] = {}
    numbers: dict[str, int] = {}
    leftovers: tuple[HeldDevice, ...] = ()
    switched: tuple[str, ...] = ()

    def with_switched(self, uuids: Iterable[str]) -> Checkpoint:
        """The same with other GPUs in MIG mode because of us."""
        return msgspec.structs.replace(self, switched=tuple(sorted(set(uuids))))

    def with_claim(self, record: ClaimRecord) -> Checkpoint:
        """The same with one claim added or replaced."""
        return msgspec.structs.replace(self, claims={**self.claims, record.uid: record})

    def without_claim(self, uid: str) -> Checkpoint:
        """The same without one claim."""
        kept = {key: record for key, record in self.claims.items() if key != uid}
        return msgspec.structs.replace(self, claims=kept)


class _Envelope(Struct, frozen=True):
    version: int
    sha256: str
    state: msgspec.Raw


def render(checkpoint: Checkpoint) -> bytes:
    """The text of the file."""
    state = msgspec.json.encode(checkpoint)
    envelope = _Envelope(VERSION, hashlib.sha256(state).hexdigest(), msgspec.Raw(state))
    return msgspec.json.encode(envelope)


def parse(data: bytes, where: str) -> Checkpoint:
    """Read the file's text. Raises CheckpointRefused for another version, a wrong sum, or no JSON."""
    remedy = (
        "Without it the driver cannot tell its own MIG instances from others. Drain the node of pods with "
        "claims, move the file away and start again; instances that remain count as foreign and are kept"
    )
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
    except msgspec.DecodeError as problem:
        raise CheckpointRefused(
            f"{where}: got {len(data)} bytes that are no checkpoint ({problem}). {remedy}"
        ) from problem
    if envelope.version != VERSION:
        raise CheckpointRefused(
            f"{where}: got version {envelope.version}, expected {VERSION}; run the version of slicewise-node "
            f"that wrote it. {remedy}"
        )
    state = bytes(envelope.state)
    if hashlib.sha256(state).hexdigest() != envelope.sha256:
        raise CheckpointRefused(f"{where}: the sum does not match the contents. {remedy}")
    try:
        return msgspec.json.decode(state, type=Checkpoint)
    except msgspec.DecodeError as problem:
        raise CheckpointRefused(f"{where}: {problem}. {remedy}") from problem
