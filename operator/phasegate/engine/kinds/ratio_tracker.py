"""Follows a ratio through a phase: one stream of counts, and every level's evidence on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from phasegate.engine.deadlines import Pending
from phasegate.engine.eprocess import (
    GENTLE,
    RATE_GRID,
    RATIO_GRID,
    Clearance,
    Grid,
    Tempo,
    log_factors,
)
from phasegate.engine.kinds.base import Moment, Settings, Step
from phasegate.engine.kinds.ratio import SEVERE_WEIGHT, RatioCheck, RatioState, Relative
from phasegate.engine.kinds.ratio_verdicts import SHARED_CAUSE_RATIO, Reading
from phasegate.engine.samples import Arm
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckVerdict
from phasegate.engine.windows import Counts

CLEAR_CEILING: Final = 5.0
"""Nats kept above a Pass: a healthy candidate dips below it with a chance of about e^-5."""
_CLEAR_RATES: Final = RATE_GRID.mirrored()
_CLEAR_RATIOS: Final = RATIO_GRID.mirrored()


@dataclass(frozen=True, slots=True)
class _Rule:
    """One trial's fixed side."""

    tempo: Tempo
    costs: Sequence[float] | None = None
    """RATE_GRID's costs of the rate that is tested; None: the test against the baseline."""
    window: float | None = None
    severe: bool = False


def _costs(rate: float, grid: Grid = RATE_GRID) -> Sequence[float]:
    return grid.costs(rate / (1 - rate))


def _rules(spec: RatioCheck, settings: Settings) -> dict[str, _Rule]:
    rules = {"ratio": _Rule(settings.tempo(settings.need(spec.ratio_weight), GENTLE))}
    if (level := spec.reference) is not None:
        tempo = settings.tempo(settings.rollback_need, GENTLE)
        rules["rate"] = _Rule(tempo, _costs(level.value), level.window)
    if (alert := spec.alert) is not None:
        alert_tempo = settings.tempo(settings.alert_need, GENTLE)
        rules["alert"] = _Rule(alert_tempo, _costs(alert.value), alert.window)
    if spec.severe is not None:
        severe = settings.severe_tempo(settings.need(SEVERE_WEIGHT))
        rules["severe"] = _Rule(severe, _costs(spec.severe), severe=True)
        rules["severe-ratio"] = _Rule(severe, severe=True)
    return rules


@cache
def _codec() -> TypeAdapter[RatioState]:
    return TypeAdapter(RatioState)


