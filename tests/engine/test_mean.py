"""A mean per call: what convicts, what passes, what is said; and that it depends on samples alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.engine.amounts import Amount
from phasegate.engine.checks import CheckSpec
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.ratio import Relative
from phasegate.engine.prices import Priced, parse_prices
from phasegate.engine.samples import Arm, Series
from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.verdict import CheckVerdict, Judgement, Reason, Verdict

from tests.engine.agents import SCRAPE, START, Agents, merged, plan

Step = tuple[tuple[float, float], tuple[float, float]]
"""(calls, amount a call) of candidate and baseline in one scrape."""

CALLS = Amount.of(Selector("agent_requests_total"))
COST = MeanCheck(
    "cost-per-call",
    "cost-per-call",
    Amount.of(Selector("agent_cost_usd_total")),
    CALLS,
    unit="USD",
    relative=Relative(3.0, 1.25, 4.0),
)
SCORE = MeanCheck(
    "quality-score",
    "quality-score",
    Amount.of(Selector("agent_cost_usd_total")),
    CALLS,
    worse="below",
    top=5.0,
    relative=Relative(0.9, 0.975, 0.8),
)
HEALTHY: list[Step] = [((10, 0.02), (100, 0.02))]


def with_levels(check: MeanCheck, limit: float, gate: float, **more: float) -> MeanCheck:
    worse_above = check.worse == "above"
    alert = more.get("alert")
    return replace(
        check,
        relative=None,
        limit=Bound(limit, above=worse_above, window=more.get("window")),
        gate=Bound(gate, above=not worse_above),
        alert=None if alert is None else Bound(alert, above=worse_above),
    )


def plan_of(*checks: CheckSpec, hours: float = 6.0) -> EvidencePlan:
    return replace(plan(hours=hours), checks=checks)


def batches(steps: Iterable[Step], offset: float = 0.0) -> list[list[Series]]:
    agents = Agents()
    agents.calls("baseline", {"success": 1000})
    agents.add("baseline", "agent_cost_usd_total", 20.0)
    found = [agents.scrape(START - SCRAPE - offset, "baseline")]
    for step, (candidate, baseline) in enumerate(steps, start=1):
        at = START + step * SCRAPE
        batch: list[Series] = []
        arms: list[tuple[Arm, tuple[float, float], float]] = [
            ("baseline", baseline, at - offset),
            ("candidate", candidate, at),
        ]
        for arm, (calls, each), when in arms:
            if calls:
                agents.calls(arm, {"success": calls})
                agents.add(arm, "agent_cost_usd_total", calls * each)
            batch += agents.scrape(when, arm)
        found.append(batch)
    return found


def after(check: MeanCheck, steps: Sequence[Step], **more: float) -> Judgement:
    evidence = Evidence(plan_of(check))
    for batch in batches(steps):
        evidence.ingest(batch)
    return evidence.judge(START + len(steps) * SCRAPE + more.get("later", 0.0))


def only(judgement: Judgement) -> CheckVerdict:
    (check,) = judgement.checks
    return check


# --- against the baseline ------------------------------------------------------------------------


def test_a_healthy_cost_passes_with_its_numbers() -> None:
    judgement = after(COST, HEALTHY * 200)
    check = only(judgement)
    assert judgement.verdict == Verdict.PASS
    assert check.message == (
        "candidate 0.02 USD a call (2000 calls) vs baseline 0.02 (20000), 1x, limit 3x, "
        "4x is excluded"
    )
    assert check.estimate == pytest.approx(1.0)
    assert (check.level, check.limit, check.warning) == ("rollback", 3.0, "")


def test_a_cost_three_and_a_half_times_the_baselines_is_taken_back_with_numbers_and_onset() -> None:
    judgement = after(COST, HEALTHY * 60 + [((10, 0.07), (100, 0.02))] * 30)
    check = only(judgement)
    assert judgement.verdict == Verdict.FAIL
    assert check.reason == Reason.BREACHED
    assert check.since == START + 60 * SCRAPE
    assert check.message.startswith("candidate 0.07 USD a call (")
    for words in (" calls) vs baseline 0.02 (", "over the last", "3.5x, limit 3x; odds against"):
        assert words in check.message
    assert check.odds is not None
    assert check.odds >= 100


def test_beyond_chance_but_not_beyond_the_limit_is_an_early_warning_that_goes_away() -> None:
    twice: list[Step] = [((10, 0.04), (100, 0.02))]
    judgement = after(COST, HEALTHY * 60 + twice * 40)
    check = only(judgement)
    assert judgement.verdict != Verdict.FAIL
    assert check.warning.startswith("candidate 0.04 USD a call (")
    assert "2x over the last 10 min; odds " in check.warning
    assert check.warning.endswith("no limit is breached")
    assert judgement.warnings == (f"cost-per-call: {check.warning}",)
    assert only(after(COST, HEALTHY * 60 + twice * 40 + HEALTHY * 400)).warning == ""


def test_a_score_that_falls_is_taken_back_and_one_that_rises_is_not() -> None:
    healthy: list[Step] = [((3, 4.0), (30, 4.0))]
    fallen = after(SCORE, healthy * 60 + [((3, 3.4), (30, 4.0))] * 80)
    assert fallen.verdict == Verdict.FAIL
    assert only(fallen).message.startswith("candidate 3.4 (")
    assert " scores) vs baseline 4 (" in only(fallen).message
    assert "0.85x, limit 0.9x" in only(fallen).message
    risen = after(SCORE, healthy * 60 + [((3, 4.8), (30, 4.0))] * 80)
    assert risen.verdict == Verdict.PASS


def test_what_befalls_both_arms_is_not_the_candidates_fault() -> None:
    dearer: list[Step] = [((10, 0.2), (100, 0.2))]
    for check in (COST, replace(COST, relative=Relative(1.3, 1.25, 2.0))):
        assert after(check, HEALTHY * 60 + dearer * 200).verdict != Verdict.FAIL


def test_one_runaway_call_of_a_hundred_times_the_cost_convicts_nobody() -> None:
    runaway: list[Step] = [((1, 2.0), (100, 0.02))]
    judgement = after(COST, HEALTHY * 60 + runaway + HEALTHY * 10)
    assert judgement.verdict != Verdict.FAIL


def test_a_pass_does_not_outlive_calls_that_turn_bad() -> None:
    """Before the evidence suffices to take back, the candidate does not advance any more."""
    evidence, said = Evidence(plan_of(COST)), []
    steps = HEALTHY * 1000 + [((10, 0.065), (100, 0.02))] * 30
    for step, batch in enumerate(batches(steps)):
        evidence.ingest(batch)
        if step >= 1000:
            said.append(evidence.judge(START + step * SCRAPE))
    verdicts = [judgement.verdict for judgement in said]
    assert verdicts[0] == Verdict.PASS
    assert verdicts[-1] == Verdict.FAIL
    held = verdicts.index(Verdict.INCONCLUSIVE)
    assert said[held].reason == Reason.WORSENING
    assert held < verdicts.index(Verdict.FAIL)


def test_a_baseline_with_hardly_any_calls_is_shown_and_one_that_is_not_scraped_holds() -> None:
    alone: list[Step] = [((10, 0.02), (0, 0.0))]
    warm = after(COST, alone * 100)
    assert only(warm).level == "info"
    assert "too few calls to compare with" in only(warm).message
    evidence = Evidence(plan_of(COST))
    for batch in batches(HEALTHY * 100):
        evidence.ingest(batch)
    for batch in batches(HEALTHY * 120)[101:]:
        evidence.ingest([series for series in batch if series.arm == "candidate"])
    missing = evidence.judge(START + 120 * SCRAPE)
    assert missing.reason == Reason.NO_DATA
    assert "no fresh samples of the baseline" in missing.message


def test_too_few_calls_and_no_series_at_all_hold() -> None:
    assert after(COST, [((1, 0.02), (10, 0.02))] * 20).reason == Reason.TOO_FEW_SAMPLES
    other = replace(COST, count=Amount.of(Selector("unheard_of_total")))
    assert only(after(other, HEALTHY * 100)).reason == Reason.NO_DATA


# --- against a level -----------------------------------------------------------------------------

LEVEL = with_levels(COST, limit=0.5, gate=0.1, alert=0.2)


def test_a_level_is_breached_in_the_users_window_and_the_sentence_says_so() -> None:
    check = with_levels(COST, limit=0.5, gate=0.1, window=1800.0)
    judgement = after(check, HEALTHY * 60 + [((10, 0.9), (100, 0.02))] * 200)
    assert judgement.verdict == Verdict.FAIL
    found = only(judgement)
    assert "is above 0.5 USD" in found.message
    assert "USD over 30 min; baseline 0.02 (" in found.message
    assert found.interval is not None
    assert found.limit is not None
    assert found.interval[0] > found.limit


def test_a_level_passes_and_the_interval_holds_the_mean() -> None:
    judgement = after(with_levels(COST, limit=0.5, gate=0.1), HEALTHY * 100)
    assert judgement.verdict == Verdict.PASS
    found = only(judgement)
    assert found.interval is not None
    assert found.interval[0] <= 0.02 <= found.interval[1]
    assert found.message.endswith("gate 0.1 USD, rollback level 0.5 USD")


def test_an_alert_level_alerts_and_never_takes_back() -> None:
    judgement = after(LEVEL, HEALTHY * 60 + [((10, 0.3), (100, 0.02))] * 100)
    level, alert = judgement.checks
    assert judgement.verdict == Verdict.INCONCLUSIVE
    assert (alert.check, alert.level) == ("cost-per-call-alert", "alert")
    assert (alert.verdict, alert.reason) == (Verdict.FAIL, Reason.ALERT_BREACHED)
    assert level.verdict != Verdict.FAIL


def test_a_level_that_the_baseline_breaches_as_well_is_a_shared_cause() -> None:
    judgement = after(LEVEL, HEALTHY * 60 + [((10, 0.9), (100, 0.9))] * 200)
    assert judgement.verdict == Verdict.INCONCLUSIVE
    assert judgement.checks[0].reason == Reason.SHARED_CAUSE
    assert "shared cause, holding" in judgement.checks[0].message


def test_between_gate_and_limit_holds() -> None:
    check = with_levels(COST, limit=0.5, gate=0.1)
    assert only(after(check, [((10, 0.3), (100, 0.3))] * 100)).reason == Reason.OUTSIDE_GATE


def test_a_score_level_is_below() -> None:
    check = with_levels(SCORE, limit=3.5, gate=4.0)
    assert after(check, [((5, 4.3), (50, 4.3))] * 60).verdict == Verdict.PASS
    bad = after(check, [((5, 4.3), (50, 4.3))] * 60 + [((5, 2.5), (50, 4.3))] * 60)
    assert bad.verdict == Verdict.FAIL
    assert "is below 3.5" in bad.message


def test_without_any_level_the_mean_is_information() -> None:
    judgement = after(replace(COST, relative=None), HEALTHY * 20)
    assert only(judgement).reason == Reason.INFORMATION
    assert only(judgement).level == "info"


def test_a_score_without_its_top_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="needs its top"):
        replace(COST, worse="below")


# --- prices --------------------------------------------------------------------------------------

TABLE = parse_prices('prices: [{model: m-1, usdPerMillionTokens: {input: "2000", output: "8000"}}]')
TOKENS = Selector("agent_tokens_total")


def priced() -> MeanCheck:
    ways = tuple(
        (kind, Selector(TOKENS.name, (Matcher("type", "=", kind),))) for kind in ("input", "output")
    )
    return replace(COST, sum=Priced((ways,), "model", TABLE))


def tokens(model: str, steps: int, first: int = 1) -> Judgement:
    agents, evidence = Agents(), Evidence(plan_of(priced()))
    agents.add("baseline", TOKENS.name, 1, type="input", model="m-1")
    agents.calls("baseline", {"success": 1})
    evidence.ingest(agents.scrape(START - SCRAPE))
    for step in range(1, steps + 1):
        agents.calls("candidate", {"success": 10})
        agents.calls("baseline", {"success": 100})
        name = model if step >= first else "m-1"
        agents.add("candidate", TOKENS.name, 20, type="input", model=name)
        agents.add("candidate", TOKENS.name, 20, type="output", model=name)
        agents.add("baseline", TOKENS.name, 200, type="input", model="m-1")
        agents.add("baseline", TOKENS.name, 200, type="output", model="m-1")
        evidence.ingest(agents.scrape(START + step * SCRAPE))
    return evidence.judge(START + steps * SCRAPE)


def test_tokens_times_their_price_are_a_cost_like_any_other() -> None:
    judgement = tokens("m-1", 200)
    assert judgement.verdict == Verdict.PASS
    assert only(judgement).message.startswith("candidate 0.02 USD a call (2000 calls)")


def test_a_model_without_a_price_is_neither_pass_nor_fail_and_is_named() -> None:
    judgement = tokens("m-2", 200, first=150)
    check = only(judgement)
    assert judgement.verdict == Verdict.INCONCLUSIVE
    assert check.reason == Reason.NO_PRICE
    assert "no price is known for m-2" in check.message


# --- a pure function of the samples ---------------------------------------------------------------

an_arm = st.tuples(st.integers(0, 12), st.floats(0.0, 1.0))
stories = st.lists(st.tuples(an_arm, an_arm), min_size=1, max_size=25)
FULL = replace(LEVEL, relative=COST.relative, alert=Bound(0.2, above=True, window=120.0))
BOTH = plan_of(FULL, replace(SCORE, limit=Bound(3.0, above=False, window=90.0)))


def judged(evidence: Evidence, steps: int) -> Judgement:
    return evidence.judge(START + steps * SCRAPE + 1)


@given(stories, st.sampled_from([0.0, 4.0]), st.integers(0, 25))
@settings(deadline=None, max_examples=40)
def test_batches_of_any_size_and_a_restart_give_the_same_verdict(
    steps: list[Step], offset: float, cut: int
) -> None:
    found = batches(steps, offset)
    evidence = Evidence(BOTH)
    for batch in found:
        evidence.ingest(batch)
    expected = judged(evidence, len(steps))
    at_once = Evidence(BOTH)
    at_once.ingest(merged(found))
    assert judged(at_once, len(steps)) == expected
    before = Evidence(BOTH)
    for batch in found[:cut]:
        before.ingest(batch)
    restarted = Evidence.load(BOTH, json.loads(json.dumps(before.dump(), allow_nan=False)))
    assert restarted.dump() == before.dump()
    newest = before.newest()
    since = -math.inf if newest is None else newest
    restarted.ingest(
        [
            replace(series, samples=tuple(s for s in series.samples if s[0] > since))
            for series in merged(found)
        ]
    )
    assert judged(restarted, len(steps)) == expected


@given(stories)
@settings(deadline=None, max_examples=40)
def test_state_stays_small_and_finite(steps: list[Step]) -> None:
    evidence = Evidence(BOTH)
    for batch in batches(steps * 3):
        evidence.ingest(batch)
    for state in evidence.dump()["checks"]:
        assert len(json.dumps(state, allow_nan=False)) <= 4096
