"""Which buckets of a latency histogram tell the share above a bound: its two neighbours and the total.

``histogram.share_above`` interpolates between the bounds next to the one that is asked about, so all others
need not be fetched; of some twenty buckets a pod three are left. How the bounds are spelled (``2.5``, ``2``,
``2.0``) differs by server and is learned from an answer with all of them. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from metrics.units import TimeUnit, to_seconds


def neighbours(
    spelled: Collection[str], wanted_seconds: Collection[float], unit: TimeUnit
) -> tuple[str, ...]:
    """The values of ``le``, of those that exist, that tell the shares above all of ``wanted_seconds``.

    ``unit`` is that of ``spelled``. Empty when the bounds are no histogram's: then all must be fetched.
    """
    bounds: dict[float, str] = {}
    for text in spelled:
        try:
            bounds[to_seconds(float(text), unit)] = text
        except ValueError:
            return ()
    finite = sorted(bound for bound in bounds if math.isfinite(bound))
    if math.inf not in bounds or not finite or len(bounds) != len(spelled):
        return ()
    chosen = {math.inf}
    for wanted in wanted_seconds:
        above = next((number for number, bound in enumerate(finite) if bound >= wanted), len(finite) - 1)
        chosen.update(finite[max(0, above - 1) : above + 1])
    return tuple(bounds[bound] for bound in sorted(chosen))
