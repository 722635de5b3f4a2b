"""Kubernetes quantities as exact numbers, for counters and capacities.

Source: k8s.io/apimachinery ``resource.Quantity`` (decimal and binary suffixes, decimal exponents). The value
is kept as a fraction, so that sums of counters never round. Does not keep the spelling.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_NUMBER = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?")

_SUFFIX: dict[str, Fraction] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", start=1)},
}


@lru_cache(maxsize=4096)
def amount(quantity: str | int) -> Fraction | None:
    """The value of a quantity, or None when the text is not a quantity."""
    if isinstance(quantity, int):
        return Fraction(quantity)
    match = _NUMBER.fullmatch(quantity)
    if match is None:
        return None
    number, suffix = match.group(1), match.group(2) or ""
    if suffix and suffix[0] in "eE" and len(suffix) > 1 and suffix != "Ei":
        exponent = int(suffix[1:])
        if abs(exponent) > 100:
            return None
        return Fraction(number) * Fraction(10) ** exponent
    return Fraction(number) * _SUFFIX[suffix]


def mebibytes(mib: int) -> str:
    """The canonical spelling of a whole number of MiB."""
    return f"{mib // 1024}Gi" if mib and mib % 1024 == 0 else f"{mib}Mi"
