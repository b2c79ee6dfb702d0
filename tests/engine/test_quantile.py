"""Verdicts about quantiles, on simulated latencies with fixed seeds."""

from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Sequence

import pytest
from phasegate.engine.evidence import Evidence
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import Relative
from phasegate.engine.verdict import CheckVerdict, Reason, Verdict

from tests.engine.agents import SCRAPE, START, Agents, merged
from tests.engine.latencies import (
    EDGES,
    HISTOGRAM,
    Latency,
    Story,
    called,
    judged,
    lognormal,
    mostly,
    plan,
    scrapes,
)

USUAL = lognormal()
"""p50 0.7 s, p95 2.2 s, p99 3.6 s."""
SLOW = lognormal(1.4)
"""Twice as slow."""


def level(seconds: float, window: float | None = None) -> QuantileCheck:
    bound = Bound(seconds, above=True, window=window)
    return QuantileCheck("latency-p95", "latency-p95", HISTOGRAM, 0.95, limit=bound)


def against(q: float = 0.95, limit: float = 1.5, tolerate: float = 1.15) -> QuantileCheck:
    name = f"latency-p{q * 100:g}"
    return QuantileCheck(name, name, HISTOGRAM, q, relative=Relative(limit, tolerate))


def from_onset(candidate: Latency, onset: int = 80) -> Story:
    """Both as usual, then the candidate otherwise."""
    return lambda step: (candidate if step > onset else USUAL, USUAL)


def last(
    check: QuantileCheck,
    story: Story,
    steps: int,
    *,
    seed: int = 1,
    edges: tuple[Sequence[float], Sequence[float]] = (EDGES, EDGES),
) -> CheckVerdict:
    """The check's first verdict after all steps, or its Fail."""
    found: CheckVerdict | None = None
    for _, _, checks in judged(plan(check), scrapes(seed, story, steps, edges=edges)):
        found = next(iter(checks.values()))
        if found.verdict == Verdict.FAIL:
            break
    assert found is not None
    return found


def failed_at(check: QuantileCheck, story: Story, steps: int, seed: int = 1) -> int | None:
    for step, _, checks in judged(plan(check), scrapes(seed, story, steps)):
        if any(verdict.verdict == Verdict.FAIL for verdict in checks.values()):
            return step
    return None


# --- Fail ----------------------------------------------------------------------------------------


def test_twice_as_slow_in_mid_phase_is_found_within_some_hundred_calls() -> None:
    delays = []
    for seed in range(9):
        found = failed_at(against(), from_onset(SLOW), 130, seed)
        assert found is not None
        assert found > 80
        delays.append(8 * (found - 80))
    assert statistics.median(delays) <= 120


def test_a_fail_says_estimate_counts_window_and_odds_in_the_users_terms() -> None:
    verdict = last(against(), from_onset(SLOW), 160)
    assert verdict.reason == Reason.BREACHED
    assert re.fullmatch(
        r"p95 [\d.]+ s vs baseline [\d.]+ s, [\d.]+x; [\d.]+% of \d+ calls above [\d.]+ s vs "
        r"[\d.]+% of \d+ over the last \d+ (s|min), limit 1.5x; odds against chance [\d,]+:1",
        verdict.message,
    ), verdict.message
    assert verdict.estimate is not None
    assert 1.5 < verdict.estimate < 4
    assert verdict.limit == 1.5
    assert verdict.since is not None
    assert abs(verdict.since - (START + 80 * SCRAPE)) < 300
    assert verdict.odds is not None
    assert verdict.odds >= 100


def test_a_level_is_breached_by_the_share_of_calls_above_its_edge() -> None:
    verdict = last(level(3.0, window=1800.0), from_onset(SLOW), 300)
    assert verdict.verdict == Verdict.FAIL
    assert re.fullmatch(
        r"candidate p95 [\d.]+ s \(interpolated\), 95% anytime-valid interval [\d.]+ s-[\d.]+ s; "
        r"[\d.]+% of \d+ calls above 3 s, 5.0% allowed above 3 s, over the last \d+ min; "
        r"[\d.]+% over 30 min; baseline p95 [\d.]+ s; odds against chance [\d,]+:1",
        verdict.message,
    ), verdict.message
    assert verdict.interval is not None
    assert verdict.interval[0] >= 3.0
    assert verdict.bad / verdict.total > 0.05


