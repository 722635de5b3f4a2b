"""Requirements of label and node selectors: what a label, or its absence, meets."""

import pytest

from dra.requirements import holds


@pytest.mark.parametrize(
    ("operator", "values", "met_by"),
    [
        ("In", ("a", "b"), {"a", "b"}),
        ("NotIn", ("a", "b"), {"c", "7", None}),
        ("Exists", (), {"a", "b", "c", "7"}),
        ("DoesNotExist", (), {None}),
        ("Gt", ("6",), {"7"}),
        ("Gt", ("7",), set()),
        ("Lt", ("8",), {"7"}),
        ("Lt", ("7",), set()),
        ("Gt", ("six",), set()),
        ("Lt", (), set()),
        ("Like", ("a",), set()),
    ],
)
def test_a_requirement_is_met_by_what_its_operator_names(operator, values, met_by):
    assert {value for value in ("a", "b", "c", "7", None) if holds(operator, value, values)} == met_by
