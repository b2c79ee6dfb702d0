"""What every kind of check shares: levels, a phase's numbers, steps, the tracker's interface."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from phasegate.engine.eprocess import Tempo
from phasegate.engine.verdict import CheckLevel, CheckVerdict

_SPAN_SECONDS = 300.0
"""The mass set free in about this long is what convicts in the end ..."""
_SEVERE_SECONDS = 30.0
"""... and in this long where every call is bad."""
_SEVERE_SHARE = 2 / 3
_FEWEST_SPANS = 12.0
_SHORTEST = 60.0
_OVER_NEED = 5.0
"""Nats that evidence may exceed what a restart needs: then it recovers within so many calls."""
_BURST_SECONDS = 15.0
"""A burst must last four times as long to convince, in a phase of three hours or more."""
_BURST_SHARE = 1 / 720


@dataclass(frozen=True, slots=True)
class Bound:
    """A level of a metric: `above` or below `value` is beyond it."""

    value: float
    above: bool
    window: float | None = None
    """Seconds over which the estimate is taken; None: since the onset."""

    def beyond(self, value: float | None) -> bool:
        """Whether a value is beyond the level; no value is not."""
        if value is None:
            return False
        return value > self.value if self.above else value < self.value


def level_of(limit: Bound | None, gate: Bound | None) -> CheckLevel:
    """The most that an estimate with these levels may do."""
    if limit is not None:
        return "rollback"
    return "gate" if gate is not None else "info"


def reference_of(limit: Bound | None, gate: Bound | None) -> Bound | None:
    """The level that is tested: the rollback level, else where the gate ends."""
    if limit is not None or gate is None:
        return limit
    return Bound(gate.value, above=not gate.above, window=gate.window)


def finite(value: float | None) -> float | None:
    """None where JSON has no number: infinitely many times zero, which the message says in words."""
    return None if value is None or math.isinf(value) else value


@dataclass(frozen=True, slots=True)
class Settings:
    """A phase's numbers as the checks need them."""

    start: float
    planned_seconds: float
    alpha: float
    beta: float
    min_samples: int
    stale_seconds: float
    rollback_tests: float
    """Weight of all tests among which the false rollback rate is shared."""
    alert_tests: float
    dispersion: tuple[tuple[str, float], ...] = ()
    """Per check: how much more its counts vary than independent calls would."""

    def dispersion_of(self, check: str) -> float:
        """At least one: factors are taken to the power of its inverse."""
        return max(1.0, dict(self.dispersion).get(check, 1.0))

    def need(self, weight: float = 1.0) -> float:
        """Evidence (nats) at which a test of that weight convicts: ln(tests / (weight·alpha)).

        By Σ weights = tests, and E ≥ x with a chance of at most 1/x, all tests together convict a
        candidate that is as good as the baseline with a chance of at most alpha.
        """
        return math.log(max(weight, self.rollback_tests) / (weight * self.alpha))

    @property
    def rollback_need(self) -> float:
        """The same for a test of weight one."""
        return self.need()

    @property
    def level_need(self) -> float:
        """Evidence (nats) that a level is breached by what is provably worse than the baseline.

        What is as good as the baseline is protected by the comparison with it, at `need`. A
        candidate that is worse, and yet within the level, is taken back for it with a chance of at
        most alpha, for each level: ln(1 / alpha).
        """
        return math.log(1 / self.alpha)

    @property
    def warn_need(self) -> float:
        """Evidence (nats) at which a trend is worth a warning: ln(tests / beta), of weight one."""
        return math.log(max(1, self.rollback_tests) / self.beta)

    @property
    def alert_need(self) -> float:
        """The same for alerts, which share an alpha of their own."""
        return math.log(max(1, self.alert_tests) / self.alpha)

    @property
    def clear_need(self) -> float:
        """Evidence (nats) at which a level is excluded: ln(1 / beta)."""
        return math.log(1 / self.beta)

    def tempo(self, need: float, gentle: int = 0) -> Tempo:
        """For the ordinary tests: bursts bounded, those of the first `gentle` alternatives more."""
        seconds = max(self.planned_seconds, _SHORTEST)
        return self._tempo(
            need + math.log(2 * max(_FEWEST_SPANS, seconds / _SPAN_SECONDS)),
            share=1 / 4,
            round_seconds=min(_BURST_SECONDS, seconds * _BURST_SHARE),
            gentle=gentle,
        )

    def severe_tempo(self, need: float) -> Tempo:
        """For total failures: convinced by two rounds of scrapes at the earliest."""
        spans = max(_FEWEST_SPANS, self.planned_seconds / _SEVERE_SECONDS)
        need += math.log(2 * spans)
        return self._tempo(need, share=_SEVERE_SHARE, round_seconds=0.0)

    def _tempo(self, need: float, *, share: float, round_seconds: float, gentle: int = 0) -> Tempo:
        return Tempo(
            start=self.start,
            planned_seconds=max(self.planned_seconds, _SHORTEST),
            need=need,
            share=share,
            round_seconds=round_seconds,
            gentle=gentle,
            ceiling=need + _OVER_NEED,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What one scrape of candidate pods added, with the baseline's increments since the last."""

    at: float
    since: float
    """The step before; the phase's start for the first."""
    new_round: bool
    """A pod was scraped that the running round has already seen."""
    baseline_fresh: bool
    covered: bool
    """Every baseline pod was scraped at this moment: both arms cover the same time."""
    candidate: Mapping[str, float]
    """Increments by part (see CheckSpec.parts); absent is zero."""
    baseline: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Moment:
    """When a verdict is asked for."""

    at: float
    """Scrape time of the newest sample."""
    now: float
    candidate_fresh: bool
    candidate_calls: float


class Tracker(Protocol):
    """Follows one check through a phase. Its state is a pure function of the steps it was given."""

    def step(self, step: Step) -> None:
        """Add one step; steps come in the order of time."""

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """Results of queries: by part, then by series."""

    def failures(self) -> tuple[CheckVerdict, ...]:
        """Rollback verdicts reached so far; they stay."""

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now."""

    def copy(self) -> Self:
        """An independent copy."""

    def dump(self) -> Any:
        """JSON-able state."""

    def load(self, state: Any) -> None:
        """Take over dumped state; ValueError if it does not fit."""