def test_a_regression_of_the_tail_alone_is_found() -> None:
    tail = mostly(USUAL, 0.1, 5.0)
    assert failed_at(against(0.95), from_onset(tail), 600) is not None
    assert failed_at(against(0.99), from_onset(tail), 600) is not None
    # The median does not move: a check of it says nothing.
    assert failed_at(against(0.5), from_onset(tail), 300) is None


def test_a_regression_of_the_median_is_found_by_its_own_check() -> None:
    assert failed_at(against(0.5), from_onset(SLOW), 130) is not None


@pytest.mark.parametrize("median", [0.5, 0.7, 0.7 * 1.12])
def test_what_is_tolerated_is_not_rolled_back(median: float) -> None:
    for seed in range(4):
        assert failed_at(against(), from_onset(lognormal(median), 0), 250, seed) is None


def test_false_rollbacks_are_rarer_than_alpha() -> None:
    """At alpha = 20 % and a ratio at the edge of what is tolerated, with no limit in between."""
    check = against(limit=1.16)
    story = from_onset(lognormal(0.7 * 1.15), 0)
    runs = 40
    false = sum(
        any(
            verdict.verdict == Verdict.FAIL
            for *_, checks in judged(plan(check, alpha=0.2, hours=0.4), scrapes(seed, story, 96))
            for verdict in checks.values()
        )
        for seed in range(runs)
    )
    assert false / runs <= 0.2


def test_a_shared_slowness_holds_and_says_so() -> None:
    shared: Story = lambda step: (SLOW, SLOW) if step > 40 else (USUAL, USUAL)  # noqa: E731
    verdict = last(level(3.0), shared, 200)
    assert verdict.reason == Reason.SHARED_CAUSE
    assert "baseline is as slow: shared cause, holding" in verdict.message
    assert verdict.warning == ""
    relative = last(against(), shared, 200)
    assert relative.verdict != Verdict.FAIL


# --- Pass ----------------------------------------------------------------------------------------


def test_a_healthy_candidate_passes_both_checks() -> None:
    for check in (level(3.0), against()):
        verdict = last(check, from_onset(USUAL), 120)
        assert verdict.verdict == Verdict.PASS, verdict.message


def test_twice_as_slow_never_passes_and_neither_does_a_quantile_at_the_level() -> None:
    passed = 0
    at_level = lognormal(0.949)  # p95 at 3 s
    for seed in range(12):
        for check, candidate in ((against(limit=2.5), SLOW), (level(3.0), at_level)):
            story = from_onset(candidate, 0)
            verdicts = judged(plan(check), scrapes(seed, story, 80))
            passed += any(
                verdict.verdict == Verdict.PASS
                for *_, checks in verdicts
                for verdict in checks.values()
            )
    assert passed <= 2


def test_a_good_morning_is_no_pass_for_what_is_bad_now() -> None:
    """From the onset on a Pass is withdrawn before, or at the latest when, it becomes a Fail."""
    for check in (level(3.0), against()):
        passing = False
        for step, _, checks in judged(plan(check), scrapes(3, from_onset(SLOW, 300), 400)):
            (verdict,) = checks.values()
            if verdict.verdict == Verdict.FAIL:
                break
            passing = verdict.verdict == Verdict.PASS
            if step == 300:
                assert passing
        assert not passing


def test_a_gate_alone_holds_and_never_takes_back() -> None:
    gate = Bound(3.0, above=False)
    check = QuantileCheck("latency-p95", "latency-p95", HISTOGRAM, 0.95, gate=gate)
    verdict = last(check, from_onset(SLOW, 0), 150)
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, Reason.OUTSIDE_GATE)
    assert verdict.level == "gate"
    assert last(check, from_onset(USUAL), 150).verdict == Verdict.PASS


def test_an_alert_holds_at_a_level_of_its_own() -> None:
    check = QuantileCheck(
        "latency-p95",
        "latency-p95",
        HISTOGRAM,
        0.95,
        limit=Bound(9.2, above=True),
        alert=Bound(3.0, above=True),
    )
    checks: dict[str, CheckVerdict] = {}
    for _, evidence, checks in judged(plan(check), scrapes(4, from_onset(SLOW, 0), 150)):
        assert evidence.judge(START + 150 * SCRAPE).verdict != Verdict.FAIL
        if checks["latency-p95-alert"].verdict == Verdict.FAIL:
            break
    alert, rollback = checks["latency-p95-alert"], checks["latency-p95"]
    assert (alert.level, alert.reason) == ("alert", Reason.ALERT_BREACHED)
    assert "alert level 3 s; odds against chance" in alert.message
    assert rollback.verdict != Verdict.FAIL


