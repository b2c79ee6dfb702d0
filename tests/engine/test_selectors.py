"""Selectors mean what they mean in Prometheus, and cannot leave the agent they judge."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.api.errors import InvalidSpec
from phasegate.api.rollbackpolicy import Selector as Written
from phasegate.engine.selectors import RESERVED_LABELS, Matcher, Selector, parse_selector
from pydantic import TypeAdapter, ValidationError

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


# --- no way out ------------------------------------------------------------------------------------

QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
"""A string of PromQL between double quotes."""


@pytest.mark.parametrize(
    "text",
    [
        'x{a="b\nc"}',  # a line break ends the whole query, of everybody
        'x{a="b\x00"}',
        'x{a="b\x7f"}',
        'x{a="{b}"}',
        "x{a='b'}",
        "x{a=`b`}",
        'x{a="b"}[5m]',
        'x{a="b"} offset 1h',
        'x{a="b"} @ 0',
        'x{a="b"} # c',
        '{__name__="x"}',
        'x{"a"="b"}',
        'x{a="b"} or y',
        "x or y",
        "x\n",
        "\u200bx",
        "ｘ",
    ],
)
def test_nothing_but_a_name_and_matchers_gets_in(text: str) -> None:
    with pytest.raises(InvalidSpec):
        parse_selector(text)
    with pytest.raises(ValidationError):
        TypeAdapter(Written).validate_python(text)


@given(st.text(max_size=40))
def test_whatever_gets_in_is_only_a_selector(text: str) -> None:
    try:
        selector = parse_selector(text)
    except InvalidSpec:
        return
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", selector.name)
    rest = QUOTED.sub("", str(selector).removeprefix(selector.name))
    assert re.fullmatch(r"(\{[\w=!~,]*\})?", rest)


hostile = st.text(st.sampled_from("ab\"\\\n{}|,.*=~`'#é\u2028") | st.characters(codec="utf-8"))


@given(hostile, st.sampled_from(["=", "!="]))
def test_a_value_from_elsewhere_cannot_end_its_string(value: str, op: str) -> None:
    """The pinned model's name is free text: it comes from the agent, not through the parser."""
    selector = Selector("calls_total", (Matcher("model", op, value),))
    text = str(selector)
    strings = QUOTED.findall(text)
    assert len(strings) == 1
    assert QUOTED.sub('""', text) == f'calls_total{{model{op}""}}'
    unquoted = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), strings[0])
    assert unquoted == value
    assert selector.accepts("calls_total", {"model": value}) == (op == "=")


def test_a_dot_matches_a_line_break_as_it_does_in_prometheus() -> None:
    assert parse_selector('x{a=~"b.*"}').accepts("x", {"a": "b\nc"})


@pytest.mark.parametrize("label", ["service_version", "le"])
def test_a_source_reserves_labels_of_its_own(label: str) -> None:
    text = f'calls_total{{{label}="x"}}'
    assert parse_selector(text).matchers[0].label == label
    with pytest.raises(InvalidSpec, match="is set by the operator"):
        parse_selector(text, RESERVED_LABELS | {label})
