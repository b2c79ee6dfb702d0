"""What is said, and why: one story per reason."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from phasegate.api.rollbackpolicy import Baseline, Level, Metric, Threshold
from phasegate.engine.evidence import Evidence
from phasegate.engine.samples import Series
from phasegate.engine.verdict import CheckVerdict, Judgement, Reason, Verdict

from tests.engine.agents import ERROR_RATE, SCRAPE, START, Agents, fed, plan, story

Outcomes = Mapping[str, float]
Steps = list[tuple[Outcomes, Outcomes]]

HEALTHY: Steps = [({"success": 99, "error": 1}, {"success": 396, "error": 4})]
ABSOLUTE = Metric(name="error-rate", rollback=Level(above="5%"))


def after(
    steps: Steps, *metrics: Metric, later: float = 0.0, min_seconds: float = 0.0
) -> Judgement:
    evidence = fed(plan(*metrics, min_seconds=min_seconds), story(steps))
    return evidence.judge(START + len(steps) * SCRAPE + later)


def only(judgement: Judgement) -> CheckVerdict:
    (check,) = judgement.checks
    return check


def test_a_healthy_candidate_passes_with_its_numbers() -> None:
    judgement = after(HEALTHY * 40)
    assert judgement.verdict == Verdict.PASS
    assert judgement.candidate_calls == 4000
    assert judgement.baseline_calls == 16000
    assert judgement.at == START + 40 * SCRAPE
    rate, ratio = judgement.checks
    assert rate.message.startswith("candidate 1.0% (40/4000), 95% anytime-valid interval 0.5")
    assert rate.message.endswith("gate 5.0%, rollback level 5.0%")
    assert (rate.estimate, rate.limit, rate.level) == (0.01, 0.05, "rollback")
    assert ratio.message == (
        "candidate 1.0% (40/4000) vs baseline 1.0% (160/16000), limit 1.5x, 2x is excluded"
    )


def test_a_breach_says_what_how_much_since_when_and_how_sure() -> None:
    bad: Steps = [({"success": 50, "error": 50}, {"success": 396, "error": 4})]
    judgement = after(HEALTHY * 20 + bad * 6, ABSOLUTE)
    assert judgement.verdict == Verdict.FAIL
    assert judgement.reason == Reason.BREACHED
    check = only(judgement)
    assert check.since == START + 20 * SCRAPE
    assert check.interval is not None
    assert check.limit is not None
    assert check.interval[0] > check.limit
    assert check.odds is not None
    assert check.odds > 200
    assert check.message.startswith("candidate 50.0% (")
    for words in ("over the last", "anytime-valid interval", "is above 5.0%", "baseline 1.0%"):
        assert words in check.message
    assert judgement.message == f"error-rate: {check.message}"


def test_a_regression_against_the_baseline_names_both_rates() -> None:
    bad: Steps = [({"success": 96, "error": 4}, {"success": 399, "error": 1})]
    judgement = after(HEALTHY * 5 + bad * 40)
    failed = [check for check in judgement.checks if check.verdict == Verdict.FAIL]
    assert [check.check for check in failed] == ["error-rate-vs-baseline"]
    assert "candidate 4.0% (" in failed[0].message
    assert "limit 1.5x; odds against chance" in failed[0].message


def test_a_total_failure_needs_two_scrapes_of_its_own_when_the_arms_are_not_read_at_once() -> None:
    dead: Steps = [({"error": 60}, {"success": 240})]
    for offset, needed in ((0.0, 1), (4.0, 2)):
        evidence = Evidence(plan(ABSOLUTE))
        for step, batch in enumerate(story(HEALTHY * 20 + dead * 3, offset=offset)):
            evidence.ingest(batch)
            verdict = evidence.judge(START + step * SCRAPE).verdict
            assert (verdict == Verdict.FAIL) == (step >= 20 + needed), (offset, step)


def test_an_outage_of_both_arms_is_a_shared_cause_and_holds() -> None:
    outage: Steps = [({"success": 40, "error": 60}, {"success": 160, "error": 240})]
    judgement = after(HEALTHY * 20 + outage * 40)
    assert judgement.verdict == Verdict.INCONCLUSIVE
    assert judgement.reason == Reason.SHARED_CAUSE
    assert "shared cause, holding" in judgement.message


@pytest.mark.parametrize("baseline", [{}, {"success": 1}])
def test_without_a_baseline_to_compare_with_the_level_stands_alone(baseline: Outcomes) -> None:
    bad: Steps = [({"success": 60, "error": 40}, baseline)]
    assert after(bad * 12, ABSOLUTE).verdict == Verdict.FAIL


def test_a_baseline_that_is_not_scraped_holds() -> None:
    judgement = after(HEALTHY * 40 + [({"success": 100}, {})] * 40)
    assert judgement.reason == Reason.NO_DATA
    assert "no fresh samples of the baseline" in judgement.message
    never_seen = fed(plan(), story([({"success": 100}, {})] * 40)[1:])
    assert never_seen.judge(START + 40 * SCRAPE).reason == Reason.NO_DATA


def test_a_baseline_that_answers_hardly_any_calls_is_shown_and_does_not_hold() -> None:
    """After a full switch the stable revision is kept warm, without traffic."""
    warm: Steps = [({"success": 99, "error": 1}, {"success": 0})]
    judgement = after(warm * 40)
    assert judgement.verdict == Verdict.PASS
    rate, ratio = judgement.checks
    assert (rate.level, ratio.level) == ("rollback", "info")
    assert "too few calls to compare with" in ratio.message


def test_too_few_samples_hold() -> None:
    judgement = after([({"success": 10}, {"success": 100})] * 4)
    assert judgement.reason == Reason.TOO_FEW_SAMPLES
    assert "(0/40)" in judgement.message


def test_a_metrics_own_minimum_binds() -> None:
    many = Metric(name="error-rate", rollback=Level(above="5%"), min_samples=5000)
    assert after(HEALTHY * 40, many).reason == Reason.TOO_FEW_SAMPLES


def test_the_minimum_duration_holds_what_passes() -> None:
    judgement = after(HEALTHY * 40, min_seconds=3600)
    assert judgement.reason == Reason.MIN_DURATION
    assert "10 min of at least 60 min" in judgement.message


def test_stale_data_is_no_data_and_fresh_data_recovers() -> None:
    evidence = fed(plan(), story(HEALTHY * 40))
    now = START + 40 * SCRAPE
    assert evidence.judge(now + 121).reason == Reason.NO_DATA
    assert not evidence.judge(now + 121).candidate_fresh
    assert evidence.judge(now + 119).verdict == Verdict.PASS


def test_nothing_fed_is_no_data() -> None:
    judgement = Evidence(plan()).judge(START + 60)
    assert (judgement.verdict, judgement.reason) == (Verdict.INCONCLUSIVE, Reason.NO_DATA)
    assert judgement.at == START


def test_inside_the_rollback_level_but_outside_the_gate_holds() -> None:
    metric = Metric(name="error-rate", gate=Level(below="2%"), rollback=Level(above="20%"))
    judgement = after([({"success": 97, "error": 3}, {"success": 400})] * 30, metric)
    assert judgement.reason == Reason.OUTSIDE_GATE


def test_good_in_the_morning_and_bad_now_is_not_a_pass() -> None:
    gate = Metric(name="error-rate", gate=Level(below="10%"))
    worse: Steps = [({"success": 80, "error": 20}, {"success": 396, "error": 4})]
    assert after(HEALTHY * 300, gate).verdict == Verdict.PASS
    judgement = after(HEALTHY * 300 + worse * 10, gate)
    assert judgement.verdict == Verdict.INCONCLUSIVE
    assert only(judgement).total == 31_000


def test_a_gate_alone_never_rolls_back() -> None:
    gate = Metric(name="error-rate", gate=Level(below="5%"))
    judgement = after([({"error": 100}, {"success": 400})] * 40, gate)
    assert judgement.verdict == Verdict.INCONCLUSIVE
    assert only(judgement).level == "gate"


def test_an_alert_holds_recovers_and_never_rolls_back() -> None:
    metric = Metric(name="error-rate", alert=Level(above="2%", window="5m"))
    worse: Steps = [({"success": 90, "error": 10}, {"success": 396, "error": 4})]
    raised = after(HEALTHY * 20 + worse * 10, metric)
    assert (raised.verdict, raised.reason) == (Verdict.INCONCLUSIVE, Reason.ALERT_BREACHED)
    check = only(raised)
    assert (check.check, check.level, check.verdict) == ("error-rate-alert", "alert", Verdict.FAIL)
    assert after(HEALTHY * 20 + worse * 10 + HEALTHY * 200, metric).verdict == Verdict.PASS


def test_a_window_is_the_users_own_and_part_of_the_message() -> None:
    metric = Metric(name="error-rate", rollback=Level(above="5%", window="30m"))
    worse: Steps = [({"success": 88, "error": 12}, {"success": 396, "error": 4})]
    # Twelve percent for ten minutes are not yet five percent in any thirty minutes...
    assert after(HEALTHY * 120 + worse * 30, metric).verdict != Verdict.FAIL
    # ...but they are after twenty.
    judgement = after(HEALTHY * 120 + worse * 80, metric)
    assert judgement.verdict == Verdict.FAIL
    assert "over 30 min" in judgement.message


def test_accuracy_is_said_as_accuracy() -> None:
    metric = Metric(name="accuracy", gate=Level(above="90%"), rollback=Level(below="85%"))
    for right, verdict in ((97, Verdict.PASS), (60, Verdict.FAIL)):
        agents, evidence = Agents(), Evidence(plan(metric))
        for step in range(1, 13):
            agents.calls("candidate", {"success": 100})
            agents.add("candidate", "agent_eval_total", 20)
            agents.add("candidate", "agent_eval_passed_total", right / 5)
            evidence.ingest(agents.scrape(START + step * SCRAPE))
        judgement = evidence.judge(START + 12 * SCRAPE)
        assert judgement.verdict == verdict
        check = only(judgement)
        assert check.estimate == pytest.approx(right / 100)
        assert check.limit == pytest.approx(0.85)
        assert f"candidate {right}.0% (" in check.message
        if verdict == Verdict.FAIL:
            assert "is below 85.0%" in check.message


def test_one_event_is_enough_and_none_needs_calls_to_mean_anything() -> None:
    safety = Metric(name="safety-flags", rollback=Level(above="0"))
    agents, evidence = Agents(), Evidence(plan(safety))
    agents.calls("candidate", {"success": 30})
    evidence.ingest(agents.scrape(START + 15))
    assert evidence.judge(START + 15).reason == Reason.TOO_FEW_SAMPLES
    agents.calls("candidate", {"success": 30})
    evidence.ingest(agents.scrape(START + 30))
    assert evidence.judge(START + 30).verdict == Verdict.PASS
    agents.add("baseline", "agent_safety_flags_total", 3, category="pii")
    evidence.ingest(agents.scrape(START + 45))
    assert evidence.judge(START + 45).verdict == Verdict.PASS
    agents.add("candidate", "agent_safety_flags_total", 1, category="pii")
    evidence.ingest(agents.scrape(START + 60))
    failed = evidence.judge(START + 60)
    assert failed.verdict == Verdict.FAIL
    assert failed.message.startswith("safety-flags: candidate 1 (limit 0)")


def test_a_metric_without_series_holds_and_names_them() -> None:
    judgement = after(HEALTHY * 10, Metric(name="tool-error-rate", rollback=Level(above="10%")))
    assert judgement.reason == Reason.NO_DATA
    assert "no calls in agent_tool_calls_total" in judgement.message


# --- thresholds ----------------------------------------------------------------------------------

LEGACY = Metric(
    name="legacy",
    threshold=Threshold(query="max(queue_length)", for_="1m"),
    rollback=Level(above="10"),
)


def threshold_after(*values: float, metric: Metric = LEGACY, every: float = 20.0) -> Judgement:
    agents, evidence = Agents(), Evidence(plan(metric))
    at = START
    for value in values:
        at += every
        agents.calls("candidate", {"success": 100})
        result = Series("candidate", "threshold:legacy", (), ((at, value),))
        evidence.ingest([*agents.scrape(at), result])
    return evidence.judge(at)


def test_a_threshold_must_last_and_is_shown_as_unguarded() -> None:
    assert threshold_after(12, 12, 12).reason == Reason.STILL_UNCERTAIN
    judgement = threshold_after(3, 12, 12, 12, 12)
    assert judgement.verdict == Verdict.FAIL
    assert judgement.message.startswith("legacy: value 12, limit above 10 (unguarded")
    assert only(judgement).since == START + 40


def test_a_threshold_that_recovers_or_has_a_gap_begins_anew() -> None:
    assert threshold_after(12, 12, 3, 12, 12, 12).verdict == Verdict.INCONCLUSIVE
    assert threshold_after(12, 12, every=121).verdict == Verdict.INCONCLUSIVE
    assert threshold_after(12, 12, 12, 3).verdict == Verdict.PASS


def test_a_threshold_without_a_value_is_no_data() -> None:
    assert threshold_after(3, 3, float("nan"), every=130).reason == Reason.NO_DATA


def test_a_thresholds_gate_holds_and_its_alert_alerts() -> None:
    metric = Metric(
        name="legacy",
        threshold=Threshold(query="max(queue_length)", for_="0s"),
        gate=Level(below="5"),
        alert=Level(above="8"),
    )
    assert threshold_after(3, metric=metric).verdict == Verdict.PASS
    assert threshold_after(6, metric=metric).reason == Reason.OUTSIDE_GATE
    judgement = threshold_after(9, metric=metric)
    assert (judgement.verdict, judgement.reason) == (Verdict.INCONCLUSIVE, Reason.ALERT_BREACHED)


def test_results_read_before_the_counters_do_not_make_these_late() -> None:
    evidence = Evidence(plan(LEGACY, ERROR_RATE))
    batches = story(HEALTHY * 40)
    now = START + 40 * SCRAPE
    evidence.ingest([Series("candidate", "threshold:legacy", (), ((now, 3.0),))])
    for batch in batches:
        evidence.ingest(batch)
    assert evidence.judge(now).candidate_calls == 4000
    assert evidence.judge(now).verdict == Verdict.PASS


def test_a_ratio_without_any_level_is_shown_and_not_judged() -> None:
    metric = Metric(name="error-rate", baseline=Baseline())
    judgement = after(HEALTHY * 40, metric)
    assert [check.check for check in judgement.checks] == ["error-rate"]
    assert judgement.verdict == Verdict.PASS
