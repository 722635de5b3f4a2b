"""An Event recorder that keeps what it is told."""

from __future__ import annotations

from cluster.wire import ObjectReference


class Said:
    """``events``: what each is about (kind and name), its reason, its note."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def record(
        self,
        regarding: ObjectReference,
        reason: str,
        note: str,
        type: str = "Normal",  # noqa: A002 - the recorder's own name
        action: str = "Decide",
    ) -> None:
        self.events.append((f"{regarding.kind} {regarding.name}", reason, note))

    @property
    def lines(self) -> list[str]:
        """Reason and note of each."""
        return [f"{reason}: {note}" for _, reason, note in self.events]

    def notes(self, reason: str) -> list[str]:
        """The notes of the Events with this reason."""
        return [note for _, given, note in self.events if given == reason]