def test_without_a_level_it_is_information() -> None:
    verdict = last(QuantileCheck("p", "p", HISTOGRAM, 0.5), from_onset(USUAL), 40)
    assert (verdict.level, verdict.reason) == ("info", Reason.INFORMATION)
    assert verdict.message.startswith("candidate p50 6") or "p50 7" in verdict.message


# --- early warning -------------------------------------------------------------------------------


def test_a_trend_without_a_breach_warns_and_the_warning_goes_away_by_itself() -> None:
    slower: Story = lambda step: (  # noqa: E731
        lognormal(0.7 * 1.4) if 60 < step <= 260 else USUAL,
        USUAL,
    )
    warned = []
    for step, _, checks in judged(plan(against()), scrapes(6, slower, 500)):
        (verdict,) = checks.values()
        assert verdict.verdict != Verdict.FAIL
        if verdict.warning:
            warned.append(step)
            assert re.search(r"p95 .* over the last .*; odds .*; no limit", verdict.warning)
    assert warned
    assert warned[0] > 60
    assert 200 < warned[-1] < 480


# --- edges ---------------------------------------------------------------------------------------


def test_a_level_between_edges_is_tested_at_the_next_one_and_says_so() -> None:
    verdict = last(level(3.5), from_onset(lognormal(2.1)), 200)
    assert verdict.verdict == Verdict.FAIL
    assert "(no bucket edge at 3.5 s; tested at 3.75 s)" in verdict.message


def test_a_level_above_all_edges_names_the_edge_that_is_missing() -> None:
    verdict = last(level(45.0), from_onset(USUAL), 60)
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, Reason.NO_EDGE)
    assert "no bucket edge at or above 45 s (the last is 30 s): add one at 45 s" in verdict.message


def test_a_level_below_all_edges_can_fail_but_not_pass() -> None:
    verdict = last(level(0.2), lambda _: (lambda chance: 0.1 * chance.random(),) * 2, 60)
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, Reason.NO_EDGE)
    assert "no bucket edge at or below 200 ms (the first is 250 ms)" in verdict.message
    assert last(level(0.2), from_onset(SLOW, 0), 60).verdict != Verdict.PASS


def test_revisions_with_other_buckets_are_compared_on_the_edges_they_share() -> None:
    old = (0.5, 1, 1.5, 2.4, 3.75, 5.9, 15)
    assert last(against(), from_onset(USUAL), 150, edges=(EDGES, old)).verdict == Verdict.PASS
    verdict = last(against(), from_onset(SLOW), 200, edges=(EDGES, old))
    assert verdict.verdict == Verdict.FAIL
    healthy = [last(against(), from_onset(USUAL), 100, seed=s, edges=(EDGES, old)) for s in (2, 3)]
    assert all(verdict.verdict == Verdict.PASS for verdict in healthy)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ((0.3, 0.6, 1.2, 2.6, 5.2), "no bucket edge that both revisions have"),
        ((0.5, 1), "p95 is above 1 s, the last edge that both have"),
        ((9.2, 15), "p95 is below 9.2 s, the first edge that both have"),
        ((0.25, 15), "lies somewhere between 250 ms and 15 s: add edges"),
    ],
)
def test_a_comparison_without_edges_names_what_is_missing(
    edges: tuple[float, ...], words: str
) -> None:
    verdict = last(against(), from_onset(SLOW, 0), 60, edges=(EDGES, edges))
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, Reason.NO_EDGE)
    assert words in verdict.message


def test_a_level_is_guarded_also_where_the_baseline_has_other_buckets() -> None:
    others = (0.3, 0.6, 1.2, 2.6, 5.2)
    verdict = last(level(3.0), from_onset(SLOW), 250, edges=(EDGES, others))
    assert verdict.verdict == Verdict.FAIL
    shared: Story = lambda step: (SLOW, SLOW) if step > 40 else (USUAL, USUAL)  # noqa: E731
    verdict = last(level(3.0), shared, 200, edges=(EDGES, others))
    assert verdict.reason == Reason.SHARED_CAUSE


