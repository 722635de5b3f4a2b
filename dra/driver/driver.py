"""The driver's hands: carries out on cards, checkpoint and CDI folder what the pure modules decide.

Every change is written down before it is done (``checkpoint``), under two locks: one of this process and one
on disk that a second driver of the node respects. They are held during the card's own calls; reading a claim
from the API server happens outside them.

Errors are answers: the kubelet shows them on the pod and asks again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from dra.cards import Card, CardRefused, Cards, LiveInstance
from dra.driver.allocated import PrepareFailed, allocated, remembered
from dra.driver.api import ApiAway, ClaimReader
from dra.driver.cdi import device_id
from dra.driver.cdi_files import CdiFolder, DeviceNodeMissing
from dra.driver.checkpoint import Checkpoint, ClaimRecord, HeldDevice
from dra.driver.checkpoint_file import CheckpointFile
from dra.driver.decide import (
    ClaimToPrepare,
    Destroy,
    Make,
    Ready,
    Refused,
    UndoFirst,
    decide_prepare,
    decide_unprepare,
    mig_modes,
)
from dra.driver.hardware import Hardware, assign_numbers, hardware
from dra.driver.mig_mode import with_former_wires
from dra.driver.ownership import foreign, foreign_bits, owned
from dra.driver.recovery import recover
from dra.driver.sharing import Sharing
from dra.driver.view import View
from dra.plugin.handler import ClaimRef, PreparedDevice

log = logging.getLogger(__name__)


class Driver:
    """Prepares and unprepares claims of one node. Safe to call from several threads."""

    def __init__(
        self,
        cards: Cards,
        state: CheckpointFile,
        cdi: CdiFolder,
        claims: ClaimReader,
        *,
        pool: str,
        boot_id: str,
        sharing: Sharing | None = None,
        mig_on_demand: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``changed`` is called after the checkpoint or the cards changed, outside the locks.
        ``mig_on_demand``: switch MIG mode as claims need it, see ``mig_mode``.
        """
        self._cards = cards
        self._state = state
        self._cdi = cdi
        self._claims = claims
        self._pool = pool
        self._boot_id = boot_id
        self._sharing = sharing or Sharing()
        self._on_demand = mig_on_demand
        self._changed = changed
        self._lock = threading.RLock()
        self._told: dict[str, Card] = {}
        self._cards_seen: tuple[Card, ...] = ()
        self._live_seen: dict[str, tuple[LiveInstance, ...]] = {}
        self._switches = 0
        self._basis: object = None
        self._view = View(Hardware((), {}), Checkpoint(), ())

    @property
    def view(self) -> View:
        """The newest view."""
        return self._view

    def start(self) -> None:
        """Put right what an earlier life left behind. Raises CheckpointRefused, CardRefused, OSError."""
        with self._locked():
            checkpoint = self._state.read()
            plan = recover(checkpoint, self._boot_id)
            if plan.checkpoint != checkpoint:
                self._state.write(plan.checkpoint)
            checkpoint = self._without_leftovers(plan.checkpoint)
            for record in plan.undo:
                try:
                    checkpoint = self._undo(checkpoint, record)
                    log.info("claim %s/%s was half done: undone", record.namespace, record.name)
                except PrepareFailed as problem:
                    log.warning("claim %s/%s stays held: %s", record.namespace, record.name, problem)
                    checkpoint = self._state.read()
            checkpoint = self._with_cards(checkpoint, self._cards.cards())
            checkpoint = self._still_switched(checkpoint)
            self._live_seen = self._live(card.uuid for card in self._cards_seen)
            self._show(checkpoint)
            self._repair_cdi()
        self._changed()

    def refresh(self, *, cards: bool = True) -> View:
        """Read the instances anew, and the cards too, unless told otherwise (that takes longer).

        Raises CardRefused, CheckpointRefused, OSError.
        """
        switches = self._switches
        found = self._cards.cards() if cards else None  # outside the lock: claims need not wait for it
        with self._locked():
            if found is not None and switches != self._switches:
                found = self._cards.cards()  # read while a mode changed
            before = self._view
            checkpoint = self._without_leftovers(self._state.read())
            if found is not None:
                checkpoint = self._with_cards(checkpoint, found)
            self._live_seen = self._live(card.uuid for card in self._cards_seen)
            self._show(checkpoint)
            after = self._view
        if after != before:
            self._changed()
        return after

    def prepare(self, claims: Sequence[ClaimRef]) -> dict[str, tuple[PreparedDevice, ...] | str]:
        """Make claims ready. By UID: the devices with their CDI names, or why not."""
        answers: dict[str, tuple[PreparedDevice, ...] | str] = {}
        for claim in claims:
            try:
                answers[claim.uid] = self._prepare(claim)
            except (PrepareFailed, CardRefused, OSError) as problem:
                answers[claim.uid] = f"claim {claim.namespace}/{claim.name}: {problem}"
        if claims:
            self._changed()
        return answers

    def unprepare(self, claims: Sequence[ClaimRef]) -> dict[str, str]:
        """Give claims back. By UID: "" when done (also when nothing was held), or why not."""
        answers: dict[str, str] = {}
        for claim in claims:
            try:
                with self._locked():
                    checkpoint = self._state.read()
                    record = checkpoint.claims.get(claim.uid)
                    if record is not None:
                        self._note(self._undo(checkpoint, record), record)
                    self._cdi.remove(claim.uid)
                answers[claim.uid] = ""
            except (PrepareFailed, CardRefused, OSError) as problem:
                answers[claim.uid] = f"claim {claim.namespace}/{claim.name}: {problem}"
        if claims:
            self._changed()
        return answers

    def _prepare(self, reference: ClaimRef) -> tuple[PreparedDevice, ...]:
        try:
            wanted: ClaimToPrepare | str = allocated(
                reference, self._claims.claim(*reference.key), self._pool
            )
        except ApiAway as problem:
            wanted = str(problem)
        with self._locked():
            checkpoint = self._state.read()
            if isinstance(wanted, str):
                # A claim that is ready needs no API server: the kubelet asks again after each restart.
                wanted = remembered(checkpoint, reference, wanted)
            for _ in range(2):
                answer = self._decide(checkpoint, wanted)
                if isinstance(answer, Ready):
                    if not self._cdi.exists(reference.uid):
                        self._write_cdi(answer.record)
                    return _prepared(answer.record)
                if isinstance(answer, Refused):
                    raise PrepareFailed(answer.reason)
                if isinstance(answer, Make):
                    return _prepared(self._make(checkpoint, answer))
                checkpoint = self._undo(checkpoint, answer.record)
            raise PrepareFailed("it was undone and is still there; this is a defect of the driver")

    def _decide(self, checkpoint: Checkpoint, claim: ClaimToPrepare) -> Ready | Make | Refused | UndoFirst:
        node = self._view.hardware
        touched = {t.gpu.card.uuid for r in claim.results if (t := node.targets.get(r.device)) is not None}
        record = checkpoint.claims.get(claim.uid)
        touched |= {device.gpu_uuid for device in record.devices} if record is not None else set()
        return decide_prepare(checkpoint, self._live(touched), node, claim)

    def _make(self, checkpoint: Checkpoint, make: Make) -> ClaimRecord:
        modes = mig_modes(make, self._view.hardware)
        switched = {*checkpoint.switched, *(uuid for uuid, on in modes.items() if on)}
        before = checkpoint.with_claim(make.record).with_switched(switched)
        off = {uuid for uuid, on in modes.items() if not on} & switched
        if make.missing or off:  # else no card is touched, and one write at the end says it all
            self._state.write(before)
        devices = list(make.record.devices)
        made: list[Destroy] = []
        try:
            for destroy in make.clear:
                self._cards.destroy(destroy.gpu_uuid, destroy.gpu_instance_id)
            for uuid, on in modes.items():
                if (on and not self._live((uuid,)).get(uuid)) or uuid in off:
                    self._switch(uuid, on)
            for index in make.missing:
                device = devices[index]
                instance = self._cards.create(device.gpu_uuid, device.profile_id or 0, device.start)
                made.append(Destroy(device.gpu_uuid, instance.gpu_instance_id))
                if instance.start != device.start:
                    got = f"got an instance at unit {instance.start}, expected {device.start}"
                    raise PrepareFailed(f"device {device.device}: {got}")
                devices[index] = msgspec.structs.replace(
                    device,
                    gpu_instance_id=instance.gpu_instance_id,
                    compute_instance_id=instance.compute_instance_id,
                    mig_uuid=instance.mig_uuid,
                    seen=(),
                )
            record = msgspec.structs.replace(make.record, stage="prepared", devices=tuple(devices))
            self._write_cdi(record)
        except (CardRefused, PrepareFailed, OSError):
            self._take_back(before, make.record, made)
            raise
        after = before.with_claim(record).with_switched(switched - off)
        self._state.write(after)
        self._note(after, record)
        return record

    def _switch(self, gpu_uuid: str, on: bool) -> None:
        """Change MIG mode now. Raises CardRefused, PrepareFailed."""
        if not self._cards.set_mig_mode(gpu_uuid, on):
            self._cards.set_mig_mode(gpu_uuid, not on)  # nothing may wait for a reset of another day
            raise PrepareFailed(f"GPU {gpu_uuid}: its MIG mode needs a reset of the card to change")
        self._switches += 1
        seen = self._cards_seen
        self._cards_seen = tuple(replace(c, mig_enabled=on) if c.uuid == gpu_uuid else c for c in seen)
        log.info("GPU %s: MIG mode %s", gpu_uuid, "on" if on else "off")

    def _still_switched(self, checkpoint: Checkpoint) -> Checkpoint:
        """Forget those that are out of MIG mode: if it is on later, somebody else did it."""
        on = {card.uuid for card in self._cards_seen if card.mig_enabled is not False}
        if not on.issuperset(checkpoint.switched):
            checkpoint = checkpoint.with_switched(on & set(checkpoint.switched))
            self._state.write(checkpoint)
        return checkpoint

    def _take_back(self, checkpoint: Checkpoint, record: ClaimRecord, made: Sequence[Destroy]) -> None:
        """After a failure: destroy what was made just now. What cannot be is kept in the record."""
        left = [destroy for destroy in made if not self._destroyed(destroy)]
        if record.stage == "preparing" and not left:
            self._cdi.remove(record.uid)
            self._state.write(checkpoint.without_claim(record.uid))
        self._note(self._state.read(), record)

    def _destroyed(self, destroy: Destroy) -> bool:
        try:
            self._cards.destroy(destroy.gpu_uuid, destroy.gpu_instance_id)
        except CardRefused as problem:
            if problem.kind != "not-found":
                log.warning(
                    "GPU %s: instance %s not destroyed: %s",
                    destroy.gpu_uuid,
                    destroy.gpu_instance_id,
                    problem,
                )
                return False
        return True

    def _undo(self, checkpoint: Checkpoint, record: ClaimRecord) -> Checkpoint:
        """Give a claim back; returns the new checkpoint, which is written. Raises PrepareFailed."""
        if record.stage != "unpreparing":
            record = msgspec.structs.replace(record, stage="unpreparing")
            checkpoint = checkpoint.with_claim(record)
            self._state.write(checkpoint)
        self._cdi.remove(record.uid)
        destroys, unreachable = decide_unprepare(record, self._live({d.gpu_uuid for d in record.devices}))
        left: list[HeldDevice] = list(unreachable)
        for destroy in destroys:
            try:
                self._cards.destroy(destroy.gpu_uuid, destroy.gpu_instance_id)
            except CardRefused as problem:
                if problem.kind == "lost":
                    same_gpu = [d for d in record.devices if d.gpu_uuid == destroy.gpu_uuid]
                    left += [device for device in same_gpu if device not in left]
                elif problem.kind != "not-found":
                    raise PrepareFailed(
                        f"GPU {destroy.gpu_uuid}: MIG instance {destroy.gpu_instance_id} cannot be destroyed "
                        f"({problem}); tried again at the kubelet's next request"
                    ) from problem
        leftovers = (*checkpoint.leftovers, *left)
        checkpoint = msgspec.structs.replace(checkpoint.without_claim(record.uid), leftovers=leftovers)
        self._state.write(checkpoint)
        return checkpoint

    def _without_leftovers(self, checkpoint: Checkpoint) -> Checkpoint:
        """Destroy leftovers whose cards answer again; forget those that are gone. Written when changed."""
        live = self._live({device.gpu_uuid for device in checkpoint.leftovers})
        kept = []
        for device in checkpoint.leftovers:
            instance = owned(device, live)
            waits = device.gpu_uuid not in live
            if instance is not None:
                waits = not self._destroyed(Destroy(device.gpu_uuid, instance.gpu_instance_id))
            if waits:
                kept.append(device)
        if len(kept) < len(checkpoint.leftovers):
            checkpoint = msgspec.structs.replace(checkpoint, leftovers=tuple(kept))
            self._state.write(checkpoint)
        return checkpoint

    def _write_cdi(self, record: ClaimRecord) -> None:
        try:
            self._cdi.write(record, self._view.hardware)
        except DeviceNodeMissing as problem:
            raise PrepareFailed(str(problem)) from problem

    def _repair_cdi(self) -> None:
        """Documents of unknown claims go; those of prepared claims that stand are written where missing."""
        checkpoint = self._view.checkpoint
        for uid in self._cdi.claims() - set(checkpoint.claims):
            self._cdi.remove(uid)
        for record in checkpoint.claims.values():
            live = self._live({device.gpu_uuid for device in record.devices})
            stands = all(d.profile_id is None or owned(d, live) is not None for d in record.devices)
            if record.stage == "prepared" and stands and not self._cdi.exists(record.uid):
                try:
                    self._write_cdi(record)
                except PrepareFailed as problem:
                    log.warning("claim %s/%s: %s", record.namespace, record.name, problem)

    def _live(self, gpu_uuids: Iterable[str]) -> dict[str, tuple[LiveInstance, ...]]:
        """The live instances of GPUs that answer."""
        found: dict[str, tuple[LiveInstance, ...]] = {}
        for uuid in set(gpu_uuids):
            try:
                found[uuid] = self._cards.live(uuid)
            except CardRefused as problem:
                if problem.kind == "not-supported":
                    found[uuid] = ()
                else:
                    log.warning("GPU %s: its instances cannot be read: %s", uuid, problem)
        return found

    def _with_cards(self, checkpoint: Checkpoint, found: Sequence[Card]) -> Checkpoint:
        """Take cards as they were read just now; numbers of new GPUs are written at once."""
        cards = tuple(self._known(card) for card in with_former_wires(found, self._told, checkpoint.switched))
        held = {d.gpu_uuid for record in checkpoint.claims.values() for d in record.devices}
        numbers = assign_numbers(checkpoint.numbers, cards, held)
        if numbers != checkpoint.numbers:
            checkpoint = msgspec.structs.replace(checkpoint, numbers=numbers)
            self._state.write(checkpoint)
        self._cards_seen = cards
        return checkpoint

    def _note(self, checkpoint: Checkpoint, record: ClaimRecord) -> None:
        """Renew the view after one claim's work: only its GPUs are asked, for their instances alone."""
        self._live_seen |= self._live({device.gpu_uuid for device in record.devices})
        self._show(checkpoint)

    def _show(self, checkpoint: Checkpoint) -> None:
        strange = foreign(checkpoint, self._live_seen)
        withheld = foreign_bits(strange)
        switched = checkpoint.switched if self._on_demand else None
        basis = self._cards_seen, checkpoint.numbers, withheld, switched
        offered = self._view.hardware
        if basis != self._basis:
            offered = hardware(self._cards_seen, checkpoint.numbers, self._sharing, withheld, switched)
            self._basis = basis
        self._view = View(offered, checkpoint, strange)

    def _known(self, card: Card) -> Card:
        """A card that fell silent keeps the face that it had: its devices stay published, tainted."""
        if card.health.state == "unhealthy" and not card.product and card.uuid in self._told:
            return replace(self._told[card.uuid], health=card.health)
        self._told[card.uuid] = card
        return card

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock, self._state.locked():
            yield


def _prepared(record: ClaimRecord) -> tuple[PreparedDevice, ...]:
    return tuple(
        PreparedDevice(
            request=device.request.partition("/")[0],
            pool=device.pool,
            device=device.device,
            cdi_ids=(device_id(record.uid, device),),
            share_id=device.share_id,
        )
        for device in record.devices
    )
