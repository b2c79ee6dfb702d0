"""A price table is read with a sentence for every mistake, and values tokens by model and date."""

from __future__ import annotations

import contextlib
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.api.errors import ConfigError
from phasegate.engine.prices import Priced, PriceTable, parse_prices
from phasegate.engine.selectors import Matcher, Selector

TEXT = """
prices:
  - model: gpt-4.1-mini
    usdPerMillionTokens: {input: "0.40", output: "1.60"}
  - model: gpt-4.1-mini
    from: 2026-06-01
    usdPerMillionTokens: {input: 0.2, output: "0.80"}
  - model: gpt-4.1*
    usdPerMillionTokens: {input: 2, output: 8}
  - model: gpt-*
    usdPerMillionTokens: {input: 10}
"""
TABLE = parse_prices(TEXT)
JUNE = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("model", "tokens", "at", "usd_per_million"),
    [
        ("gpt-4.1-mini", "input", JUNE - 1, 0.4),
        ("gpt-4.1-mini", "input", JUNE, 0.2),
        ("gpt-4.1-mini", "output", JUNE + 1e6, 0.8),
        ("gpt-4.1-mini-2025", "output", JUNE, 8.0),
        ("gpt-4.1", "input", JUNE, 2.0),
        ("gpt-5", "input", JUNE, 10.0),
    ],
)
def test_the_exact_name_the_longest_prefix_and_the_latest_date_count(
    model: str, tokens: str, at: float, usd_per_million: float
) -> None:
    assert TABLE.price(model, tokens, at) == pytest.approx(usd_per_million / 1e6)


@pytest.mark.parametrize(
    ("model", "tokens"), [("gpt-5", "output"), ("claude", "input"), ("", "input"), ("gpt-4", "x")]
)
def test_what_is_not_in_the_table_has_no_price(model: str, tokens: str) -> None:
    assert TABLE.price(model, tokens, JUNE) is None


def test_a_price_is_not_valid_before_its_date() -> None:
    table = parse_prices(
        'prices: [{model: a, from: "2026-06-01", usdPerMillionTokens: {input: 1}}]'
    )
    assert table.price("a", "input", JUNE - 1) is None
    assert table.price("a", "input", JUNE) == 1e-6


def test_another_price_is_another_table_and_another_plan() -> None:
    assert repr(parse_prices(TEXT)) == repr(TABLE)
    assert parse_prices(TEXT) == TABLE
    assert repr(parse_prices(TEXT.replace("0.40", "0.41"))) != repr(TABLE)
    assert len(repr(TABLE)) < 80


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prices: [", "is not YAML"),
        ("[]", "write a list of prices under prices:"),
        ("prices: []", "write a list of prices under prices:"),
        ("prices: [1]", "row 1: write model, from, usdPerMillionTokens"),
        ("prices: [{model: a, usd: 1}]", "row 1: usd is not known"),
        ("prices: [{usdPerMillionTokens: {input: 1}}]", "row 1: model must be"),
        ("prices: [{model: '*', usdPerMillionTokens: {input: 1}}]", "row 1: model must be"),
        ("prices: [{model: 'a*b', usdPerMillionTokens: {input: 1}}]", "row 1: model must be"),
        ("prices: [{model: a}]", "row 1: usdPerMillionTokens must be like"),
        ("prices: [{model: a, usdPerMillionTokens: {input: x}}]", "input: 'x' is not an amount"),
        ("prices: [{model: a, usdPerMillionTokens: {input: true}}]", "input: True is not an"),
        ("prices: [{model: a, usdPerMillionTokens: {input: -1}}]", "input: -1 is not an amount"),
        ("prices: [{model: a, usdPerMillionTokens: {input: .nan}}]", "is not an amount of money"),
        ("prices: [{model: a, usdPerMillionTokens: {input: '1e400'}}]", "not an amount of money"),
        ("prices: [{model: a, usdPerMillionTokens: {input: [1]}}]", "input: [1] is not an"),
        ("prices: [{model: a, from: soon, usdPerMillionTokens: {input: 1}}]", "'soon' is not a"),
        ("prices: [{model: a, from: 7, usdPerMillionTokens: {input: 1}}]", "from: 7 is not a date"),
        (
            "prices: [{model: a, usdPerMillionTokens: {input: 1}},"
            " {model: a, usdPerMillionTokens: {input: 2}}]",
            "a has two prices for input from the same date on",
        ),
    ],
)
def test_each_mistake_is_a_sentence_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_prices(text, "ConfigMap ops/prices")
    assert str(error.value).startswith("ConfigMap ops/prices")
    assert words in str(error.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_prices("prices: [1, {model: a}]")
    assert len(str(error.value).splitlines()) == 2


@given(st.text(max_size=60))
def test_any_text_is_a_table_or_a_mistake(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_prices(text), PriceTable)


# --- sums ------------------------------------------------------------------------------------------

USAGE = Selector("usage_sum")
OLD = tuple(
    (kind, Selector("usage_sum", (Matcher("type", "=", kind),))) for kind in ("input", "output")
)
NEW = (("input", Selector("input_tokens_total")), ("output", Selector("output_tokens_total")))
SPENT = Priced((OLD, NEW), "model", TABLE)


def counted(name: str, count: float, **labels: str) -> dict[str, float]:
    return dict.fromkeys(SPENT.parts(name, labels), count)


def test_tokens_are_valued_by_model_and_type_at_the_time() -> None:
    increments = {
        **counted("usage_sum", 1e6, type="input", model="gpt-4.1-mini"),
        **counted("usage_sum", 1e6, type="output", model="gpt-4.1-mini"),
        **counted("usage_sum", 1e6, type="input", model="gpt-4.1"),
    }
    assert SPENT.value(increments, JUNE - 1) == pytest.approx(0.4 + 1.6 + 2.0)
    assert SPENT.value(increments, JUNE) == pytest.approx(0.2 + 0.8 + 2.0)
    assert SPENT.unknown(increments, JUNE) == ()


def test_what_is_written_in_two_ways_counts_once() -> None:
    increments = {
        **counted("usage_sum", 1e6, type="input", model="gpt-4.1"),
        **counted("input_tokens_total", 1e6, model="gpt-4.1"),
    }
    assert SPENT.value(increments, JUNE) == pytest.approx(2.0)


def test_models_without_a_price_are_named_once_they_count_tokens() -> None:
    increments = {
        **counted("usage_sum", 5.0, type="input", model="other"),
        **counted("usage_sum", 5.0, type="output", model=""),
        **counted("usage_sum", 0.0, type="output", model="silent"),
    }
    assert SPENT.unknown(increments, JUNE) == ("a model without a name", "other")
    assert SPENT.value(increments, JUNE) == 0.0


def test_series_of_others_have_no_part() -> None:
    assert SPENT.parts("usage_sum", {"type": "cached", "model": "gpt-4.1"}) == ()
    assert SPENT.parts("calls_total", {"model": "gpt-4.1"}) == ()
    assert len(SPENT.selectors()) == 4
