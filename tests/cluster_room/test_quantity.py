"""Quantities in every notation that the API accepts, and those that it does not."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.quantity import QuantityRefused, parse_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("8", 8),
        (8, 8),
        ("+8", 8),
        ("-8", -8),
        ("007", 7),
        ("100m", Decimal("0.1")),
        ("1500m", Decimal("1.5")),
        ("2000m", 2),
        (".5", Decimal("0.5")),
        ("1.", 1),
        ("1.5Gi", 1536 * 1024 * 1024),
        ("0.5Ki", 512),
        ("1Ei", 2**60),
        ("1k", 1000),
        ("1M", 10**6),
        ("1E", 10**18),
        ("1E3", 1000),
        ("1e3", 1000),
        ("12E-2", Decimal("0.12")),
        ("1u", Decimal("0.000001")),
        ("1n", Decimal("0.000000001")),
        ("0.1n", Decimal("0.000000001")),
        ("-0.1n", Decimal("-0.000000001")),
        ("1e-99999999999", Decimal("0.000000001")),
        ("0e99999999999", 0),
        ("9e9999999", 2**63 - 1),
        ("-9e9999999", -(2**63) + 1),
        ("9999999999999999999999", 2**63 - 1),
        (10**30, 2**63 - 1),
    ],
)
def test_amounts(text: str | int, amount: object):
    parsed = parse_quantity(text)
    assert parsed == amount
    assert isinstance(parsed, int) == (parsed == int(parsed))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1 ", " 1", "1GGi", "1kb", "1K", "1ki", "1g", "Gi", "m", ".", "1e", "1e3k", "1e1.5"),
        *("--1", "1_000", "0x10", "1,5", "NaN", "inf", "1\n", "١", "1" * 300, True),
    ],
)
def test_what_is_not_a_quantity_is_refused_by_name(text: str):
    with pytest.raises(QuantityRefused, match="expected a quantity"):
        parse_quantity(text)


@given(st.integers(-(10**15), 10**15), st.sampled_from(["", "k", "M", "Ki", "Mi"]))
def test_whole_numbers_with_a_suffix_are_exact(number: int, suffix: str):
    factor = {"": 1, "k": 10**3, "M": 10**6, "Ki": 2**10, "Mi": 2**20}[suffix]
    expected = max(-(2**63) + 1, min(2**63 - 1, number * factor))
    assert parse_quantity(f"{number}{suffix}") == expected


@given(st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=6))
def test_decimals_keep_every_digit_down_to_nano(number: Decimal):
    assert parse_quantity(f"{number:f}") == number
