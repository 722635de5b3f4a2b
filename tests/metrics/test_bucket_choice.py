"""A few buckets tell what all of them tell about one bound."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from metrics.bucket_choice import neighbours
from metrics.histogram import share_above
from metrics.samples import NoData

bounds = st.lists(
    st.sampled_from([0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]), unique=True, min_size=1
)


@given(finite=bounds, steps=st.data(), bound=st.floats(0.0005, 20.0))
def test_the_share_above_a_bound_is_that_of_all_buckets(
    finite: list[float], steps: st.DataObject, bound: float
):
    total, full = 0.0, {}
    for upper in (*sorted(finite), math.inf):
        total += steps.draw(st.integers(0, 9))
        full[upper] = total
    spelled = {str(upper) if upper < math.inf else "+Inf": upper for upper in full}
    chosen = neighbours(list(spelled), [bound], "seconds")
    assert len(chosen) <= 3
    whole = share_above(full, bound)
    part = share_above({spelled[name]: full[spelled[name]] for name in chosen}, bound)
    if isinstance(whole, NoData):
        assert isinstance(part, NoData)
        assert part.cause == whole.cause
    else:
        assert part == whole


def test_several_bounds_and_milliseconds():
    spelled = ["5", "10", "250", "500", "1000", "+Inf"]
    assert neighbours(spelled, [0.3, 0.8], "milliseconds") == ("250", "500", "1000", "+Inf")


def test_no_histogram_gives_no_choice():
    assert neighbours([], [1.0], "seconds") == ()
    assert neighbours(["1.0"], [1.0], "seconds") == ()
    assert neighbours(["1.0", "+Inf", "soon"], [1.0], "seconds") == ()
    assert neighbours(["1", "1.0", "+Inf"], [1.0], "seconds") == ()  # one bound, two spellings
