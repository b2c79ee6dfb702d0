"""The test of the tail: its mean is at most one while the candidate is no slower, exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.engine.ordering import Ordering, compare

EDGES = [1.0, 1.3, 1.7, 2.2, 2.8, 3.6, 4.7, 6.0]
PLACES = list(range(len(EDGES)))
weights = st.lists(st.floats(0.01, 1), min_size=len(EDGES) + 1, max_size=len(EDGES) + 1)


def calls(buckets: Sequence[int]) -> list[float]:
    """The vector of calls that fell into these buckets."""
    return [float(sum(b <= place for b in buckets)) for place in range(len(EDGES) + 1)]


def shares(masses: Sequence[float]) -> list[float]:
    return [mass / sum(masses) for mass in masses]


def slower(fast: Sequence[float], moved: Sequence[float]) -> list[float]:
    """A distribution that is stochastically larger: a share of each bucket moves up by one."""
    found = list(fast)
    for place, share in enumerate(moved[:-1]):
        found[place + 1] += share * found[place]
        found[place] *= 1 - share
    return found


def means(test: Ordering, own: Sequence[float], theirs: Sequence[float], n_b: int) -> list[float]:
    """The exact means of the factors for one call of the candidate and n_b of the baseline."""
    totals = [0.0] * len(test.slopes)
    buckets = range(len(EDGES) + 1)
    for first, *others in itertools.product(buckets, repeat=1 + n_b):
        chance = own[first] * math.prod(theirs[bucket] for bucket in others)
        factors = test.log_factors(calls([first]), calls(others))
        totals = [t + chance * math.exp(f) for t, f in zip(totals, factors, strict=True)]
    return totals


@given(weights, weights, weights, st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.integers(1, 2))
def test_the_mean_is_at_most_one_whatever_the_past_and_however_much_faster(
    fast: list[float], moved: list[float], past: list[float], q: float, n_b: int
) -> None:
    own = shares(fast)
    theirs = slower(own, moved)
    seen = [0.0, *itertools.accumulate(300 * share for share in shares(past))][1:]
    for tolerate in (1.0, 1.15, 2.0):
        test = compare(q, tolerate, EDGES, PLACES, seen)
        assert max(means(test, own, theirs, n_b)) <= 1 + 1e-9


def normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def lognormal(calls: float, median: float, sigma: float = 0.5) -> list[float]:
    """Expected vector."""
    return [*(calls * normal(math.log(edge / median) / sigma) for edge in EDGES), calls]


def growth(q: float, candidate: Sequence[float], baseline: Sequence[float]) -> float:
    """Nats per call of the candidate of the best alternative, in the mean."""
    test = compare(q, 1.15, EDGES, PLACES, [value * 400 / baseline[-1] for value in baseline])
    return max(test.log_factors(candidate, baseline)) / candidate[-1]


def test_a_tolerated_factor_gains_nothing() -> None:
    for q in (0.5, 0.9, 0.95, 0.99):
        assert growth(q, lognormal(1, 1.5 * 1.14), lognormal(19, 1.5)) < 0


@pytest.mark.parametrize(("factor", "least"), [(1.5, 0.08), (2.0, 0.35), (3.0, 0.9)])
def test_a_regression_gains_about_as_much_as_knowing_it_would(factor: float, least: float) -> None:
    assert growth(0.95, lognormal(1, 1.5 * factor), lognormal(19, 1.5)) > least


def test_a_tail_that_grows_alone_gains() -> None:
    usual, slow = lognormal(1, 1.5), lognormal(1, 6.0)
    mixed = [0.92 * a + 0.08 * b for a, b in zip(usual, slow, strict=True)]
    for q in (0.95, 0.99):
        assert growth(q, mixed, lognormal(19, 1.5)) > 0.01


def test_without_edges_in_the_tail_there_is_nothing_to_say() -> None:
    test = compare(0.95, 1.15, [0.1, 0.2], [0, 1], [0.0, 0.0, 300.0])
    assert test.active == ()
    assert set(test.log_factors([0.0, 5.0, 9.0], [9.0, 9.0, 9.0])) == {0.0}
