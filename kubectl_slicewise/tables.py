"""Aligned text tables for the terminal, as kubectl prints them. Pure: rows in, text out."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "   "


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()
) -> str:
    """Lay out ``rows`` under ``header``; columns in ``right`` are aligned to the right.

    Raises ValueError when a row has another number of cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header has {len(header)}: {row!r}")
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        GAP.join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def money(amount: float) -> str:
    """Money per hour to four places; a real zero is printed as a dash so that the eye finds what counts."""
    return "-" if amount == 0 else f"{amount:+.4f}"
