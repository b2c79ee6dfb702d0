"""Follows a mean through a phase: one stream of sums, and every level's evidence on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from phasegate.engine.betting import (
    ALTERNATIVES,
    BETTER,
    Moments,
    Spread,
    against,
    in_favour,
)
from phasegate.engine.eprocess import Clearance, Tempo
from phasegate.engine.kinds.base import Bound, Moment, Settings, Step
from phasegate.engine.kinds.mean import MeanCheck, MeanState
from phasegate.engine.kinds.mean_verdicts import Reading, shared_cause_ratio
from phasegate.engine.kinds.unpriced import unpriced
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckVerdict
from phasegate.engine.windows import Counts

CLEAR_CEILING: Final = 5.0
"""Nats kept above a Pass, as for ratios (ADR 0008)."""
_RECENT_SECONDS: Final = 900.0
"""What is this old weighs 1/e: the mean age is that of a window of half an hour."""
_LONGER_SECONDS: Final = 43200.0
_ENOUGH: Final = 100.0
"""Recent calls of the baseline from which on older ones are not needed."""
_FEWEST: Final = 10.0
"""Calls of the baseline before it is compared with."""
_OWN_SECONDS: Final = 3600.0
_FEW_SCRAPES: Final = 5.0
_DOUBT: Final = 2.0
"""Standard errors that the baseline's mean is taken to be off by, to the candidate's favour in a test
against it; and beyond which the baseline's calls of the same time overrule those before."""


@cache
def _codec() -> TypeAdapter[MeanState]:
    return TypeAdapter(MeanState)


