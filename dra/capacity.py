"""Shares of a device's capacity when several claims may hold it (consumable capacity, KEP-5075).

Follows ``consumable_capacity.go`` of k8s.io/dynamic-resource-allocation 1.36: a request is rounded up by the
capacity's policy, a capacity not asked for takes the policy's default or else all of it, and the sum over
all holders must not exceed the value. The check runs for every device; without ``allowMultipleAllocations``
it passes unless more than there is is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor

from dra.quantity import amount
from dra.resource_api import CapacityRequestPolicy, Device

Share = dict[str, Fraction]


def share_of(device: Device, requests: Mapping[str, str | int], held: Mapping[str, Fraction]) -> Share | None:
    """What one more allocation takes of each capacity, given what is ``held`` already; None when it does not
    fit.
    """
    if any(name not in device.capacity for name in requests):
        return None
    taken: Share = {}
    for name, capacity in device.capacity.items():
        value = amount(capacity.value)
        if value is None:
            return None
        policy = capacity.request_policy
        wanted = amount(requests[name]) if name in requests else None
        share = _rounded(wanted, policy, value)
        if _violates(share, policy) or held.get(name, Fraction(0)) + share > value:
            return None
        taken[name] = share
    return taken


def _rounded(wanted: Fraction | None, policy: CapacityRequestPolicy | None, value: Fraction) -> Fraction:
    if wanted is None:
        default = amount(policy.default) if policy is not None and policy.default is not None else None
        return value if default is None else default
    if policy is None:
        return wanted
    if policy.valid_range is not None and policy.valid_range.min is not None:
        least = amount(policy.valid_range.min) or Fraction(0)
        step = amount(policy.valid_range.step) if policy.valid_range.step is not None else None
        if wanted < least:
            return least
        if not step:
            return wanted
        base, whole_step = _whole(least), _whole(step)
        return Fraction(base - (base - _whole(wanted)) // whole_step * whole_step)
    for valid in (amount(v) or Fraction(0) for v in policy.valid_values):
        if wanted <= valid:
            return valid
    return wanted


def _violates(share: Fraction, policy: CapacityRequestPolicy | None) -> bool:
    if policy is None or (policy.default is not None and share == amount(policy.default)):
        return False
    if policy.valid_range is not None:
        most = amount(policy.valid_range.max) if policy.valid_range.max is not None else None
        if most is not None and share > most:
            return True
        step = amount(policy.valid_range.step) if policy.valid_range.step is not None else None
        least = amount(policy.valid_range.min) if policy.valid_range.min is not None else None
        return (
            bool(step) and (_whole(share) - _whole(least or Fraction(0))) % _whole(step or Fraction(1)) != 0
        )
    return bool(policy.valid_values) and share not in {amount(v) for v in policy.valid_values}


def _whole(value: Fraction) -> int:
    """Steps are counted in whole units: ``Quantity.Value`` rounds away from zero."""
    return ceil(value) if value >= 0 else floor(value)
