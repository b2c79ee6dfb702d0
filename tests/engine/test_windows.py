"""Windows and intervals say what brute force says."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.engine.dispersion import dispersion
from phasegate.engine.eprocess import RATE_GRID, log_factors, logsumexp
from phasegate.engine.intervals import rate_interval
from phasegate.engine.windows import Counts, Onset, Trailing

steps = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 20), st.floats(1, 400)), min_size=1, max_size=60
)


@given(steps)
def test_a_trailing_window_is_right_to_one_thirtieth(found: list[tuple[int, int, float]]) -> None:
    window, trailing, at, seen = Trailing(600.0), Trailing(600.0), 0.0, []
    for bad, more, wait in found:
        at += wait
        counts = Counts(float(bad), float(bad + more))
        trailing.add(at, counts)
        seen.append((at, counts.total))
    least = sum(total for when, total in seen if when > at - 600 + 20)
    most = sum(total for when, total in seen if when > at - 600 - 20)
    assert least <= trailing.counts().total <= most
    assert len(trailing.bins) <= 30
    assert window.counts() == Counts()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=40))
def test_the_onset_is_the_start_with_the_most_evidence(found: list[tuple[int, int]]) -> None:
    costs = RATE_GRID.costs(0.1)
    factors = [log_factors(bad, bad + more, costs, RATE_GRID) for bad, more in found]
    # No stretch may be so convincing that what is over is forgotten (MOST_EVIDENCE).
    factors = [[0.1 * factor for factor in row] for row in factors]
    onset = Onset.over(len(RATE_GRID.ratios), 0.0)
    for step, (bad, more) in enumerate(found):
        onset.update(float(step), factors[step], Counts(float(bad), float(bad + more)))
    best = -math.inf
    for k, (since, bad_before, *_) in enumerate(onset.origins):
        sums = [sum(row[k] for row in factors[start:]) for start in range(len(found))]
        assert onset.evidence[k] == pytest.approx(max(sums), abs=1e-9)
        assert sums[int(since)] == pytest.approx(max(sums), abs=1e-9)
        assert bad_before == sum(bad for bad, _ in found[: int(since)])
        best = max(best, *sums)
    worst = onset.worst()
    assert worst.evidence == pytest.approx(best, abs=1e-9)
    assert worst.counts.bad == sum(bad for bad, _ in found[int(worst.since) :])


def test_an_onset_that_is_over_is_forgotten_however_bad_it_was() -> None:
    onset = Onset.over(1, 0.0)
    onset.update(10.0, [1000.0], Counts(500.0, 500.0))
    for step in range(60):
        onset.update(20.0 + step, [-1.0], Counts(0.0, 500.0))
    assert onset.worst().since > 60.0


@given(st.integers(0, 500), st.integers(0, 5000))
def test_an_interval_holds_its_estimate_and_ends_where_the_evidence_reaches_forty(
    bad: int, good: int
) -> None:
    calls = bad + good
    low, high = rate_interval(bad, calls)
    if not calls:
        assert (low, high) == (0.0, 1.0)
        return
    assert 0 <= low <= bad / calls <= high <= 1
    for bound, grid in ((low, RATE_GRID), (high, RATE_GRID.mirrored())):
        if 0 < bound < 1:
            factors = log_factors(bad, calls, grid.costs(bound / (1 - bound)), grid)
            assert logsumexp(factors) - math.log(len(factors)) == pytest.approx(
                math.log(40), abs=0.02
            )


def test_an_interval_covers_the_truth_at_every_look_in_19_of_20_runs() -> None:
    chance, missed, runs = random.Random(1), 0, 100
    for _ in range(runs):
        bad = 0
        for call in range(1, 401):
            bad += chance.random() < 0.1
            low, high = rate_interval(bad, call)
            if not low <= 0.1 <= high:
                missed += 1
                break
    assert missed / runs <= 0.05


def test_a_ratio_needs_calls_of_both_arms() -> None:
    assert Counts(1, 10).ratio is None
    assert Counts(1, 10, 0, 100).ratio == math.inf
    assert Counts(0, 10, 0, 100).ratio == 0
    assert Counts(2, 10, 10, 100).ratio == pytest.approx(2.0)


def test_dispersion_of_clusters_is_found_and_independent_calls_have_none() -> None:
    chance = random.Random(3)
    alone, clustered = [], []
    for _ in range(400):
        bad = sum(chance.random() < 0.02 for _ in range(600))
        alone.append((600.0, float(bad)))
        clustered.append((600.0 + 4 * bad, 5.0 * bad))
    assert dispersion(alone) == 1.0
    assert 4 < dispersion(clustered) < 6
    assert dispersion([]) == dispersion([(10, 0), (10, 0)]) == 1.0
