"""Whether new work may go to a card, from what it reports. Pure.

Unhealthy: the card is lost; a row remapping has failed (the memory cannot be mended); the NVLink fabric says
that the card is unhealthy; an event that the hardware, not a program, caused. Only noted, as the hardware
contains it until the next reset: pending row remappings, uncorrected ECC errors since the driver was loaded,
links that are down.

XIDs that a program causes on its own (an illegal address, a killed process) leave the card as good as it was,
and so do a memory error that was contained in one program (94) and the recording of a row to remap (63).
Any other XID and a double-bit ECC error make the card unhealthy, until it has been gone and came back (a
reset) or our process starts anew.

Sources: NVML reference on row remapping; NVIDIA's XID catalogue and guide to memory errors; the list of
application XIDs is the one that NVIDIA's device plugin ignores.
"""

from __future__ import annotations

from collections.abc import Iterable

from dra.cards import Health, HealthEvent

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
CONTAINED_XIDS = frozenset({63, 94})
FABRIC_UNHEALTHY = 2


def health_of(
    *,
    uncorrected_errors: int | None = None,
    remapped_rows: tuple[int, int, int, int] | None = None,
    links_down: int = 0,
    fabric_summary: int | None = None,
    faults: Iterable[str] = (),
) -> Health:
    """Health by the card's own counters and by ``faults``, the harmful events since it came, in words.

    ``remapped_rows``: corrected, uncorrected, pending (0 or 1), failed (0 or 1). ``fabric_summary``: NVML's.
    """
    grave = list(faults)
    noted: list[str] = []
    if remapped_rows is not None and remapped_rows[3]:
        grave.append("a memory row could not be remapped: the card needs service")
    if fabric_summary == FABRIC_UNHEALTHY:
        grave.append("the NVLink fabric reports the card as unhealthy")
    if remapped_rows is not None and remapped_rows[2]:
        noted.append("row remappings wait for a reset of the card")
    if uncorrected_errors:
        noted.append(f"{uncorrected_errors} uncorrected ECC errors since the driver was loaded")
    if links_down:
        noted.append(f"{links_down} NVLinks are down")
    return Health("unhealthy" if grave else "healthy", (*grave, *noted))


def harmful(event: HealthEvent) -> bool:
    """True for an event after which the card must get no new work. A lost card shows that by itself."""
    if event.kind == "xid":
        return event.code not in APPLICATION_XIDS | CONTAINED_XIDS
    return event.kind == "ecc"


def reason_of(event: HealthEvent) -> str:
    """The event in words for people."""
    where = "" if event.gpu_instance_id is None else f" in GPU instance {event.gpu_instance_id}"
    words = {"xid": f"the driver reported XID {event.code}", "ecc": "a double-bit ECC error was reported"}
    return words.get(event.kind, f"event {event.kind}") + where
