"""What every kind of check shares: levels, a phase's numbers, steps, the tracker's interface."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from phasegate.engine.eprocess import Tempo
from phasegate.engine.verdict import CheckVerdict

_BLOCK_SECONDS = 300.0
_SEVERE_SECONDS = 30.0
_SEVERE_SHARE = 2 / 3
_FEWEST_BLOCKS = 12.0
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


@dataclass(frozen=True, slots=True)
class Settings:
    """A phase's numbers as the checks need them."""

    start: float
    planned_seconds: float
    alpha: float
    beta: float
    min_samples: int
    stale_seconds: float
    rollback_tests: int
    """Tests among which the false rollback rate is shared."""
    alert_tests: int
    dispersion: tuple[tuple[str, float], ...] = ()
    """Per check: how much more its counts vary than independent calls would."""

    def dispersion_of(self, check: str) -> float:
        """At least one: factors are taken to the power of its inverse."""
        return max(1.0, dict(self.dispersion).get(check, 1.0))

    @property
    def rollback_need(self) -> float:
        """Evidence (nats) at which a rollback is beyond chance: ln(tests / alpha)."""
        return math.log(max(1, self.rollback_tests) / self.alpha)

    @property
    def alert_need(self) -> float:
        """The same for alerts, which share an alpha of their own."""
        return math.log(max(1, self.alert_tests) / self.alpha)

    @property
    def clear_need(self) -> float:
        """Evidence (nats) at which a level is excluded: ln(1 / beta)."""
        return math.log(1 / self.beta)

    def tempo(self, need: float) -> Tempo:
        """For the ordinary tests: restarts every 5 minutes, bursts bounded."""
        blocks = max(_FEWEST_BLOCKS, self.planned_seconds / _BLOCK_SECONDS)
        return Tempo(
            start=self.start,
            block_seconds=self.planned_seconds / blocks,
            blocks=blocks,
            need=need + math.log(2 * blocks),
            share=1 / 4,
            round_seconds=min(_BURST_SECONDS, self.planned_seconds * _BURST_SHARE),
        )

    def severe_tempo(self, need: float) -> Tempo:
        """For total failures: convinced by two rounds of scrapes at the earliest.

        It restarts with every round: against a level of half of the calls, the healthy calls of a
        single scrape would wipe out what an earlier restart has set free.
        """
        restarts = max(_FEWEST_BLOCKS, self.planned_seconds / _SEVERE_SECONDS)
        return Tempo(
            start=self.start,
            block_seconds=1.0,
            blocks=self.planned_seconds,
            need=need + math.log(2 * restarts),
            share=_SEVERE_SHARE,
            round_seconds=0.0,
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
