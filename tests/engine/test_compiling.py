"""A policy compiles into what it says, or the message names the metric and the fix."""

from __future__ import annotations

import pytest
from phasegate.api.errors import InvalidSpec
from phasegate.api.rollbackpolicy import (
    Baseline,
    Event,
    Level,
    Mean,
    Metric,
    Preset,
    Quantile,
    Ratio,
    RollbackPolicySpec,
    Threshold,
)
from phasegate.engine.checks import CheckSpec, selectors, threshold_queries
from phasegate.engine.compiling import Context, compile_checks
from phasegate.engine.kinds.amount import AmountCheck
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.event import EventCheck
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.prices import parse_prices
from phasegate.engine.selectors import parse_selector

WRONG_TOOL = Ratio(bad='tool_calls_total{outcome="error"}', total="tool_calls_total")
QUERY = Threshold(query="up == 0", for_="5m")


CONTEXT = Context(
    model="gpt-4o-2024-11-20",
    prices=parse_prices(
        'prices: [{model: gpt-4o, usdPerMillionTokens: {input: "2.5", output: "10"}}]'
    ),
)


def compiled(*metrics: Metric, source: Preset = "agent-contract") -> tuple[CheckSpec, ...]:
    return compile_checks(RollbackPolicySpec(metrics=metrics, source=source), CONTEXT)


def one(metric: Metric, source: Preset = "agent-contract") -> CheckSpec:
    (check,) = compiled(metric, source=source)
    return check


def ratio(metric: Metric) -> RatioCheck:
    (check,) = compiled(metric)
    assert isinstance(check, RatioCheck)
    return check


def test_all_levels_of_a_metric_are_one_check_on_one_stream() -> None:
    check = ratio(
        Metric(
            name="error-rate",
            gate=Level(below="2%"),
            alert=Level(above="1%", window="1h"),
            rollback=Level(above="5%", window="30m"),
            baseline=Baseline(worse_by="1.5", tolerate="1.2"),
            min_samples=70,
        )
    )
    assert check.gate == Bound(0.02, above=False)
    assert check.alert == Bound(0.01, above=True, window=3600)
    assert check.limit == Bound(0.05, above=True, window=1800)
    assert check.relative == Relative(limit=1.5, tolerate=1.2, excluded=2.0, slack=0.05 * 0.1)
    assert check.severe == 0.5
    assert check.min_samples == 70
    # The level, the total failure and the baseline are tested; the alert has an alpha of its own.
    assert check.tests("rollback") > check.tests("alert") == 1


def test_accuracy_is_turned_into_a_share_of_wrong_answers() -> None:
    check = ratio(Metric(name="accuracy", gate=Level(above="90%"), rollback=Level(below="85%")))
    assert check.gate == Bound(1 - 0.90, above=False)
    assert check.limit == Bound(1 - 0.85, above=True)
    assert check.good == parse_selector("agent_eval_passed_total")


def test_a_total_failure_lies_well_beyond_a_high_limit() -> None:
    for limit, severe in (("5%", 0.5), ("50%", 0.8), ("90%", None)):
        check = ratio(Metric(name="escalation-rate", rollback=Level(above=limit)))
        assert check.severe == (None if severe is None else pytest.approx(severe))


def test_a_latency_is_a_quantile_with_durations() -> None:
    check = one(
        Metric(
            name="latency-p95",
            gate=Level(below="2500ms"),
            alert=Level(above="3s", window="1h"),
            rollback=Level(above="1m30s"),
            baseline=Baseline(),
            warm_up="5m",
        )
    )
    assert isinstance(check, QuantileCheck)
    assert (check.q, check.scale) == (0.95, 1.0)
    assert parse_selector("agent_request_duration_seconds_bucket") in check.selectors()
    assert check.gate == Bound(2.5, above=False)
    assert check.alert == Bound(3.0, above=True, window=3600)
    assert check.limit == Bound(90.0, above=True)
    assert check.relative == Relative(limit=1.5, tolerate=1.15, excluded=2.0)
    assert check.warm_up == 300.0


