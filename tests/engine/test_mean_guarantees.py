"""What tests of a mean promise about chance, on simulated calls with fixed seeds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from phasegate.engine.betting import Moments, Spread, against, in_favour, interval
from phasegate.engine.kinds.base import Moment, Settings, Step
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.mean_tracker import MeanTracker
from phasegate.engine.kinds.ratio import Relative
from phasegate.engine.verdict import Verdict

from tests.engine.test_mean import COST, SCORE

Call = Callable[[random.Random], float]
DAY = Settings(0.0, 6 * 3600.0, 0.05, 0.05, 50, 120.0, 1, 0)


def lognormal(mean: float, cv: float) -> Call:
    variance = math.log(1 + cv * cv)
    return lambda chance: chance.lognormvariate(math.log(mean) - variance / 2, math.sqrt(variance))


def score(mean: float, sd: float = 0.75) -> Call:
    p = mean / 5
    shape = p * (1 - p) / (sd / 5) ** 2 - 1
    return lambda chance: 5 * chance.betavariate(p * shape, (1 - p) * shape)


def play(
    check: MeanCheck,
    seed: int,
    candidate: Callable[[int], Call],
    baseline: Callable[[int], Call],
    *,
    steps: int,
    calls: tuple[int, int],
    phase: Settings = DAY,
) -> tuple[int | None, MeanTracker]:
    """The step at which the candidate fails, if it does."""
    chance, tracker = random.Random(seed), MeanTracker(check, phase)
    (amount,) = check.sum.selectors()
    (count,) = check.count.selectors()

    def arm(call: Call, most: int) -> dict[str, float]:
        n = chance.randint(0, 2 * most)
        return {str(count): n, str(amount): sum(call(chance) for _ in range(n))}

    for step in range(1, steps + 1):
        mine, theirs = arm(candidate(step), calls[0]), arm(baseline(step), calls[1])
        tracker.step(Step(step * 15.0, step * 15.0 - 15, True, True, True, mine, theirs))
        if tracker.failures():
            return step, tracker
    return None, tracker


@pytest.mark.parametrize(
    ("check", "candidate", "baseline", "calls"),
    [
        (COST, lognormal(0.025, 1.3), lognormal(0.02, 1.3), (3, 30)),
        (COST, lognormal(0.025, 3.0), lognormal(0.02, 3.0), (3, 3)),
        (SCORE, score(3.9), score(4.0), (1, 10)),
        (SCORE, score(3.9), score(4.0), (15, 60)),
    ],
    ids=["costs", "heavy tails, few calls of the baseline", "scores", "many scores"],
)
def test_what_is_tolerated_is_taken_back_more_rarely_than_alpha(
    check: MeanCheck, candidate: Call, baseline: Call, calls: tuple[int, int]
) -> None:
    """Exactly at the tolerated ratio, the limit right behind it, alpha 5 %."""
    tolerate = (check.relative or Relative()).tolerate
    tight = replace(check, relative=Relative(tolerate, tolerate, 2.0))
    runs = 40
    found = [
        play(tight, seed, lambda _: candidate, lambda _: baseline, steps=300, calls=calls)[0]
        for seed in range(runs)
    ]
    assert sum(step is not None for step in found) <= 0.05 * runs


def rarely(p: float) -> Call:
    """Most calls cost nothing."""
    return lambda chance: float(chance.random() < p)


@pytest.mark.parametrize(("p", "calls"), [(0.02, (9, 1)), (0.02, (19, 1)), (0.005, (9, 1))])
def test_a_baseline_of_few_calls_that_has_not_paid_yet_takes_nobody_back(
    p: float, calls: tuple[int, int]
) -> None:
    phase = replace(DAY, alpha=0.01)
    same = lambda _: rarely(p)  # noqa: E731
    found = [
        play(COST, seed, same, same, steps=120, calls=calls, phase=phase) for seed in range(20)
    ]
    assert [step for step, _ in found if step is not None] == []


def test_what_changes_for_both_arms_takes_nobody_back() -> None:
    before, dearer = lognormal(0.02, 1.3), lognormal(0.1, 1.3)
    tight = replace(COST, relative=Relative(1.25, 1.25, 2.0))
    for seed in range(10):
        shared = lambda step: dearer if step > 100 else before  # noqa: E731
        assert play(tight, seed, shared, shared, steps=300, calls=(3, 30))[0] is None


@pytest.mark.parametrize(
    ("check", "good", "bad", "calls", "most"),
    [
        (COST, lognormal(0.02, 1.3), lognormal(0.07, 1.3), (3, 30), 60),
        (SCORE, score(4.0), score(3.4), (1, 10), 160),
        (SCORE, score(4.0), score(3.4), (40, 160), 15),
    ],
    ids=["cost x3.5", "score -15 %", "score -15 %, many"],
)
def test_regressions_in_mid_phase_are_found_in_time(
    check: MeanCheck, good: Call, bad: Call, calls: tuple[int, int], most: int
) -> None:
    onset, delays = 120, []
    phase = replace(DAY, alpha=0.01, rollback_tests=8)
    for seed in range(7):
        found, _ = play(
            check,
            seed,
            lambda step: bad if step > onset else good,
            lambda _: good,
            steps=onset + 3 * most,
            calls=calls,
            phase=phase,
        )
        assert found is not None
        assert found > onset
        delays.append(found - onset)
    assert sorted(delays)[3] <= most


def test_what_a_pass_excludes_passes_more_rarely_than_beta() -> None:
    """At the excluded ratio; the gate is wide open, so that the test alone decides."""
    open_gate = replace(COST, relative=Relative(100.0, 1.25, 4.0))
    passed = 0
    for seed in range(30):
        _, tracker = play(
            open_gate,
            seed,
            lambda _: lognormal(0.08, 1.3),
            lambda _: lognormal(0.02, 1.3),
            steps=200,
            calls=(3, 30),
        )
        (found,) = tracker.judge(Moment(3000.0, 3000.0, True, 600.0))
        passed += found.verdict == Verdict.PASS
    assert passed <= 2


# --- the factors themselves -------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 3, 20, 200])
@pytest.mark.parametrize("p", [0.5, 0.1, 0.02])
def test_no_factor_gains_on_average_where_the_null_holds(calls: int, p: float) -> None:
    """Exactly, for the extreme case: every call loses all or nothing, in as many calls."""
    spread = Spread(p * (1 - p), measured=True)
    for test in (against, in_favour):
        means = [0.0] * len(test(calls, 0.0, p, spread, 1.0))
        for lost in range(calls + 1):
            chance = math.comb(calls, lost) * p**lost * (1 - p) ** (calls - lost)
            for k, factor in enumerate(test(calls, lost, p, spread, 1.0)):
                means[k] += chance * math.exp(factor)
        assert all(mean <= 1 + 1e-9 for mean in means), (test, means)


def test_the_variance_is_of_a_call_and_does_not_take_a_shift_for_scatter() -> None:
    chance, call = random.Random(1), score(4.0)
    steady = shifted = Moments()
    for step in range(400):
        n = chance.randint(1, 30)
        lost = sum(5 - call(chance) for _ in range(n))
        steady = steady.plus(n, lost)
        shifted = shifted.plus(n, lost + (2.0 * n if step >= 200 else 0.0))
    assert steady.variance == pytest.approx(0.75**2, rel=0.25)
    assert shifted.variance == pytest.approx(0.75**2, rel=0.6)


def test_an_interval_holds_at_every_look() -> None:
    missed, call = 0, lognormal(1.0, 1.3)
    for seed in range(60):
        chance, moments = random.Random(seed), Moments()
        for _ in range(200):
            n = chance.randint(1, 10)
            moments = moments.plus(n, sum(call(chance) for _ in range(n)))
            low, high = interval(moments.mean, moments.calls, moments.variance)
            if moments.scrapes >= 10 and not low <= 1.0 <= high:
                missed += 1
                break
    assert missed <= 6