def test_pods_of_one_revision_with_other_buckets_do_not_make_it_look_slow() -> None:
    """A pod that lacks the edge of the level counts nothing there; the test moves to the next."""
    chance, agents, evidence = random.Random(4), Agents(), Evidence(plan(level(3.0), against()))
    others = (0.5, 1, 1.5, 2.4, 3.75, 5.9, 15)
    called(agents, "baseline", [0.7] * 1000, EDGES)
    evidence.ingest(agents.scrape(START - SCRAPE))
    for step in range(1, 201):
        for pod, edges in (("a", EDGES), ("b", others)):
            called(agents, "candidate", [USUAL(chance) for _ in range(4)], edges, pod)
        called(agents, "baseline", [USUAL(chance) for _ in range(32)], EDGES)
        at = START + step * SCRAPE
        evidence.ingest(agents.scrape(at - 5, pods=["a"]))
        evidence.ingest(agents.scrape(at, pods=["b", "p0"]))
        assert evidence.judge(at).verdict != Verdict.FAIL
    absolute, relative = evidence.judge(START + 200 * SCRAPE).checks
    assert "(no bucket edge at 3 s; tested at 3.75 s)" in absolute.message
    assert relative.verdict == Verdict.PASS, relative.message


# --- data ----------------------------------------------------------------------------------------


def test_no_traffic_is_no_verdict_and_no_arithmetic_on_nothing() -> None:
    for candidate, baseline in ((None, USUAL), (USUAL, None), (None, None)):
        for check in (level(3.0), against()):
            verdict = last(check, lambda _, c=candidate, b=baseline: (c, b), 30)  # type: ignore[misc]
            if candidate is None or check.relative is not None:
                assert verdict.verdict == Verdict.INCONCLUSIVE or verdict.level == "info"
            assert "nan" not in verdict.message.lower()


def test_one_call_a_minute_loses_nothing_by_coming_alone() -> None:
    """The same calls, one a scrape with the baseline's in between, or all at once."""
    story: Story = lambda step: (  # noqa: E731
        (SLOW if step % 4 == 0 else None),
        (USUAL if step % 4 == 2 else None),
    )
    calls = scrapes(2, story, 900, calls=1)
    found = next(
        (
            step
            for step, _, checks in judged(plan(against()), calls)
            for verdict in checks.values()
            if verdict.verdict == Verdict.FAIL
        ),
        None,
    )
    assert found is not None
    assert found / 4 < 120


def test_the_verdict_does_not_depend_on_batches_or_on_a_restart() -> None:
    checks = (level(3.0, window=1800.0), against(0.95))
    batches = list(scrapes(8, from_onset(lognormal(0.7 * 1.35), 60), 140))
    whole = Evidence(plan(*checks))
    whole.ingest(merged(batches))
    single = Evidence(plan(*checks))
    for batch in batches:
        single.ingest(batch)
    chance = random.Random(5)
    stopped = Evidence(plan(*checks))
    for i, batch in enumerate(batches):
        stopped.ingest(batch)
        if chance.random() < 0.2:
            state = json.loads(json.dumps(stopped.dump()))
            stopped = Evidence.load(plan(*checks), state)
            stopped.ingest(merged(batches[max(0, i - 1) : i + 1]))
    now = START + 140 * SCRAPE
    assert whole.judge(now) == single.judge(now) == stopped.judge(now)


DENSE = tuple(2 ** (k / 4) for k in range(-16, 33))
"""As many as a native histogram has between 62 ms and 256 s."""


@pytest.mark.parametrize("edges", [EDGES, DENSE], ids=["classic", "native"])
def test_state_stays_below_four_kilobytes(edges: Sequence[float]) -> None:
    checks = (level(3.0, window=1800.0), against(0.95))
    story = from_onset(lognormal(0.7 * 1.3), 60)
    batches = scrapes(9, story, 500, calls=20, edges=(edges, edges))
    most = 0
    for step, evidence, _ in judged(plan(*checks), batches):
        if step % 50 == 0:
            most = max(most, *(len(json.dumps(state)) for state in evidence.dump()["checks"]))
    assert most <= 4096
