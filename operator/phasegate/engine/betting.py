"""Tests of a mean by betting: how much a scrape's sum speaks for or against it.

Everything is in *losses* per call, 0 and more, larger is worse: a cost itself, or what a score lacks
of its top. One scrape's mean is one unit: nothing is assumed about how its calls depend on each
other (Waudby-Smith and Ramdas, arXiv 2010.09686).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from phasegate.engine.eprocess import Grid

ALTERNATIVES: Final = Grid(1.1, 1.25, 1.6, 2.2, 3.5, 8.0)
"""Mean losses that are tested for, as multiples of the level."""
BETTER: Final = Grid(0.9, 0.75, 0.5, 0.2)
"""The same on the other side, for a Pass."""
LARGEST: Final = 10.0
"""Against the candidate a scrape's mean beyond this many times the level counts as that, where
losses have no upper end: one runaway call says little, and clipping only weakens evidence."""
RUNAWAY: Final = 25.0
"""For the candidate a scrape's mean beyond this many times the level counts as that.

This is what a Pass does not see. With a level of 4x the baseline a call of 100x counts in full, and
a Pass takes about 100 scrapes; each doubling would take twice as many.
"""
_BOLDEST: Final = 0.95
"""The largest share of the wealth at stake in a scrape: a single one never ruins a test."""
_PRIOR_SCRAPES: Final = 3.0
"""Scrapes that a spread of once the mean is worth, until it is measured."""
_SUMMED_CALLS: Final = 8.0
"""Calls in a scrape from which on their sum is tested rather than their mean."""
_SUMMED_SCRAPES: Final = 10.0
"""Scrapes that must have shown how much sums vary before sums are tested."""
_CAUTION: Final = 1.25
"""The measured variance is taken to be this many times larger."""
_STEEPEST: Final = 1.5
_TWO_SIDED: Final = 2 * math.log(1 / 0.05)


class Spread(NamedTuple):
    """Variance of one call's loss, and whether enough was seen to rely on it."""

    variance: float
    measured: bool


class Moments(NamedTuple):
    """How losses vary from scrape to scrape."""

    calls: float = 0.0
    total: float = 0.0
    differences: float = 0.0
    """Σ of what two neighbouring scrapes say about the variance of a call."""
    scrapes: float = 0.0
    at: float = 0.0
    last_mean: float = 0.0
    last_calls: float = 0.0

    def after(self, at: float, seconds: float) -> Moments:
        """The same at a later time, what is old weighing less: 1/e for every `seconds`."""
        kept = math.exp(min(0.0, self.at - at) / seconds) if self.calls else 1.0
        return Moments(
            self.calls * kept,
            self.total * kept,
            self.differences * kept,
            self.scrapes * kept,
            at,
            self.last_mean,
            self.last_calls,
        )

    def plus(self, calls: float, total: float) -> Moments:
        """With one more scrape that had calls.

        The means of neighbouring scrapes differ by σ²·(1/n + 1/m) in the mean square (von Neumann,
        1941): unlike the scatter around the mean that says nothing of levels that have shifted.
        """
        mean = total / calls
        found = 0.0
        if self.last_calls:
            found = (mean - self.last_mean) ** 2 / (1 / calls + 1 / self.last_calls)
        return Moments(
            self.calls + calls,
            self.total + total,
            self.differences + found,
            self.scrapes + 1.0,
            self.at,
            mean,
            calls,
        )

    @property
    def mean(self) -> float:
        """Loss per call; zero without calls."""
        return self.total / self.calls if self.calls else 0.0

    @property
    def variance(self) -> float:
        """Variance of a single call's loss, as scrapes show it: correlated calls count in.

        Until it is measured, the mean squared.
        """
        found = self.differences + _PRIOR_SCRAPES * self.mean**2
        return found / (max(0.0, self.scrapes - 1.0) + _PRIOR_SCRAPES)

    @property
    def spread(self) -> Spread:
        """What a test may take for granted about how losses vary."""
        return Spread(self.variance, self.scrapes >= _SUMMED_SCRAPES)

    @property
    def error(self) -> float:
        """Standard error of the mean; infinite without calls."""
        return math.sqrt(self.variance / self.calls) if self.calls else math.inf

    @property
    def clump(self) -> float:
        """What losses come in: a Poisson number of clumps of this size varies as they do.

        The loss of one bad call if few calls lose; nothing if all lose the same.
        """
        return self.variance / self.mean if self.mean else 0.0

    def at_most(self, clump: float, doubt: float) -> float:
        """What the mean may be at most, given the size of a clump, by `doubt` standard errors.

        With k clumps seen, a Poisson mean is beyond k + t + sqrt(t² + 2tk) with a chance of at most
        e^-t (Chernoff), t = doubt²/2: more than k + doubt·sqrt(k) where few or none were seen.
        """
        if not self.calls or not clump:
            return self.mean
        seen, t = self.total / clump, doubt * doubt / 2
        return clump / self.calls * (seen + t + math.sqrt(t * t + 2 * t * seen))


