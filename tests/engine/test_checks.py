"""A policy compiles into what it says, or the message names the metric and the fix."""

from __future__ import annotations

import pytest
from phasegate.api.errors import InvalidSpec
from phasegate.api.rollbackpolicy import (
    WELL_KNOWN,
    Baseline,
    Event,
    Level,
    Metric,
    Ratio,
    RollbackPolicySpec,
    Threshold,
)
from phasegate.engine.checks import CheckSpec, compile_checks, selectors, threshold_queries
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.event import EventCheck
from phasegate.engine.kinds.ratio import RatioCheck, Relative
from phasegate.engine.selectors import parse_selector
from phasegate.engine.sources import SOURCES

WRONG_TOOL = Ratio(bad='tool_calls_total{outcome="error"}', total="tool_calls_total")
QUERY = Threshold(query="up == 0", for_="5m")


def compiled(*metrics: Metric) -> tuple[CheckSpec, ...]:
    return compile_checks(RollbackPolicySpec(metrics=metrics))


def ratio(metric: Metric) -> RatioCheck:
    (check,) = compiled(metric)
    assert isinstance(check, RatioCheck)
    return check


def test_every_well_known_metric_has_series_in_every_source() -> None:
    for source in SOURCES.values():
        assert set(source.metrics) == set(WELL_KNOWN)
    for name in WELL_KNOWN:
        level = Level(below="80%") if name == "accuracy" else Level(above="10%")
        (check,) = compiled(
            Metric(name=name, rollback=Level(above="0") if name == "safety-flags" else level)
        )
        assert check.selectors()


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
    assert (check.tests("rollback"), check.tests("alert")) == (3, 1)


def test_accuracy_is_turned_into_a_share_of_wrong_answers() -> None:
    check = ratio(Metric(name="accuracy", gate=Level(above="90%"), rollback=Level(below="85%")))
    assert check.gate == Bound(1 - 0.90, above=False)
    assert check.limit == Bound(1 - 0.85, above=True)
    assert check.good == parse_selector("agent_eval_passed_total")


def test_a_total_failure_lies_well_beyond_a_high_limit() -> None:
    for limit, severe in (("5%", 0.5), ("50%", 0.8), ("90%", None)):
        check = ratio(Metric(name="escalation-rate", rollback=Level(above=limit)))
        assert check.severe == (None if severe is None else pytest.approx(severe))


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
        (Metric(name="speed", rollback=FIVE), "has no series of that name; use one of accuracy"),
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
