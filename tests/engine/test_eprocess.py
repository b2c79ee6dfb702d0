"""The kernel keeps its promise exactly: no factor, and no process, has a mean above one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import pytest
from phasegate.engine.eprocess import (
    AT_START,
    RATE_GRID,
    RATIO_GRID,
    Clearance,
    Grid,
    Suspicion,
    Tempo,
    log_factors,
    logsumexp,
)

K = len(RATE_GRID.ratios)
TEMPO = Tempo(start=0.0, planned_seconds=80.0, need=6.0, share=1 / 4, round_seconds=15.0)


def binomial(n: int, p: float) -> Iterator[tuple[int, float]]:
    for k in range(n + 1):
        yield k, math.comb(n, k) * p**k * (1 - p) ** (n - k)


def absolute(bad: float, calls: float, rate: float, grid: Grid) -> list[float]:
    return log_factors(bad, calls, grid.costs(rate / (1 - rate)), grid)


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("calls", [1, 3, 8])
def test_absolute_factors_have_a_mean_of_one_at_the_level(rate: float, calls: int) -> None:
    for grid in (RATE_GRID, RATE_GRID.mirrored()):
        for k in range(len(grid.ratios)):
            mean = sum(
                chance * math.exp(absolute(bad, calls, rate, grid)[k])
                for bad, chance in binomial(calls, rate)
            )
            assert mean == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("true", [0.0, 0.01, 0.049])
def test_absolute_factors_have_a_mean_below_one_while_the_rate_is_below_the_level(
    true: float,
) -> None:
    for k in range(len(RATE_GRID.ratios)):
        mean = sum(
            chance * math.exp(absolute(bad, 6, 0.05, RATE_GRID)[k])
            for bad, chance in binomial(6, true)
        )
        assert mean < 1.0


def relative_mean(n: tuple[int, int], p: tuple[float, float], r: float, grid: Grid) -> list[float]:
    costs = grid.costs(r * n[0] / n[1])
    means = [0.0] * len(grid.ratios)
    for (x, chance_x), (y, chance_y) in product(binomial(n[0], p[0]), binomial(n[1], p[1])):
        for k, factor in enumerate(log_factors(x, x + y, costs, grid)):
            means[k] += chance_x * chance_y * math.exp(factor)
    return means


@pytest.mark.parametrize("n", [(1, 1), (1, 7), (6, 2)])
@pytest.mark.parametrize("baseline", [0.0, 0.01, 0.3, 0.8])
def test_relative_factors_have_a_mean_of_at_most_one_whatever_the_common_rate(
    n: tuple[int, int], baseline: float
) -> None:
    for mean in relative_mean(n, (1.1 * baseline, baseline), 1.1, RATIO_GRID):
        assert mean <= 1 + 1e-12


@pytest.mark.parametrize("baseline", [0.0, 0.01, 0.3, 0.45])
def test_mirrored_relative_factors_have_a_mean_of_at_most_one_at_twice_the_rate(
    baseline: float,
) -> None:
    for mean in relative_mean((4, 5), (2 * baseline, baseline), 2.0, RATIO_GRID.mirrored()):
        assert mean <= 1 + 1e-12


def paths(steps: int, calls: int, p: float) -> Iterator[tuple[tuple[int, ...], float]]:
    for path in product(list(binomial(calls, p)), repeat=steps):
        yield tuple(bad for bad, _ in path), math.prod(chance for _, chance in path)


@pytest.mark.parametrize("steps_per_round", [1, 2])
def test_suspicion_never_has_a_mean_above_the_mass_set_free(steps_per_round: int) -> None:
    """All paths of six scrapes, with restarts and the bound on bursts: exact, not simulated."""
    rate, means = 0.3, [0.0] * 6
    for path, chance in paths(6, 1, rate):
        suspicion = Suspicion.over(RATE_GRID)
        for step, bad in enumerate(path):
            at = 15.0 * (step // steps_per_round) + 1
            if step % steps_per_round == 0:
                suspicion.begin_round(TEMPO, at)
            suspicion.update(at, absolute(bad, 1, rate, RATE_GRID))
            means[step] += chance * math.exp(suspicion.log_e())
    for step, mean in enumerate(means):
        at = 15.0 * (step // steps_per_round) + 1
        assert mean <= TEMPO.released(at) + 1e-9
    assert TEMPO.released(TEMPO.planned_seconds) == pytest.approx(1.0)


def test_without_bounds_and_restarts_suspicion_is_the_mixture_of_likelihood_ratios() -> None:
    free = Tempo(start=0.0, planned_seconds=1e12, need=1e9, share=1.0, round_seconds=0.0)
    suspicion, bad, calls = Suspicion.over(RATE_GRID), 0, 0
    for step, (x, n) in enumerate([(1, 4), (0, 0), (5, 5), (2, 9)]):
        suspicion.begin_round(free, float(step))
        suspicion.update(float(step), absolute(x, n, 0.05, RATE_GRID))
        bad, calls = bad + x, calls + n
    p = 0.05
    ratios = []
    for g in RATE_GRID.ratios:
        q = g * p / (1 - p + g * p)
        ratios.append((q / p) ** bad * ((1 - q) / (1 - p)) ** (calls - bad))
    assert math.exp(suspicion.log_e()) == pytest.approx(AT_START * sum(ratios) / len(ratios))


def test_one_round_adds_at_most_a_quarter_of_what_is_needed_and_half_after_an_idle_one() -> None:
    suspicion = Suspicion.over(RATE_GRID)
    suspicion.begin_round(TEMPO, 0.0)
    suspicion.update(0.0, absolute(0, 1, 0.01, RATE_GRID))
    suspicion.begin_round(TEMPO, 15.0)
    before = max(suspicion.base)
    suspicion.update(15.0, [100.0] * K)
    suspicion.begin_round(TEMPO, 30.0)
    assert max(suspicion.base) - before == pytest.approx(TEMPO.need / 4, abs=0.3)
    suspicion.begin_round(TEMPO, 45.0)
    before = max(suspicion.base)
    suspicion.update(45.0, [100.0] * K)
    suspicion.begin_round(TEMPO, 60.0)
    assert max(suspicion.base) - before == pytest.approx(TEMPO.need / 2, abs=0.3)


def test_fast_scrapes_share_one_allowance_and_their_gains_and_losses_even_out() -> None:
    suspicion = Suspicion.over(RATE_GRID)
    suspicion.begin_round(TEMPO, 0.0)
    suspicion.update(0.0, [0.0] * K)
    suspicion.begin_round(TEMPO, 15.0)
    before = suspicion.log_e()
    for second in range(15, 27):
        suspicion.begin_round(TEMPO, float(second))
        suspicion.update(float(second), [5.0 if second % 2 else -4.9] * K)
    assert suspicion.log_e() - before == pytest.approx(0.6)
    suspicion.update(26.5, [100.0] * K)
    assert suspicion.log_e() - before == pytest.approx(TEMPO.need / 4)


def test_clearance_with_its_ceiling_never_has_a_mean_above_one() -> None:
    rate, grid = 0.3, RATE_GRID.mirrored()
    means = [0.0] * 6
    for path, chance in paths(6, 1, rate):
        clearance = Clearance.over(grid)
        for step, bad in enumerate(path):
            clearance.update(absolute(bad, 1, rate, grid), ceiling=0.4)
            means[step] += chance * math.exp(clearance.log_e())
    assert max(means) <= 1 + 1e-12


def test_clearance_is_not_saved_up() -> None:
    grid = RATE_GRID.mirrored()
    short, long = Clearance.over(grid), Clearance.over(grid)
    short.update(absolute(0, 2_000, 0.05, grid), ceiling=8.0)
    long.update(absolute(0, 2_000_000, 0.05, grid), ceiling=8.0)
    assert short.log_e() == long.log_e() == pytest.approx(8.0)


def test_logsumexp_is_exact_and_does_not_overflow() -> None:
    assert logsumexp([0.0, math.log(3)]) == pytest.approx(math.log(4))
    assert logsumexp([5000.0, 5000.0]) == pytest.approx(5000 + math.log(2))
    assert logsumexp([-1e9, -1e9]) <= -1e9 + 1
