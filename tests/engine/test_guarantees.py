"""What the engine promises about chance, on simulated traffic with fixed seeds."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator

import pytest
from phasegate.api.rollbackpolicy import Baseline, Level, Metric
from phasegate.engine.evidence import Evidence, EvidencePlan
from phasegate.engine.kinds.ratio import SEVERE_WEIGHT, RatioCheck
from phasegate.engine.verdict import Verdict

from tests.engine.agents import ERROR_RATE, SCRAPE, START, Agents, plan
from tests.engine.everything import everything

Rates = Callable[[int], tuple[float, float]]
"""Step → error rates of candidate and baseline."""


def simulate(
    evidence_plan: EvidencePlan, seed: int, rates: Rates, *, steps: int, calls: int = 8
) -> Iterator[tuple[int, Evidence]]:
    """Scrapes of about `calls` candidate calls each, four times as many of the baseline."""
    chance, agents, evidence = random.Random(seed), Agents(), Evidence(evidence_plan)
    agents.calls("baseline", {"success": 1000, "error": 10})
    evidence.ingest(agents.scrape(START - SCRAPE))
    for step in range(1, steps + 1):
        p, q = rates(step)
        for arm, count, rate in (("candidate", calls, p), ("baseline", 4 * calls, q)):
            n = chance.randint(count - count // 2, count + count // 2)
            bad = sum(chance.random() < rate for _ in range(n))
            agents.calls("candidate" if arm == "candidate" else "baseline", {"error": bad})
            agents.calls("candidate" if arm == "candidate" else "baseline", {"success": n - bad})
        evidence.ingest(agents.scrape(START + step * SCRAPE))
        yield step, evidence


def failed_at(evidence_plan: EvidencePlan, seed: int, rates: Rates, steps: int) -> int | None:
    for step, evidence in simulate(evidence_plan, seed, rates, steps=steps):
        if evidence.judge(START + step * SCRAPE).verdict == Verdict.FAIL:
            return step
    return None


def constant(candidate: float, baseline: float) -> Rates:
    return lambda _step: (candidate, baseline)


def shared_bursts(step: int) -> tuple[float, float]:
    rate = 0.5 if step % 30 < 4 else 0.01
    return rate, rate


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("same rate", constant(0.03, 0.03)),
        ("as bad as is tolerated", constant(0.11, 0.10)),
        ("at the level", constant(0.05, 0.01 / 1.1)),
        ("shared bursts", shared_bursts),
    ],
)
def test_false_rollbacks_are_rarer_than_alpha(name: str, rates: Rates) -> None:
    """At alpha = 20 %, so that few runs show a broken promise; level and tolerance separately."""
    absolute = Metric(name="error-rate", rollback=Level(above="5%"))
    relative = Metric(name="error-rate", baseline=Baseline(worse_by="1.2", tolerate="1.1"))
    metric = absolute if name == "at the level" else relative
    hours = 100 * SCRAPE / 3600
    runs = 60
    false = sum(
        failed_at(plan(metric, alpha=0.2, hours=hours), seed, rates, steps=100) is not None
        for seed in range(runs)
    )
    assert false / runs <= 0.2


def test_a_healthy_candidate_is_not_rolled_back_and_passes() -> None:
    for seed in range(10):
        evidence = None
        for step, evidence in simulate(plan(), seed, constant(0.01, 0.01), steps=250):
            assert evidence.judge(START + step * SCRAPE).verdict != Verdict.FAIL
        assert evidence is not None
        assert evidence.judge(START + 250 * SCRAPE).verdict == Verdict.PASS


@pytest.mark.parametrize(
    ("rate", "most_calls"),
    [(1.0, 20), (0.3, 75), (0.1, 260)],
)
def test_regressions_in_mid_phase_are_found_within_the_expected_number_of_calls(
    rate: float, most_calls: int
) -> None:
    """Healthy for 80 scrapes, then bad: the promised number of calls, and two scrapes of bounds."""
    onset, calls = 80, 8
    delays = []
    for seed in range(11):
        rates: Rates = lambda step: (rate if step > onset else 0.01, 0.01)  # noqa: E731
        found = failed_at(plan(), seed, rates, steps=onset + 80)
        assert found is not None
        assert found > onset
        delays.append((found - onset) * calls)
    assert statistics.median(delays) <= most_calls + 2 * calls


def test_twice_the_baseline_does_not_pass() -> None:
    passed = 0
    for seed in range(20):
        for step, evidence in simulate(plan(ERROR_RATE), seed, constant(0.08, 0.04), steps=100):
            if evidence.judge(START + step * SCRAPE).verdict == Verdict.PASS:
                passed += 1
                break
    assert passed <= 2


def test_what_all_tests_together_may_err_is_alpha() -> None:
    evidence_plan = everything()
    numbers, weights = evidence_plan.settings, []
    for check in evidence_plan.checks:
        if isinstance(check, RatioCheck):
            weights += [1.0] * (check.limit is not None)
            weights += [SEVERE_WEIGHT] * (check.limit is not None and check.severe is not None)
            weights += [check.ratio_weight] * (check.relative is not None)
        else:
            weights += [1.0] * int(check.tests("rollback"))
    assert len(weights) >= 8
    chances = [math.exp(-numbers.need(weight)) for weight in weights]
    assert sum(chances) == pytest.approx(evidence_plan.alpha)
