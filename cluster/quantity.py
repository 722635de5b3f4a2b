"""Read Kubernetes quantities: ``100m``, ``1.5Gi``, ``2e3``, ``8``.

Grammar and limits from k8s.io/apimachinery ``resource.Quantity``: a signed decimal number, then a binary
suffix (Ki..Ei), a decimal suffix (n, u, m, k, M, G, T, P, E) or an exponent (e3, E-2). Digits below a
nano-unit are rounded away from zero; magnitudes above 2^63 - 1 are capped there, as the API server does.
It matters wherever amounts are added or compared; equal amounts may be written differently.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal
from functools import lru_cache

_NUMBER = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]+))?"
)
_SCALE = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(10) ** (3 * (power + 1)) for power, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": Decimal(1024) ** (power + 1) for power, suffix in enumerate("KMGTPE")},
}
_LARGEST = 2**63 - 1
_NANO = Decimal("1e-9")
_FAR = 64  # powers of ten beyond which capping or rounding decides alone


class QuantityRefused(ValueError):
    """The text is not a quantity."""

    def __init__(self, text: object) -> None:
        super().__init__(
            f"got {text!r}, expected a quantity such as 2, 500m, 16Gi or 1e3; "
            "write a number followed by at most one suffix"
        )


def parse_quantity(quantity: str | int) -> int | Decimal:
    """Return the amount: an int when it is whole, else an exact Decimal.

    Raises QuantityRefused (a ValueError) for anything that the API server would refuse.
    """
    if isinstance(quantity, bool):
        raise QuantityRefused(quantity)
    if isinstance(quantity, int):
        return max(-_LARGEST, min(_LARGEST, quantity))
    return _parse(quantity)


@lru_cache(maxsize=4096)
def _parse(text: str) -> int | Decimal:
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > 256:
        raise QuantityRefused(text)
    if text.isascii() and text.isdecimal():
        return min(int(text), _LARGEST)
    value = Decimal(match["number"])
    if match["suffix"]:
        value *= _SCALE[match["suffix"]]
    elif match["exponent"]:
        value = _shifted(value, int(match["exponent"]))
    if abs(value) >= _LARGEST:
        return _LARGEST if value > 0 else -_LARGEST
    whole = int(value)
    if value == whole:
        return whole
    return value.quantize(_NANO, rounding=ROUND_UP).normalize()


def _shifted(value: Decimal, exponent: int) -> Decimal:
    """Multiply by a power of ten; far powers are clamped, since the caps decide the result anyway."""
    reach = _FAR + len(value.as_tuple().digits)
    return value.scaleb(max(-reach, min(reach, exponent)))