def against(
    calls: float, total: float, level: float, spread: Spread, top: float | None
) -> list[float]:
    """Factors (nats) of one scrape whose null is: the mean loss is at most `level`.

    For each alternative the bet 1 + f·(x - 1) on x = mean / level, whose mean is at most one for
    every f in [0, 1] that was chosen before; f is near Kelly's for the alternative, with the
    variance seen so far in `spread`, which only decides how bold the bet is.

    With a `top` and many calls in a scrape that wastes what their number tells. Then, where more
    is expected of it, Bennett's factor e^{λ(total - n·level) - n·v·g(λ)} with
    g(λ) = (e^{λb} - 1 - λb)/b², b = top - level: valid if a call's variance is at most v.
    """
    if level <= 0:
        return [0.0 if total <= 0 else _BOLDEST] * len(ALTERNATIVES.ratios)
    unit = total / calls / level
    if top is None:
        unit = min(unit, LARGEST)
    variance = max(spread.variance, 1e-12 * level * level)
    noise = variance / (calls * level * level)
    summed = top is not None and calls >= _SUMMED_CALLS and spread.measured
    factors = []
    for ratio in ALTERNATIVES.ratios:
        gain = ratio - 1
        stake = min(_BOLDEST, gain / noise)
        if summed and top is not None and top > level:
            promised = math.log1p(stake * gain)
            steep, expected = _bennett(calls, level, top, gain, _CAUTION * variance)
            if expected > promised:
                b = top - level
                cost = calls * _CAUTION * variance * (math.expm1(steep) - steep) / (b * b)
                factors.append(steep / b * (total - calls * level) - cost)
                continue
        factors.append(math.log1p(stake * (unit - 1)))
    return factors


def _bennett(
    calls: float, level: float, top: float, gain: float, variance: float
) -> tuple[float, float]:
    """The slope λ·b for an alternative `gain` levels above the level, and what it should bring.

    λ·b ≤ b/level and ≤ 1.5 keep g(λ)·level ≤ λ, so that means far below the level are covered too.
    """
    b = top - level
    steep = min(math.log1p(gain * level * b / variance), _STEEPEST, b / level)
    expected = calls * (steep / b * gain * level - variance * (math.expm1(steep) - steep) / (b * b))
    return steep, expected


def in_favour(
    calls: float, total: float, level: float, spread: Spread, top: float | None
) -> list[float]:
    """Factors (nats) of one scrape whose null is: the mean loss is at least `level`.

    Bets 1 + f·(1 - x)/(c - 1) on x = mean / level in [0, c]: c is top / level, or RUNAWAY where
    there is no top. Then the null is about means so clipped, and a Pass excludes that the mean *of
    what is below RUNAWAY levels in each scrape* reaches the level: no finite number of calls can
    exclude that one in a million costs a million.
    """
    if level <= 0:
        return [0.0] * len(BETTER.ratios)
    largest = RUNAWAY if top is None else max(top / level, 1.0 + 1e-9)
    unit = min(total / calls / level, largest)
    noise = spread.variance / (calls * level * level)
    factors = []
    for ratio in BETTER.ratios:
        gain = 1 - ratio
        most = _BOLDEST / (largest - 1)
        stake = min(most, gain / (gain * gain + noise))
        factors.append(math.log1p(stake * (1 - unit)))
    return factors


def interval(mean: float, calls: float, variance: float) -> tuple[float, float]:
    """An asymptotic 95 % anytime interval of a mean.

    It holds at every look, as far as sums of so many calls are normal (arXiv 2103.06476, section 2;
    tightest at about 100 calls).
    """
    if calls <= 0:
        return -math.inf, math.inf
    tuned = calls / 100 + 1
    half = math.sqrt(variance / calls * (tuned / (calls / 100)) * (math.log(tuned) + _TWO_SIDED))
    return mean - half, mean + half