def test_a_score_is_a_mean_of_which_less_is_worse() -> None:
    check = one(
        Metric(
            name="quality-score",
            gate=Level(above="4.2"),
            alert=Level(below="4.0"),
            rollback=Level(below="3.5"),
            baseline=Baseline(),
        )
    )
    assert isinstance(check, MeanCheck)
    assert (check.worse, check.top, check.late) == ("below", 5.0, True)
    assert check.gate == Bound(4.2, above=True)
    assert check.alert == Bound(4.0, above=False)
    assert check.limit == Bound(3.5, above=False)
    assert check.relative is not None
    assert (check.relative.limit, check.relative.tolerate) == (0.9, 0.975)
    assert check.relative.excluded == pytest.approx(0.8)


def test_cost_is_a_mean_of_which_more_is_worse() -> None:
    check = one(Metric(name="cost-per-call", rollback=Level(above="0.50"), baseline=Baseline()))
    assert isinstance(check, MeanCheck)
    assert (check.worse, check.top, check.unit) == ("above", None, "USD")
    assert check.limit == Bound(0.5, above=True)
    assert check.relative == Relative(limit=3.0, tolerate=1.25, excluded=4.0)


def test_an_amount_has_levels_in_its_unit_and_a_spike_factor() -> None:
    check = one(
        Metric(
            name="spend-per-day",
            alert=Level(above="50"),
            rollback=Level(above="100"),
            baseline=Baseline(worse_by="5"),
        )
    )
    assert isinstance(check, AmountCheck)
    assert (check.per_seconds, check.unit, check.spike) == (86400, "USD", 5.0)
    assert check.alert == Bound(50.0, above=True)
    assert check.limit == Bound(100.0, above=True)
    assert check.level == "rollback"


def test_metrics_of_ones_own_say_where_their_numbers_come_from() -> None:
    slow = one(
        Metric(
            name="plan-p90",
            quantile=Quantile(histogram='plan_ms{tier="gold"}', q="90%", unit="ms"),
            rollback=Level(above="2s"),
        )
    )
    assert isinstance(slow, QuantileCheck)
    assert (slow.q, slow.scale) == (0.9, 0.001)
    assert slow.parts("plan_ms_bucket", {"le": "2000", "tier": "gold"}) == (
        'plan_ms{tier="gold"}|2.0',
    )
    score = one(
        Metric(
            name="politeness",
            mean=Mean(sum="p_sum", count="p_count", worse="below", top="10", unit="points"),
            gate=Level(above="7"),
        )
    )
    assert isinstance(score, MeanCheck)
    assert (score.top, score.unit, score.gate) == (10.0, "points", Bound(7.0, above=True))


def test_drift_counts_answers_by_any_model_but_the_pinned_one() -> None:
    check = ratio(Metric(name="model-drift", rollback=Level(above="1%")))
    bad = str(check.bad)
    for labels, counted in (
        ({"model": "gpt-4o-2024-11-20"}, False),
        ({"model": "gpt-4o-mini"}, True),
        ({"model": ""}, False),  # an error before any model answered
        ({}, False),
    ):
        assert (bad in check.parts("agent_requests_total", labels)) is counted
    assert check.alone


def test_drift_needs_a_pinned_model() -> None:
    policy = RollbackPolicySpec(metrics=(Metric(name="model-drift", rollback=Level(above="1%")),))
    with pytest.raises(InvalidSpec, match=r"set spec\.agent\.model\.name"):
        compile_checks(policy)


def test_hangs_are_calls_that_are_not_answered_in_time() -> None:
    check = ratio(Metric(name="hang-rate", rollback=Level(above="2%"), deadline="2m"))
    assert check.limit == Bound(0.02, above=True)
    assert (check.deadline, check.good) == (120.0, parse_selector("agent_requests_total"))
    assert check.total == parse_selector("agent_requests_started_total")


def test_conversations_are_counted_where_the_source_counts_them() -> None:
    check = ratio(Metric(name="escalation-rate", unit="Conversation", rollback=Level(above="50%")))
    assert str(check.total) == "agent_conversations_total"
    with pytest.raises(InvalidSpec, match="agent-contract does; or leave unit out"):
        one(
            Metric(name="error-rate", unit="Conversation", rollback=Level(above="5%")),
            source="istio",
        )