class RatioTracker:
    """See the module."""

    __slots__ = ("_clear_costs", "_parts", "_phi", "_rules", "_settings", "_spec", "_state")

    def __init__(self, spec: RatioCheck, settings: Settings) -> None:
        self._spec = spec
        self._settings = settings
        self._phi = settings.dispersion_of(spec.name)
        self._parts = (str(spec.total), str(spec.bad or ""), str(spec.good or ""))
        self._rules = _rules(spec, settings)
        level = spec.reference
        self._clear_costs = _costs(level.value, _CLEAR_RATES) if level is not None else ()
        trials = {
            name: Trial.over(_grid(rule), settings.start, rule.window)
            for name, rule in self._rules.items()
        }
        clear = {"rate": Clearance.over(_CLEAR_RATES), "ratio": Clearance.over(_CLEAR_RATIOS)}
        self._state = RatioState(trials, clear)

    def step(self, step: Step) -> None:
        """Add one step."""
        state = self._state
        counts = self._counts(step)
        state.phase = state.phase.plus(counts)
        state.baseline_fresh = step.baseline_fresh
        state.baseline_seen = state.baseline_seen or step.baseline_fresh
        paired = self._pair(counts)
        self._suspect(step, counts, paired)
        self._clear(counts, paired)
        if not state.failed:
            state.failed = self._reading().convict(step.at)

    def _suspect(self, step: Step, counts: Counts, paired: Counts | None) -> None:
        against_baseline = self._against_baseline(paired)
        covered = step.covered and counts.baseline_total > 0
        for name, rule in self._rules.items():
            trial = self._state.trials[name]
            bounded = not (rule.severe and covered)
            if rule.costs is None:
                trial.step(rule.tempo, step, paired or counts, against_baseline, bounded=bounded)
            else:
                factors = self._against_rate(rule.costs, counts)
                trial.step(rule.tempo, step, counts, factors, bounded=bounded)

    def _counts(self, step: Step) -> Counts:
        if self._spec.deadline is None:
            return Counts(*self._arm(step.candidate), *self._arm(step.baseline))
        candidate = self._overdue("candidate", step, self._spec.deadline)
        return Counts(*candidate, *self._overdue("baseline", step, self._spec.deadline))

    def _arm(self, increments: Mapping[str, float]) -> tuple[float, float]:
        whole, faulty, fine = self._parts
        total = increments.get(whole, 0.0)
        bad = total - increments.get(fine, 0.0) if fine else increments.get(faulty, 0.0)
        # Counters are not read in one instant: a scrape may hold more bad calls than calls.
        return min(max(bad, 0.0), total), total

    def _overdue(self, arm: Arm, step: Step, deadline: float) -> tuple[float, float]:
        """Calls of an arm that are due, and those of them without an answer."""
        whole, _, fine = self._parts
        scraped: dict[str, tuple[float, float]] = {}
        for part, amount in (step.candidate if arm == "candidate" else step.baseline).items():
            selector, _, pod = part.rpartition("|")
            begun, answered = scraped.get(pod, (0.0, 0.0))
            if selector == whole:
                scraped[pod] = (begun + amount, answered)
            elif selector == fine:
                scraped[pod] = (begun, answered + amount)
        pending = self._state.pending.setdefault(arm, Pending())
        return pending.add(step.since, step.at, deadline, scraped)

    def _pair(self, counts: Counts) -> Counts | None:
        """Both arms' calls of about the same time, as soon as both have some."""
        waiting = self._state.unpaired.plus(counts)
        paired = waiting.total > 0 and waiting.baseline_total > 0
        self._state.unpaired = Counts() if paired else waiting
        return waiting if paired else None

    def _against_rate(self, costs: Sequence[float], counts: Counts) -> list[float] | None:
        if not counts.total:
            return None
        return log_factors(counts.bad / self._phi, counts.total / self._phi, costs, RATE_GRID)

    def _against_baseline(self, paired: Counts | None) -> list[float] | None:
        if paired is None:
            return None
        relative = self._spec.relative
        tolerate = SHARED_CAUSE_RATIO if relative is None else relative.tolerate
        odds = tolerate * paired.total / paired.baseline_total
        bad = paired.bad + paired.baseline_bad
        return log_factors(
            paired.bad / self._phi, bad / self._phi, RATIO_GRID.costs(odds), RATIO_GRID
        )

    def _clear(self, counts: Counts, paired: Counts | None) -> None:
        ceiling = self._settings.clear_need + CLEAR_CEILING
        level, relative = self._spec.reference, self._spec.relative
        if level is not None and counts.total:
            bad, calls = counts.bad / self._phi, counts.total / self._phi
            factors = log_factors(bad, calls, self._clear_costs, _CLEAR_RATES)
            self._state.clear["rate"].update(factors, ceiling)
        if relative is not None and paired is not None:
            self._state.clear["ratio"].update(self._not_worse(relative, paired), ceiling)

    def _not_worse(self, relative: Relative, paired: Counts) -> list[float]:
        """Factors whose null is p_c >= excluded·p_b + slack.

        Their mean under it is at most exp(n_c·slack·(A-1)) with A < 1, so that much may be added.
        """
        odds = relative.excluded * paired.total / paired.baseline_total
        bad = paired.bad + paired.baseline_bad
        costs = _CLEAR_RATIOS.costs(odds)
        factors = log_factors(paired.bad / self._phi, bad / self._phi, costs, _CLEAR_RATIOS)
        worth = paired.total * relative.slack / self._phi
        if not worth:
            return factors
        return [
            factor + worth * (1 - math.exp(log + cost))
            for factor, log, cost in zip(factors, _CLEAR_RATIOS.logs, costs, strict=True)
        ]

    def _reading(self) -> Reading:
        return Reading(self._spec, self._settings, self._state, self._phi)

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """A ratio has no query."""

    def failures(self) -> tuple[CheckVerdict, ...]:
        """Rollback verdicts reached so far; they stay."""
        return self._state.failed

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now."""
        return self._reading().judge(moment)

    def copy(self) -> RatioTracker:
        """An independent copy."""
        other = RatioTracker.__new__(RatioTracker)
        other._spec, other._settings, other._phi = self._spec, self._settings, self._phi
        other._rules, other._clear_costs = self._rules, self._clear_costs
        other._parts = self._parts
        other._state = self._state.copy()
        return other

    def dump(self) -> Any:
        """JSON-able state."""
        return _codec().dump_python(self._state, mode="json")

    def load(self, state: Any) -> None:
        """Take over dumped state; ValueError if it does not fit."""
        self._state = _codec().validate_python(state)


def _grid(rule: _Rule) -> Grid:
    return RATIO_GRID if rule.costs is None else RATE_GRID