class MeanTracker:
    """See the module."""

    __slots__ = ("_levels", "_settings", "_spec", "_state", "_tempos")

    def __init__(self, spec: MeanCheck, settings: Settings) -> None:
        self._spec = spec
        self._settings = settings
        self._levels = _levels(spec)
        rollback = settings.tempo(settings.rollback_need)
        self._tempos: dict[str, Tempo] = {"ratio": rollback, "level": rollback}
        self._tempos["alert"] = settings.tempo(settings.alert_need)
        windows = {name: bound.window for name, bound in self._levels.items()}
        trials = {
            name: Trial.over(ALTERNATIVES, settings.start, windows.get(name))
            for name in ("ratio", *self._levels)
        }
        names = [name for name in ("level", "ratio") if name in trials]
        self._state = MeanState(trials, {name: Clearance.over(BETTER) for name in names})

    def step(self, step: Step) -> None:
        """Add one step."""
        state = self._state
        state.baseline_fresh = step.baseline_fresh
        state.baseline_seen = state.baseline_seen or step.baseline_fresh
        state.unpriced = unpriced(state.unpriced, self._spec.sum, step)
        if state.unpriced:
            return
        counts = self._counts(step)
        state.phase = state.phase.plus(counts)
        self._remember(step.at, counts)
        self._against_levels(step, counts)
        self._against_baseline(step, counts)
        if counts.total:
            state.own = state.own.plus(counts.total, self._loss(counts.bad, counts.total))
        if not state.failed:
            state.failed = self._reading().convict(step.at)

    def _counts(self, step: Step) -> Counts:
        spec = self._spec
        spent = spec.sum.value(step.candidate, step.at) + self._state.loose
        calls = spec.count.value(step.candidate, step.at)
        # Counters are not read in one instant: an amount may be seen a scrape before its call.
        self._state.loose = 0.0 if calls else spent
        return Counts(
            spent if calls else 0.0,
            calls,
            spec.sum.value(step.baseline, step.at),
            spec.count.value(step.baseline, step.at),
        )

    def _loss(self, amount: float, calls: float) -> float:
        return max(0.0, self._spec.loss(amount, calls))

    def _remember(self, at: float, counts: Counts) -> None:
        state = self._state
        state.own = state.own.after(at, _OWN_SECONDS)
        state.recent = state.recent.after(at, _RECENT_SECONDS)
        state.longer = state.longer.after(at, _LONGER_SECONDS)
        if counts.baseline_total:
            loss = self._loss(counts.baseline_bad, counts.baseline_total)
            state.recent = state.recent.plus(counts.baseline_total, loss)
            state.longer = state.longer.plus(counts.baseline_total, loss)

    # --- against a level ------------------------------------------------------------------------

    def _against_levels(self, step: Step, counts: Counts) -> None:
        top = self._spec.top
        loss = self._loss(counts.bad, counts.total)
        for name, bound in self._levels.items():
            level = self._spec.loss(bound.value)
            spread = self._own_spread(level)
            factors = against(counts.total, loss, level, spread, top) if counts.total else None
            self._state.trials[name].step(self._tempos[name], step, counts, factors)
            if name in self._state.clear and counts.total:
                pro = in_favour(counts.total, loss, level, spread, top)
                self._state.clear[name].update(pro, self._ceiling)

    def _own_spread(self, level: float) -> Spread:
        own = self._state.own
        return own.spread if own.scrapes >= _FEW_SCRAPES else Spread(level * level, measured=False)

    @property
    def _ceiling(self) -> float:
        return self._settings.clear_need + CLEAR_CEILING

    # --- against the baseline -------------------------------------------------------------------

    def _against_baseline(self, step: Step, counts: Counts) -> None:
        state, spec = self._state, self._spec
        waiting = state.unpaired.plus(counts)
        known = state.recent if state.recent.calls >= _ENOUGH else state.longer
        ready = waiting.total and step.baseline_fresh and known.calls >= _FEWEST
        state.unpaired = Counts() if ready else waiting
        trial = state.trials["ratio"]
        if not ready:
            trial.step(self._tempos["ratio"], step, counts, None)
            return
        low, high = self._baseline_losses(known, waiting)
        loss = self._loss(waiting.bad, waiting.total)
        spread = self._spread(known)
        tolerate = shared_cause_ratio(spec) if spec.relative is None else spec.relative.tolerate
        factors = against(waiting.total, loss, self._times(tolerate, high), spread, spec.top)
        trial.step(self._tempos["ratio"], step, waiting, factors)
        if spec.relative is not None:
            level = self._times(spec.relative.excluded, low)
            pro = in_favour(waiting.total, loss, level, spread, spec.top)
            state.clear["ratio"].update(pro, self._ceiling)

    def _baseline_losses(self, known: Moments, counts: Counts) -> tuple[float, float]:
        """The least and the most that the baseline's mean loss may well be.

        Where its calls of the same time differ beyond chance from those before, something has
        changed for both arms: they count.
        """
        error = _DOUBT * known.error
        low, high = max(0.0, known.mean - error), self._at_most(known)
        if counts.baseline_total:
            mean = self._loss(counts.baseline_bad, counts.baseline_total) / counts.baseline_total
            doubt = _DOUBT * math.sqrt(known.variance / counts.baseline_total)
            low, high = min(low, mean + doubt), max(high, mean - doubt)
        return low, high

    def _at_most(self, known: Moments) -> float:
        """The most that the baseline's mean loss may well be.

        Where few calls lose anything, the candidate's tell how much one of them may; but if every
        loss of its is twice the baseline's, so are its clumps, and that is what the test is to find.
        """
        own = self._state.own
        found = known.at_most(max(known.clump, own.clump), _DOUBT)
        if own.mean > found:
            clump = own.clump * found / own.mean
            found = known.at_most(max(known.clump, clump), _DOUBT)
        return found

    def _spread(self, known: Moments) -> Spread:
        """The larger of both arms' variances."""
        own = self._state.own
        if own.scrapes < _FEW_SCRAPES:
            return Spread(known.variance, measured=False)
        both = known.spread.measured and own.spread.measured
        return Spread(max(known.variance, own.variance), measured=both)

    def _times(self, ratio: float, loss: float) -> float:
        """The loss at so many times the baseline's mean."""
        return self._spec.loss(ratio * self._spec.loss(loss))

    # --- what comes of it -----------------------------------------------------------------------

    def _reading(self) -> Reading:
        return Reading(self._spec, self._settings, self._state)

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """A mean has no query."""

    def failures(self) -> tuple[CheckVerdict, ...]:
        """Rollback verdicts reached so far; they stay."""
        return self._state.failed

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now."""
        return self._reading().judge(moment)

    def copy(self) -> MeanTracker:
        """An independent copy."""
        other = MeanTracker.__new__(MeanTracker)
        other._spec, other._settings = self._spec, self._settings
        other._levels, other._tempos = self._levels, self._tempos
        other._state = self._state.copy()
        return other

    def dump(self) -> Any:
        """JSON-able state."""
        return _codec().dump_python(self._state, mode="json")

    def load(self, state: Any) -> None:
        """Take over dumped state; ValueError if it does not fit."""
        self._state = _codec().validate_python(state)


def _levels(spec: MeanCheck) -> dict[str, Bound]:
    levels = {} if spec.reference is None else {"level": spec.reference}
    return levels if spec.alert is None else {**levels, "alert": spec.alert}