def test_tokens_cost_what_the_price_table_says() -> None:
    check = one(Metric(name="cost-per-call", rollback=Level(above="1")), source="otel-genai")
    assert isinstance(check, MeanCheck)
    usage = "gen_ai_client_token_usage_sum"
    increments = {
        part: tokens
        for kind, tokens in (("input", 1000.0), ("output", 100.0))
        for part in check.parts(
            usage, {"gen_ai_response_model": "gpt-4o", "gen_ai_token_type": kind}
        )
    }
    assert check.sum.value(increments, 0.0) == pytest.approx(1000 * 2.5e-6 + 100 * 1e-5)
    assert check.sum.unknown(increments, 0.0) == ()
    other = check.parts(usage, {"gen_ai_response_model": "new", "gen_ai_token_type": "input"})
    assert check.sum.value(dict.fromkeys(other, 7.0), 0.0) == 0
    assert check.sum.unknown(dict.fromkeys(other, 7.0), 0.0) == ("new",)


def test_without_a_price_table_money_is_not_guessed() -> None:
    metric = Metric(name="spend-per-day", alert=Level(above="50"))
    policy = RollbackPolicySpec(source="otel-genai", metrics=(metric,))
    with pytest.raises(InvalidSpec, match=r"reports tokens, not money.*price table"):
        compile_checks(policy)


def test_an_event_takes_back_unless_another_level_is_written() -> None:
    for metric, level, allowed in (
        (Metric(name="safety-flags"), "rollback", 0),
        (Metric(name="safety-flags", rollback=Level(above="2")), "rollback", 2),
        (Metric(name="safety-flags", alert=Level(above="0")), "alert", 0),
        (Metric(name="safety-flags", gate=Level(below="1")), "gate", 0),
        (Metric(name="own", event=Event(counter="refusals_total")), "rollback", 0),
    ):
        (check,) = compiled(metric)
        assert isinstance(check, EventCheck)
        assert (check.level, check.allowed) == (level, allowed)


def test_the_sampler_learns_what_to_fetch_and_what_to_ask() -> None:
    checks = compiled(
        Metric(name="error-rate", rollback=Level(above="5%")),
        Metric(name="wrong-tool", ratio=WRONG_TOOL, rollback=Level(above="10%")),
        Metric(name="legacy", threshold=QUERY, rollback=Level(above="0")),
    )
    assert {str(selector) for selector in selectors(checks)} == {
        "agent_requests_total",
        'agent_requests_total{outcome="error"}',
        "tool_calls_total",
        'tool_calls_total{outcome="error"}',
    }
    assert threshold_queries(checks) == {"legacy": "up == 0"}


