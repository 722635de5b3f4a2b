"""Types of command-line flags that the simulations share: what argparse turns a text into, or refuses with
what it got and what it expected.
"""

from __future__ import annotations

import argparse
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
