"""Forecasts of means and amounts: what calls add up to.

A scrape's mean is one unit of a mean's tests (see betting.py). What single calls are like is not
known to a counter of sums; they are taken to be log-normal with the given spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from phasegate.engine import messages
from phasegate.engine.betting import ALTERNATIVES, BETTER, LARGEST
from phasegate.engine.forecast import walks
from phasegate.engine.forecast.rates import both, enough, first_of, later, thin
from phasegate.engine.forecast.values import Catch, CheckForecast, Setting, Usual
from phasegate.engine.forecast.walks import Pace, Wait
from phasegate.engine.kinds.amount import AmountCheck
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.mean import MeanCheck

_SPREAD: Final = 1.0
_SCORE_SPREAD: Final = 0.2
_BOLDEST: Final = 0.95
_QUANTILES: Final = tuple((n + 0.5) / 64 for n in range(64))
_MORE: Final = (1.5, 2.0, 4.0)
_LESS: Final = (0.9, 0.8, 0.5)


def foresee_mean(check: MeanCheck, setting: Setting, usual: Usual) -> CheckForecast:
    """A mean against its level and against the baseline."""
    scores = check.worse == "below"
    reference = check.limit or check.gate
    mean, notes = _mean(check, reference, usual)
    spread = usual.spread or (_SCORE_SPREAD if scores else _SPREAD)
    pace = setting.pace(usual)
    gate = check.gate or reference
    never = ""
    if gate is not None and (mean <= gate.value if scores else mean >= gate.value):
        never = (
            f"today it is {mean:.3g}, the gate is {gate.value:g}: no revision like today's can pass"
        )
    if check.relative is not None and thin(pace):
        notes = (*notes, "the baseline answers too few calls to compare with")
    world = _World(check, mean, spread, pace, setting)
    return CheckForecast(
        check=check.name,
        level="rollback" if check.relative is not None else check.level,
        passes=None if never else world.passes(),
        catches=tuple(
            Catch(f"{messages.ratio(times)} of today's", world.caught(times))
            for times in (_LESS if scores else _MORE)
        ),
        never=never,
        notes=notes,
    )


def _mean(check: MeanCheck, level: Bound | None, usual: Usual) -> tuple[float, tuple[str, ...]]:
    if usual.mean is not None:
        return usual.mean, ()
    if check.worse == "below":
        top = check.top or 1.0
        mean = 0.8 * top if level is None else (level.value + top) / 2
    else:
        mean = 1.0 if level is None else level.value / 2
    return mean, (f"assumed: {mean:.3g} today",)


class _World:
    """One mean in its setting: `times` the usual mean is what a regression makes of it."""

    def __init__(
        self, check: MeanCheck, mean: float, spread: float, pace: Pace, setting: Setting
    ) -> None:
        self._check, self._mean, self._spread = check, mean, spread
        self._pace, self._setting = pace, setting
        calls = pace.candidate * pace.scrape_seconds
        self._busy = -math.expm1(-calls)
        """Share of the scrapes that have calls."""
        self._calls = calls / self._busy if self._busy else 1.0

    def caught(self, times: float) -> float | None:
        """Seconds until a Fail, half of the time."""
        check, compared = self._check, list[float | None]()
        if not self._pace.candidate:
            return None
        relative = check.relative
        tolerate = (
            (0.99 if check.worse == "below" else 1.1) if relative is None else relative.tolerate
        )
        if not thin(self._pace):
            compared = [self._convinced(times, tolerate * self._mean)]
        ways: list[list[float | None]] = []
        if check.limit is not None and check.limit.beyond(times * self._mean):
            ways.append([self._convinced(times, check.limit.value), *compared])
        if relative is not None and compared and _beyond(times, relative.limit):
            ways.append(compared)
        return first_of(ways)

    def passes(self) -> Wait | None:
        """Until a Pass while all is as usual."""
        check, pace = self._check, self._pace
        reference, relative = check.limit or check.gate, check.relative
        if reference is None and relative is None:
            return None
        found = enough(check.min_samples, pace, self._setting)
        if reference is not None:
            found = both(found, self._cleared(reference.value))
        if relative is not None and not thin(pace):
            found = both(found, self._cleared(relative.excluded * self._mean))
        return later(found, check.warm_up)

    def _loss(self, value: float) -> float:
        loss = value if self._check.worse == "above" else (self._check.top or 1.0) - value
        return max(loss, 1e-9)  # what is free today, or perfect

    def _units(self, times: float, level: float) -> Iterator[float]:
        """Scrape means as multiples of the level, equally likely."""
        mean = self._loss(times * self._mean) / self._loss(level)
        cv = self._deviation(level) / mean if mean else 0.0
        sigma = math.sqrt(math.log1p(cv * cv))
        for share in _QUANTILES:
            yield mean * math.exp(sigma * walks.NORMAL.inv_cdf(share) - sigma * sigma / 2)

    def _deviation(self, level: float) -> float:
        """Of a scrape's mean, in levels."""
        return self._spread * self._mean / self._loss(level) / math.sqrt(self._calls)

    def _convinced(self, times: float, level: float) -> float | None:
        settings, noise = self._setting.settings, self._deviation(level) ** 2
        tempo = settings.tempo(settings.rollback_need)
        length = walks.round_seconds(tempo, self._pace.scrape_seconds)
        scrapes = self._busy * length / self._pace.scrape_seconds
        after = [min(unit, LARGEST) for unit in self._units(times, level)]
        before = [min(unit, LARGEST) for unit in self._units(1.0, level)]
        found = []
        for ratio in ALTERNATIVES.ratios:
            stake = min(_BOLDEST, (ratio - 1) / ((ratio - 1) ** 2 + noise))
            growth = min(_drift(stake, after) * scrapes, tempo.share * tempo.need)
            if growth > 0:
                decay = -_drift(stake, before) * scrapes
                unknown = walks.restart_cost(tempo, length, growth, decay)
                total = settings.rollback_need + unknown + walks.OVERSHOOT
                found.append(total / growth * length)
        return min(found, default=None)

    def _cleared(self, level: float) -> Wait | None:
        noise = self._deviation(level) ** 2
        top = self._check.top
        largest = LARGEST if top is None else max(top / self._loss(level), 1.0 + 1e-9)
        units = [min(unit, largest) for unit in self._units(1.0, level)]
        found: list[walks.Walk] = []
        for ratio in BETTER.ratios:
            stake = min(_BOLDEST / (largest - 1), (1 - ratio) / ((1 - ratio) ** 2 + noise))
            gains = [math.log1p(stake * (1 - unit)) for unit in units]
            drift = sum(gains) / len(gains)
            spread = sum((gain - drift) ** 2 for gain in gains) / len(gains)
            found.append(walks.Walk(0.0, 0.0, drift, spread))
        scrapes = Pace(self._busy / self._pace.scrape_seconds, 0.0, self._pace.scrape_seconds)
        return walks.wait_to_clear(found, scrapes, self._setting.settings)


def _drift(stake: float, units: Sequence[float]) -> float:
    """What a scrape adds on average, in nats."""
    return sum(math.log1p(stake * (unit - 1)) for unit in units) / len(units)


def _beyond(times: float, limit: float) -> bool:
    return times > limit if limit > 1 else times < limit


def foresee_amount(check: AmountCheck, setting: Setting, usual: Usual) -> CheckForecast:
    """An amount is a fact: breached at the moment at which it has really been added."""
    return CheckForecast(
        check=check.name,
        level=check.level,
        passes=Wait(setting.scrape_seconds, setting.scrape_seconds),
        notes=("a sum that has happened: breached as soon as it has, whatever the traffic",),
    )