FIVE = Level(above="5%")


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (Metric(name="speed", rollback=FIVE), "is no well-known name (error-rate, escalation-rate"),
        (Metric(name="x", ratio=WRONG_TOOL, threshold=QUERY, rollback=FIVE), "ratio and threshold"),
        (Metric(name="error-rate", rollback=Level(below="5%")), "wrong side for this metric"),
        (Metric(name="error-rate", gate=Level(above="5%")), "write below"),
        (Metric(name="accuracy", rollback=Level(above="85%")), "write below"),
        (Metric(name="error-rate", rollback=Level()), "needs above"),
        (Metric(name="error-rate", rollback=Level(above="5")), "write a percentage such as 5%"),
        (Metric(name="error-rate", rollback=Level(above="0%")), "use event"),
        (
            Metric(name="error-rate", gate=Level(below="10%"), rollback=FIVE),
            "make gate at least as strict",
        ),
        (
            Metric(name="error-rate", alert=Level(above="10%"), rollback=FIVE),
            "could never come first",
        ),
        (Metric(name="error-rate", rollback=Level(above="5%", window="0s")), "longer than zero"),
        (
            Metric(name="error-rate", baseline=Baseline(worse_by="1.1", tolerate="1.1")),
            "worseBy must be greater",
        ),
        (Metric(name="error-rate", baseline=Baseline(tolerate="0.5")), "at least 1"),
        (
            Metric(name="x", ratio=Ratio(bad="calls_total", total="calls_total"), rollback=FIVE),
            "the same series",
        ),
        (Metric(name="safety-flags", rollback=Level(above="1%")), "an event is counted"),
        (Metric(name="safety-flags", rollback=Level(above="0", window="1h")), "whole phase"),
        (
            Metric(name="safety-flags", rollback=Level(above="0"), alert=Level(above="0")),
            "one level",
        ),
        (Metric(name="safety-flags", baseline=Baseline()), "remove it, or use ratio"),
        (Metric(name="q", threshold=QUERY, baseline=Baseline()), "remove it, or use ratio"),
        (Metric(name="q", threshold=QUERY, rollback=Level()), "exactly one of above and below"),
        (
            Metric(name="q", threshold=QUERY, rollback=Level(above="1", window="5m")),
            "use threshold.for",
        ),
        (
            Metric(
                name="x",
                ratio=Ratio(bad='t_total{namespace="other"}', total="t_total"),
                rollback=FIVE,
            ),
            "set by the operator",
        ),
        (Metric(name="latency-p95", rollback=FIVE), "write for example 800ms"),
        (Metric(name="latency-p95", rollback=Level(above="3")), "write for example 800ms"),
        (Metric(name="latency-p95", rollback=Level(above="0s")), "no time an answer can take"),
        (Metric(name="latency-p95", rollback=Level(below="3s")), "write above"),
        (Metric(name="cost-per-call", rollback=FIVE), "a number, in USD"),
        (Metric(name="cost-per-call", rollback=Level(above="3s")), "a number, in USD"),
        (Metric(name="quality-score", rollback=Level(above="3.5")), "write below"),
        (Metric(name="quality-score", rollback=Level(below="5")), "highest score is 5"),
        (
            Metric(name="satisfaction", gate=Level(above="2"), rollback=Level(below="3")),
            "make gate at least as strict",
        ),
        (
            Metric(name="satisfaction", alert=Level(below="2"), rollback=Level(below="3")),
            "could never come first",
        ),
        (
            Metric(name="satisfaction", baseline=Baseline(worse_by="0.99")),
            "between 0 and baseline.tolerate (0.975)",
        ),
        (Metric(name="satisfaction", baseline=Baseline(tolerate="1.1")), "at most 1"),
        (
            Metric(name="cost-per-call", baseline=Baseline(worse_by="1.2")),
            "greater than baseline.tolerate (1.25)",
        ),
        (Metric(name="spend-per-day", alert=Level(above="50", window="1h")), "leave it out"),
        (Metric(name="spend-per-day", baseline=Baseline(tolerate="1.1")), "leave it out"),
        (Metric(name="traffic-volume", baseline=Baseline(worse_by="1")), "greater than 1"),
        (Metric(name="traffic-volume", rollback=Level(above="5000")), "use alert"),
        (
            Metric(name="traffic-volume", alert=Level(above="5"), min_samples=50),
            "a fact, not an estimate",
        ),
        (Metric(name="model-drift", baseline=Baseline()), "may pin another model"),
        (Metric(name="error-rate", deadline="5m", rollback=FIVE), "belongs to hang-rate"),
        (Metric(name="hang-rate", deadline="0s", rollback=FIVE), "longer than zero"),
        (
            Metric(name="x", unit="Conversation", ratio=WRONG_TOOL, rollback=FIVE),
            "count what they count",
        ),
        (
            Metric(
                name="x",
                quantile=Quantile(histogram="h_bucket", q="95%"),
                rollback=Level(above="1s"),
            ),
            "without _bucket",
        ),
        (
            Metric(
                name="x",
                quantile=Quantile(histogram='h{le="5"}', q="95%"),
                rollback=Level(above="1s"),
            ),
            "set by the operator",
        ),
        (
            Metric(
                name="x", quantile=Quantile(histogram="h", q="100%"), rollback=Level(above="1s")
            ),
            "between 0% and 100%",
        ),
        (
            Metric(
                name="x", mean=Mean(sum="a", count="b", worse="below"), rollback=Level(below="1")
            ),
            "mean.top is needed",
        ),
        (Metric(name="x", mean=Mean(sum="a", count="a"), rollback=Level(above="1")), "the same"),
        (Metric(name="q", threshold=QUERY, rollback=Level(above="3s")), "as the query gives it"),
        (Metric(name="safety-flags", gate=Level(below="0")), "lets none pass"),
    ],
)
def test_a_mistake_names_the_metric_and_the_fix(metric: Metric, words: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        compiled(metric)
    assert str(error.value).startswith(f"metric '{metric.name}': ")
    assert words in str(error.value)


def test_a_name_used_twice_is_refused() -> None:
    metric = Metric(name="error-rate", rollback=FIVE)
    with pytest.raises(InvalidSpec, match="used twice"):
        compiled(metric, metric)
