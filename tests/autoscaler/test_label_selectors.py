"""Selectors as ``/scale`` writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.selectors import SelectorRefused, parse_selector


@pytest.mark.parametrize(
    ("text", "labels", "taken"),
    [
        ("app=llm", {"app": "llm"}, True),
        ("app=llm", {"app": "other"}, False),
        ("app=llm", {}, False),
        ("app==llm,tier=gpu", {"app": "llm", "tier": "gpu"}, True),
        ("app==llm,tier=gpu", {"app": "llm"}, False),
        ("tier!=cpu", {"tier": "gpu"}, True),
        ("tier!=cpu", {}, True),
        ("tier!=cpu", {"tier": "cpu"}, False),
        ("tier in (a,b)", {"tier": "b"}, True),
        ("tier in (a,b)", {"tier": "c"}, False),
        ("tier notin (a, b),app", {"app": ""}, True),
        ("tier notin (a,b)", {"tier": "a"}, False),
        ("app.kubernetes.io/name=llm", {"app.kubernetes.io/name": "llm"}, True),
        ("!canary", {"app": "x"}, True),
        ("!canary", {"canary": ""}, False),
        ("app=", {"app": ""}, True),
        ("app=", {}, False),
    ],
)
def test_a_selector_takes_what_the_api_server_would_take(text: str, labels: dict[str, str], taken: bool):
    assert parse_selector(text).matches(labels) is taken


@pytest.mark.parametrize("text", ["", "  ", "app=llm,=", "a>1", "a in b", "a=b c=d", "a=(b)"])
def test_a_text_that_is_no_selector_is_refused_and_never_takes_every_pod(text: str):
    with pytest.raises(SelectorRefused):
        parse_selector(text)


names = st.from_regex(r"[a-z][a-z0-9.-]{0,8}[a-z0-9]", fullmatch=True)


@given(st.dictionaries(names, names, min_size=1, max_size=5), st.dictionaries(names, names, max_size=3))
def test_equalities_take_exactly_the_supersets(wanted: dict[str, str], more: dict[str, str]):
    selector = parse_selector(",".join(f"{key}={value}" for key, value in wanted.items()))
    assert dict(selector.pairs) == wanted
    assert selector.matches({**more, **wanted})
    assert selector.matches(more) == all(more.get(key) == value for key, value in wanted.items())
