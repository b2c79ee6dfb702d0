"""Follows a quantile through a phase: one stream of histograms, and every level's evidence on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from operator import add
from typing import Any, Final

from pydantic import TypeAdapter

from phasegate.engine.eprocess import RATE_GRID, RATIO_GRID, Clearance, Tempo, log_factors
from phasegate.engine.histograms import counts_at, widened
from phasegate.engine.kinds.base import Moment, Settings, Step
from phasegate.engine.kinds.quantile import QuantileCheck, QuantileState
from phasegate.engine.kinds.quantile_verdicts import Reading
from phasegate.engine.kinds.quantile_view import Line, look
from phasegate.engine.kinds.ratio_tracker import CLEAR_CEILING
from phasegate.engine.ordering import FEWEST, TAIL_GRID
from phasegate.engine.samples import Arm
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckVerdict
from phasegate.engine.windows import Counts

_CLEAR_RATES: Final = RATE_GRID.mirrored()
_CLEAR_RATIOS: Final = RATIO_GRID.mirrored()
_LOOK_SECONDS: Final = 180.0
_HALF_LIFE_SECONDS: Final = 1800.0
_ENOUGH: Final = 400.0
"""Calls of the baseline that are remembered however long ago they were."""


@cache
def _codec() -> TypeAdapter[QuantileState]:
    return TypeAdapter(QuantileState)


class QuantileTracker:
    """See the module."""

    __slots__ = (
        "_clear_costs", "_costs", "_parts", "_phi", "_seen", "_settings", "_spec", "_state",
        "_tempos", "_view",
    )  # fmt: skip

    def __init__(self, spec: QuantileCheck, settings: Settings) -> None:
        self._spec, self._settings = spec, settings
        self._phi = settings.dispersion_of(spec.name)
        odds = (1 - spec.q) / spec.q
        self._costs, self._clear_costs = RATE_GRID.costs(odds), _CLEAR_RATES.costs(odds)
        self._tempos: Mapping[str, Tempo] = {
            "rate": settings.tempo(settings.rollback_need),
            "alert": settings.tempo(settings.alert_need),
            "ratio": settings.tempo(settings.rollback_need),
        }
        trials = {"ratio": Trial.over(TAIL_GRID, settings.start)}
        clear = {"ratio": Clearance.over(_CLEAR_RATIOS)}
        if (level := spec.reference) is not None:
            trials["rate"] = Trial.over(RATE_GRID, settings.start, level.window)
            clear["rate"] = Clearance.over(_CLEAR_RATES)
        if spec.alert is not None:
            trials["alert"] = Trial.over(RATE_GRID, settings.start, spec.alert.window)
        self._state = QuantileState(trials, clear)
        self._restore()

    def _restore(self) -> None:
        """What follows from the state."""
        self._seen: dict[Arm, frozenset[str]] = {"candidate": frozenset(), "baseline": frozenset()}
        self._parts = self._part_names()
        self._view = look(self._spec, self._state)

    def _part_names(self) -> list[str]:
        edges = [*self._state.edges.values, float("inf")]
        return [self._spec.part(edge) for edge in edges]

    # --- a step -------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Add one step."""
        state = self._state
        learnt = self._learn("candidate", step.candidate) | self._learn("baseline", step.baseline)
        candidate, torn = self._vector("candidate", step.candidate, step.at)
        baseline, torn_too = self._vector("baseline", step.baseline, step.at)
        self._look(step.at, at_once=learnt or torn or torn_too)
        state.baseline_fresh = step.baseline_fresh
        state.baseline_seen = state.baseline_seen or step.baseline_fresh
        both = [*candidate, *baseline]
        if candidate[-1] or baseline[-1]:
            state.phase = list(map(add, state.phase, both))
            state.history.add(step.since, step.at, candidate, baseline)
        self._against_level("rate", self._view.limit, step, candidate, baseline)
        self._against_level("alert", self._view.alert, step, candidate, baseline)
        self._against_baseline(step, both)
        self._clear(candidate, baseline)
        state.coming = list(map(add, state.coming, baseline))
        if not state.failed:
            state.failed = self._reading().convict(step.at)

    def _learn(self, arm: Arm, increments: Mapping[str, float]) -> bool:
        """Look for edges not seen before; whether there were any."""
        new = increments.keys() - self._seen[arm]
        if not new:
            return False
        self._seen = {**self._seen, arm: self._seen[arm] | new}
        prefix, learnt = f"{self._spec.histogram}|", False
        for edge in sorted(float(p.removeprefix(prefix)) for p in new if p.startswith(prefix)):
            if edge < float("inf") and not self._state.edges.knows(edge, arm):
                self._widen(self._state.edges.learn(edge, arm))
                learnt = True
        if learnt:
            self._parts = self._part_names()
        return learnt

    def _widen(self, place: int | None) -> None:
        if place is None:
            return
        state = self._state
        width = len(state.edges.values)  # of a vector before: one edge less, and the total
        state.history.widen(place)
        for name in ("phase", "waiting"):
            both = getattr(state, name)
            setattr(state, name, [*widened(both[:width], place), *widened(both[width:], place)])
        state.past, state.coming = widened(state.past, place), widened(state.coming, place)

    def _vector(
        self, arm: Arm, increments: Mapping[str, float], at: float
    ) -> tuple[list[float], bool]:
        counts = counts_at(self._parts, increments)
        if not counts[-1]:
            return [0.0] * len(counts), False
        return self._state.edges.vector(arm, counts, at)

    def _look(self, at: float, *, at_once: bool) -> None:
        """Look at the baseline anew: every few minutes, more often while little is known of it."""
        state = self._state
        coming, past = state.coming[-1], state.past[-1]
        due = at - state.looked_at >= _LOOK_SECONDS or coming >= past / 2
        if not at_once and (coming < FEWEST or not due):
            return
        kept = 0.5 ** ((at - state.looked_at) / _HALF_LIFE_SECONDS)
        kept = max(kept, min(1.0, _ENOUGH / past)) if past else 0.0
        # To a sixteenth of a call, so that it is short when written down.
        state.past = [
            round(16 * (kept * old + new)) / 16
            for old, new in zip(state.past, state.coming, strict=True)
        ]
        state.coming = [0.0] * len(state.coming)
        state.looked_at = at
        self._view = look(self._spec, state)

    # --- evidence -----------------------------------------------------------------------------

    def _against_level(
        self,
        name: str,
        line: Line | None,
        step: Step,
        candidate: Sequence[float],
        baseline: Sequence[float],
    ) -> None:
        trial = self._state.trials.get(name)
        if trial is None:
            return
        counts = self._view.counts(line, candidate, baseline)
        factors = None
        if line is not None and counts.total:
            bad, calls = counts.bad / self._phi, counts.total / self._phi
            factors = log_factors(bad, calls, self._costs, RATE_GRID)
        trial.step(self._tempos[name], step, counts, factors)

    def _against_baseline(self, step: Step, both: Sequence[float]) -> None:
        """Calls of one arm wait until there are calls of the other at about the same time."""
        state, view = self._state, self._view
        factors, counts = None, Counts()
        if view.ordering is not None:
            waiting = list(map(add, state.waiting, both))
            half = len(waiting) // 2
            candidate, baseline = waiting[:half], waiting[half:]
            if candidate[-1] and baseline[-1]:
                found = view.ordering.log_factors(candidate, baseline)
                factors = [factor / self._phi for factor in found]
                counts = Counts(0.0, candidate[-1], 0.0, baseline[-1])
                self._clear_ratio(candidate, baseline)
                waiting = [0.0] * len(waiting)
            state.waiting = waiting
        state.trials["ratio"].step(self._tempos["ratio"], step, counts, factors)

    def _clear(self, candidate: Sequence[float], baseline: Sequence[float]) -> None:
        line = self._view.cleared
        if line is None or not candidate[-1]:
            return
        counts = self._view.counts(line, candidate, baseline)
        bad, calls = counts.bad / self._phi, counts.total / self._phi
        factors = log_factors(bad, calls, self._clear_costs, _CLEAR_RATES)
        self._state.clear["rate"].update(factors, self._ceiling)

    def _clear_ratio(self, candidate: Sequence[float], baseline: Sequence[float]) -> None:
        mirror = self._view.mirror
        if mirror is None:
            return
        counts = self._view.paired(mirror, candidate, baseline)
        odds = mirror.share * counts.total / counts.baseline_total
        slow = counts.bad + counts.baseline_bad
        factors = log_factors(
            counts.bad / self._phi, slow / self._phi, _CLEAR_RATIOS.costs(odds), _CLEAR_RATIOS
        )
        self._state.clear["ratio"].update(factors, self._ceiling)

    @property
    def _ceiling(self) -> float:
        return self._settings.clear_need + CLEAR_CEILING

    def _reading(self) -> Reading:
        return Reading(self._spec, self._settings, self._state, self._view, self._phi)

    # --- the tracker's interface ----------------------------------------------------------------

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """A quantile has no query."""

    def failures(self) -> tuple[CheckVerdict, ...]:
        """Rollback verdicts reached so far; they stay."""
        return self._state.failed

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now."""
        return self._reading().judge(moment)

    def copy(self) -> QuantileTracker:
        """An independent copy."""
        other = QuantileTracker.__new__(QuantileTracker)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other._state = self._state.copy()
        return other

    def dump(self) -> Any:
        """JSON-able state."""
        return _codec().dump_python(self._state, mode="json")

    def load(self, state: Any) -> None:
        """Take over dumped state; ValueError if it does not fit."""
        self._state = _codec().validate_python(state)
        self._restore()
