"""Sums that have happened: what is added, what it forecasts, and what is a spike."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.engine.amounts import Amount
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.kinds.amount import AmountCheck
from phasegate.engine.kinds.amount_tracker import AmountTracker
from phasegate.engine.kinds.base import Bound, Moment, Settings, Step
from phasegate.engine.prices import Priced, parse_prices
from phasegate.engine.samples import Series
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import CheckVerdict, Reason, Verdict

START = 1_000_000.0
MINUTE = 60.0
DAY = 86400.0
CALLS = Selector("calls_total")
SPEND = AmountCheck(
    "spend-per-day", "spend-per-day", Amount.of(Selector("usd_total")), DAY, "USD", calls=CALLS
)
VOLUME = AmountCheck("traffic-volume", "traffic-volume", Amount.of(CALLS), 3600.0, "calls/h")
PHASE = Settings(START, 2 * DAY, 0.01, 0.05, 50, 120.0, 1, 0)

Minute = Callable[[int], tuple[float, float]]
"""Minute → USD of candidate and baseline, with 10 and 90 calls."""


def above(value: float) -> Bound:
    return Bound(value, above=True)


def run(check: AmountCheck, minutes: int, usd: Minute, phase: Settings = PHASE) -> AmountTracker:
    tracker = AmountTracker(check, phase)
    for minute in range(minutes):
        candidate, baseline = usd(minute)
        at = phase.start + (minute + 1) * MINUTE
        tracker.step(
            Step(
                at,
                at - MINUTE,
                new_round=True,
                baseline_fresh=True,
                covered=True,
                candidate={"usd_total": candidate, "calls_total": 10.0},
                baseline={"usd_total": baseline, "calls_total": 90.0},
            )
        )
    return tracker


def judged(tracker: AmountTracker, minutes: int, *, fresh: bool = True) -> dict[str, CheckVerdict]:
    at = START + minutes * MINUTE
    return {v.check: v for v in tracker.judge(Moment(at, at, fresh, 10.0 * minutes))}


def steady(usd_a_day: float, share: float = 0.1) -> Minute:
    each = usd_a_day / 1440
    return lambda _: (each * share, each * (1 - share))


# --- the sum ---------------------------------------------------------------------------------------


def test_spend_inside_the_gate_passes_and_says_what_full_traffic_would_cost() -> None:
    check = replace(SPEND, gate=Bound(50.0, above=False), limit=above(80.0))
    found = judged(run(check, 120, steady(40.0, share=0.3)), 120)["spend-per-day"]
    assert found.verdict == Verdict.PASS
    assert found.estimate == pytest.approx(40.0)
    assert found.message == (
        "3.33 USD in the last 2.0 h (candidate 1, baseline 2.33), at this pace 40 USD a day; "
        "at 100% this revision would add 120 USD a day for 144,000 calls, gate 50 USD, "
        "rollback level 80 USD"
    )


def test_only_what_was_really_added_takes_back_while_a_forecast_warns() -> None:
    check = replace(SPEND, limit=above(50.0))
    tracker = run(check, 600, steady(100.0, share=0.6))
    assert not tracker.failures()
    found = judged(tracker, 600)["spend-per-day"]
    assert found.reason == Reason.OUTSIDE_GATE
    assert "the rollback level is 50 USD" in found.warning
    tracker = run(check, 740, steady(100.0, share=0.6))
    (failed,) = tracker.failures()
    assert failed.verdict == Verdict.FAIL
    assert failed.reason == Reason.BREACHED
    assert "USD in the last 12.0 h (candidate 30" in failed.message
    assert judged(tracker, 740)["spend-per-day"] == failed


def test_yesterday_is_forgotten() -> None:
    check = replace(SPEND, limit=above(50.0))
    tracker = run(check, 2880, lambda m: steady(45.0, 0.6)(m) if m < 1440 else steady(30.0, 0.6)(m))
    assert not tracker.failures()


def test_what_the_baseline_would_spend_alone_is_not_the_candidates_fault() -> None:
    check = replace(SPEND, limit=above(50.0))
    tracker = run(check, 1000, steady(100.0, share=0.1))
    assert not tracker.failures()
    found = judged(tracker, 1000)["spend-per-day"]
    assert found.reason == Reason.SHARED_CAUSE
    assert "shared cause, holding" in found.message


def test_nothing_is_said_before_a_quarter_of_an_hour_nor_without_data() -> None:
    check = replace(SPEND, gate=Bound(50.0, above=False))
    assert judged(run(check, 10, steady(40.0)), 10)["spend-per-day"].reason == (
        Reason.TOO_FEW_SAMPLES
    )
    tracker = run(check, 60, steady(40.0))
    assert judged(tracker, 60, fresh=False)["spend-per-day"].reason == Reason.NO_DATA
    assert judged(run(check, 60, steady(0.0)), 60)["spend-per-day"].reason == Reason.NO_DATA


# --- the forecast ----------------------------------------------------------------------------------


def test_a_forecast_beyond_the_alert_level_alerts_after_a_quarter_of_an_hour_and_recovers() -> None:
    check = replace(SPEND, alert=above(60.0))

    def dearer(minute: int) -> tuple[float, float]:
        return steady(100.0 if 120 <= minute < 180 else 40.0)(minute)

    reasons = [
        judged(run(check, m, dearer), m)["spend-per-day-alert"].reason for m in range(1, 300)
    ]
    first = reasons.index(Reason.ALERT_BREACHED)
    # A third of an hour at 100 brings the hour's mean beyond 60; then a quarter of an hour more.
    assert 120 + 20 + 13 <= first <= 120 + 20 + 20
    assert reasons[-1] == Reason.WITHIN_LIMIT


def test_an_alert_whose_amount_was_really_added_does_not_wait_for_a_forecast() -> None:
    check = replace(SPEND, alert=above(1.0))
    for minutes, reason in ((2, Reason.TOO_FEW_SAMPLES), (4, Reason.ALERT_BREACHED)):
        said = judged(run(check, minutes, lambda _: (0.1, 0.2)), minutes)["spend-per-day-alert"]
        assert said.reason is reason
        assert said.level == "alert"


def test_an_alert_has_level_alert_and_never_takes_back() -> None:
    tracker = run(replace(SPEND, alert=above(60.0)), 100, steady(500.0))
    (found,) = judged(tracker, 100).values()
    assert (found.level, found.verdict) == ("alert", Verdict.FAIL)
    assert "alert level 60 USD, beyond it for" in found.message
    assert not tracker.failures()


# --- spikes ----------------------------------------------------------------------------------------


def calls(check: AmountCheck, rates: list[float], seed: int) -> list[Reason]:
    chance = random.Random(seed)
    tracker = AmountTracker(check, PHASE)
    said = []
    for minute, rate in enumerate(rates):
        at = START + (minute + 1) * MINUTE
        n = sum(1 for _ in range(int(rate * 20)) if chance.random() < 0.05)
        tracker.step(
            Step(
                at,
                at - MINUTE,
                new_round=True,
                baseline_fresh=True,
                covered=True,
                candidate={},
                baseline={"calls_total": float(n)},
            )
        )
        verdicts = {v.check: v for v in tracker.judge(Moment(at, at, True, 100.0))}
        said.append(verdicts["traffic-volume-spike"].reason)
    return said


def test_five_times_the_traffic_is_a_spike_and_ups_and_downs_are_not() -> None:
    check = replace(VOLUME, spike=3.0)
    for seed in range(20):
        said = calls(check, [2.0] * 300 + [10.0] * 20, seed)
        assert Reason.ALERT_BREACHED not in said[:300]
        assert Reason.ALERT_BREACHED in said[300:]


def test_a_handful_of_calls_is_no_spike() -> None:
    """A call every ten minutes: three of them in a quarter of an hour say nothing."""
    check = replace(VOLUME, spike=2.0)
    false = sum(Reason.ALERT_BREACHED in calls(check, [0.1] * 600, seed) for seed in range(20))
    assert false <= 1


def test_there_is_no_spike_in_the_first_hour() -> None:
    said = calls(replace(VOLUME, spike=3.0), [2.0] * 30 + [50.0] * 30, 1)
    assert Reason.ALERT_BREACHED not in said


def test_what_came_in_a_gap_is_spread_over_it_and_is_no_spike() -> None:
    check = replace(VOLUME, spike=2.0)
    tracker = run(check, 240, steady(0.0))
    at = START + 300 * MINUTE
    tracker.step(
        Step(
            at,
            START + 240 * MINUTE,
            True,
            True,
            True,
            {"calls_total": 600.0},
            {"calls_total": 5400.0},
        )
    )
    (found,) = judged(tracker, 300).values()
    assert found.reason == Reason.WITHIN_LIMIT
    assert "at this pace 6,000 calls an hour" in found.message


# --- prices, purity, size --------------------------------------------------------------------------


def test_a_model_without_a_price_holds_and_is_named() -> None:
    table = parse_prices("prices: [{model: m, usdPerMillionTokens: {input: 1}}]")
    tokens = Selector("tokens_total")
    check = replace(
        SPEND,
        amount=Priced(((("input", tokens),),), "model", table),
        limit=above(1.0),
        alert=above(1.0),
    )
    (part, *_) = check.parts("tokens_total", {"model": "other"})
    tracker = AmountTracker(check, PHASE)
    at = START + 3600
    tracker.step(Step(at, START, True, True, True, {part: 1e9}, {}))
    found = tracker.judge(Moment(at, at, True, 10.0))
    assert not tracker.failures()
    assert {v.reason for v in found} == {Reason.NO_PRICE}
    assert all("no price is known for other" in v.message for v in found)


steps = st.lists(
    st.tuples(st.floats(1.0, 4000.0), st.floats(0.0, 1e6), st.floats(0.0, 1e6)), max_size=60
)
ALL = replace(SPEND, limit=above(1e6), alert=above(1e5), gate=Bound(1e5, above=False), spike=3.0)


@given(steps, st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_a_restart_from_dumped_state_changes_nothing(
    found: list[tuple[float, float, float]], cut: int
) -> None:
    one, other, at = AmountTracker(ALL, PHASE), AmountTracker(ALL, PHASE), START
    for index, (gap, candidate, baseline) in enumerate(found):
        step = Step(
            at + gap, at, True, True, True, {"usd_total": candidate}, {"usd_total": baseline}
        )
        at += gap
        if index == cut:
            state = json.loads(json.dumps(other.dump(), allow_nan=False))
            assert len(json.dumps(state)) <= 4096
            other = AmountTracker(ALL, PHASE)
            other.load(state)
        before = one.copy()
        one.step(step)
        other.step(step)
        assert before.dump() != one.dump()
    moment = Moment(at, at, True, 10.0)
    assert one.judge(moment) == other.judge(moment)


@given(st.lists(st.tuples(st.floats(1.0, 900.0), st.floats(0.0, 100.0)), min_size=1, max_size=80))
@settings(deadline=None, max_examples=60)
def test_the_sum_is_what_was_added_in_the_period(found: list[tuple[float, float]]) -> None:
    """Right to one bin, and never more than was really added."""
    check = replace(VOLUME, amount=Amount.of(Selector("usd_total")), limit=above(1e9))
    tracker, at, history = AmountTracker(check, PHASE), START, []
    for gap, added in found:
        at += gap
        tracker.step(Step(at, at - gap, True, True, True, {"usd_total": added}, {}))
        history.append((at - gap, at, added))
    _, counts = tracker._state.period.since(at, 48)
    most = sum(added for _, until, added in history if until > at - 3600)
    least = sum(added for since, _, added in history if since >= at - 3600 * 47 / 48)
    assert least - 1e-6 <= counts.bad <= most + 1e-6


def test_what_comes_after_the_warm_up_counts_at_once() -> None:
    check = replace(SPEND, warm_up=3600.0)
    plan = EvidencePlan(
        phase="canary",
        start=START,
        planned_seconds=2 * DAY,
        alpha=0.01,
        beta=0.05,
        min_samples=1,
        min_seconds=0.0,
        stale_seconds=120.0,
        checks=(check,),
        volume=CALLS,
    )
    evidence, at = Evidence(plan), START
    for minute in range(121):  # 1 USD a minute
        at = START + minute * MINUTE
        evidence.ingest(
            Series("candidate", name, (("pod", "a"),), ((at, float(minute)),))
            for name in ("usd_total", "calls_total")
        )
    (said,) = evidence.judge(at).checks
    assert "60 USD in the last 60 min" in said.message
