"""Types of command-line flags that the simulations share: what argparse turns a text into, or refuses with
what it got and what it expected.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of 1 or more")
    return number


def names_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """One or more of the known names, separated by commas, each once, in the order given."""

    def names(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        unknown = [name for name in found if name not in known]
        if unknown or not found:
            raise argparse.ArgumentTypeError(
                f"got {', '.join(unknown) or 'no name'}, expected any of {', '.join(known)}"
            )
        return found

    return names


def add_run_flags(parser: argparse.ArgumentParser, seeds: int) -> None:
    """How often, how many at a time, and how to print: ``seeds``, ``processes`` and ``output``."""
    parser.add_argument(
        "--seeds", type=positive, default=seeds, metavar="N", help=f"seeds, from 42 on (default: {seeds})"
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="runs at a time (default: one a core)",
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print (default: table)"
    )
