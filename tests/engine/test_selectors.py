"""Selectors mean what they mean in Prometheus, and cannot leave the agent they judge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.api.errors import InvalidSpec
from phasegate.engine.selectors import Matcher, Selector, parse_selector

TOOLS = {"tool": "crm", "outcome": "error"}


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("tool_calls_total", True),
        ('tool_calls_total{outcome="error"}', True),
        ('tool_calls_total{outcome="success"}', False),
        ('tool_calls_total{outcome!="error"}', False),
        ('tool_calls_total{tool=~"crm|erp"}', True),
        ('tool_calls_total{tool=~"cr"}', False),
        ('tool_calls_total{tool=~"c.*"}', True),
        ('tool_calls_total{tool!~"c.+"}', False),
        ('tool_calls_total{absent=""}', True),
        ('tool_calls_total{absent!=""}', False),
        ('tool_calls_total{outcome="error",tool="crm"}', True),
        ("other_calls_total", False),
    ],
)
def test_a_series_is_accepted_as_prometheus_would(text: str, accepted: bool) -> None:
    assert parse_selector(text).accepts("tool_calls_total", TOOLS) is accepted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1abc",
        "rate(x[5m])",
        'x{a="b"',
        'x{a="b";c="d"}',
        'x{a="b",}',
        'x{a="b\\"} or y{c="d"}',
        'x{a="b"} or vector(1)',
        'x{a="b"}}',
    ],
)
def test_anything_but_a_selector_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="is not a series"):
        parse_selector(text)


@pytest.mark.parametrize("label", ["namespace", "agent", "revision", "mode", "pod", "__name__"])
def test_labels_of_the_operator_are_refused(label: str) -> None:
    with pytest.raises(InvalidSpec, match="is set by the operator"):
        parse_selector(f'calls_total{{{label}="other"}}')


@pytest.mark.parametrize("pattern", ["(a+)+b", ".*.*.*x", "[a-z]+", "a{2}", "(?i)a", "a**"])
def test_patterns_that_could_run_away_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidSpec):
        parse_selector(f'calls_total{{tool=~"{pattern}"}}')


values = st.text("abc.|-", max_size=6)


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["=", "!="]), values)))
def test_a_selector_reads_what_it_writes(found: list[tuple[str, str, str]]) -> None:
    selector = Selector("calls_total", tuple(sorted(Matcher(*matcher) for matcher in found)))
    assert parse_selector(str(selector)) == selector
