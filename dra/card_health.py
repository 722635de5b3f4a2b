"""Whether new work may go to a card, from what it reports. Pure.

Unhealthy: the card is lost; a row remapping has failed (the memory cannot be mended); the NVLink fabric says
that the card is unhealthy; an event that the hardware, not a program, caused. Only noted, as the hardware
contains it until the next reset: pending row remappings, uncorrected ECC errors since the driver was loaded,
links that are down.

XIDs that a program causes on its own (an illegal address, a killed process) leave the card as good as it was.
Sources: NVML reference on row remapping; NVIDIA XID catalogue; the list of application XIDs is the one that
NVIDIA's device plugin ignores.
"""

from __future__ import annotations

from dra.cards import Health, HealthEvent

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
FABRIC_UNHEALTHY = 2


def health_of(
    *,
    uncorrected_errors: int | None = None,
    remapped_rows: tuple[int, int, int, int] | None = None,
    links_down: int = 0,
    fabric_summary: int | None = None,
) -> Health:
    """Health by the card's own counters.

    ``remapped_rows``: corrected, uncorrected, pending (0 or 1), failed (0 or 1). ``fabric_summary``: NVML's.
    """
    grave: list[str] = []
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
    """True for an event after which the card, or the MIG instance it names, must get no new work."""
    if event.kind == "xid":
        return event.code not in APPLICATION_XIDS
    return event.kind in ("ecc", "lost")


def reason_of(event: HealthEvent) -> str:
    """The event in words for people."""
    where = "" if event.gpu_instance_id is None else f" in GPU instance {event.gpu_instance_id}"
    words = {"xid": f"XID {event.code}", "ecc": "double-bit ECC error", "lost": "the card is lost"}
    return words.get(event.kind, f"event {event.kind}") + where
