"""Follows an amount through a phase: what has been added, what it forecasts, whether it spikes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from phasegate.engine import messages
from phasegate.engine.kinds.amount import AmountCheck, AmountState, Bins
from phasegate.engine.kinds.base import Bound, Moment, Settings, Step
from phasegate.engine.kinds.unpriced import explained, unpriced
from phasegate.engine.verdict import CheckVerdict, Reason, Verdict
from phasegate.engine.windows import Counts

_PATIENCE_SECONDS: Final = 900.0
"""How long a forecast has to be beyond a level, and how long a spike is looked at."""
_PATIENCE_SHARE: Final = 1 / 4
"""Of the planned phase, where that is shorter."""
_SHORTEST: Final = 60.0
_FORECAST: Final = 4
"""A day's forecast rests on this many times that; shorter periods' on that alone."""
_HOUR: Final = 3600.0
_PERIOD_BINS: Final = 48
_LATEST_BINS: Final = 5
_SPIKE_NATS: Final = 12.0
"""The usual ups and downs reach a spike with a chance of about e^-12 at a look."""
_BUSY_BINS: Final = 10.0
"""Bins with anything in them before a spike can be told from the usual ups and downs."""


@cache
def _codec() -> TypeAdapter[AmountState]:
    return TypeAdapter(AmountState)


class AmountTracker:
    """See the module. Nothing here is tested against chance: sums have happened."""

    __slots__ = ("_patience", "_recent_bins", "_settings", "_spec", "_state")

    def __init__(self, spec: AmountCheck, settings: Settings) -> None:
        self._spec, self._settings = spec, settings
        planned = max(settings.planned_seconds, _SHORTEST)
        self._patience = min(_PATIENCE_SECONDS, planned * _PATIENCE_SHARE)
        width = self._patience / _LATEST_BINS
        self._recent_bins = _LATEST_BINS * (_FORECAST if spec.per_seconds > _HOUR else 1)
        start = settings.start
        self._state = AmountState(
            period=Bins(start, spec.per_seconds / _PERIOD_BINS, _PERIOD_BINS),
            recent=Bins(start, width, self._recent_bins),
            latest=Bins(start, width, _LATEST_BINS),
            at=start,
        )

    def step(self, step: Step) -> None:
        """Add one step."""
        state = self._state
        state.unpriced = unpriced(state.unpriced, self._spec.amount, step)
        if state.unpriced:
            return
        counts = self._counts(step)
        state.at, state.baseline_fresh = step.at, step.baseline_fresh
        state.phase = state.phase.plus(counts)
        state.period.add(step.since, step.at, counts)
        state.recent.add(step.since, step.at, counts)
        for gone in state.latest.add(step.since, step.at, counts):
            amount = _both(gone)
            state.before += amount
            state.before_squares += amount * amount
            state.before_busy += amount > 0
        self._watch()

    def _counts(self, step: Step) -> Counts:
        value, calls = self._spec.amount.value, str(self._spec.calls or "")
        return Counts(
            value(step.candidate, step.at),
            step.candidate.get(calls, 0.0),
            value(step.baseline, step.at),
            step.baseline.get(calls, 0.0),
        )

    def _watch(self) -> None:
        state, spec = self._state, self._spec
        forecast = self._forecast()
        if spec.alert is None or not spec.alert.beyond(forecast):
            state.over_since = None
        elif state.over_since is None:
            state.over_since = state.at
        if spec.limit is None or state.failed:
            return
        _, added = self._period()
        if spec.limit.beyond(_both(added)) and not spec.limit.beyond(self._without(added)):
            text = f"{self._facts()}, beyond the rollback level {self._shown(spec.limit.value)}"
            made = self._make(Reason.BREACHED, text, Verdict.FAIL, _both(added), spec.limit)
            state.failed = (made,)

    # --- what has happened ------------------------------------------------------------------------

    def _period(self) -> tuple[float, Counts]:
        return self._state.period.since(self._state.at, _PERIOD_BINS)

    def _without(self, added: Counts) -> float:
        """What the baseline would have added, had it answered all of the calls."""
        if not added.baseline_total:
            return added.baseline_bad
        return added.baseline_bad * (added.total + added.baseline_total) / added.baseline_total

    def _pace(self) -> tuple[float, Counts]:
        return self._state.recent.since(self._state.at, self._recent_bins)

    def _forecast(self) -> float | None:
        """What a whole period adds at the pace of late; None while too little time has passed."""
        seconds, added = self._pace()
        if self._state.at - self._state.recent.start < self._patience:
            return None
        return _both(added) / seconds * self._spec.per_seconds

    def _at_full_traffic(self) -> tuple[float, float] | None:
        """What a period adds if the candidate answers every call, and the calls of a period."""
        seconds, added = self._pace()
        calls = added.total + added.baseline_total
        if not added.total or not added.baseline_total or self._forecast() is None:
            return None
        per_period = calls / seconds * self._spec.per_seconds
        return added.bad / added.total * per_period, per_period

    def _spike(self) -> tuple[float, float] | None:
        """Times the pace before, and the pace now, if it is a spike beyond the usual ups and downs.

        Besides being so many times the mean of the bins before, the latest bins' sum has to lie
        beyond √(2·t·variance) + t/3·variance/mean (Bernstein's inequality for clumps of the size
        variance/mean, as the bins before them show it; a Poisson count's clump is one).
        """
        state = self._state
        seconds, added = state.latest.since(state.at, _LATEST_BINS)
        bins = (state.at - state.latest.start - seconds) / state.latest.width
        enough = bins * state.latest.width >= _FORECAST * self._patience * (1 - 1e-9)
        if not enough or state.before_busy < _BUSY_BINS or self._spec.spike is None:
            return None
        mean = state.before / bins
        variance = max(0.0, state.before_squares / bins - mean * mean)
        now = seconds / state.latest.width
        margin = math.sqrt(2 * _SPIKE_NATS * variance * now) + _SPIKE_NATS / 3 * variance / mean
        if _both(added) < max(self._spec.spike * mean * now, mean * now + margin):
            return None
        return _both(added) / (mean * now), _both(added) / seconds * self._spec.per_seconds

    # --- what it means ----------------------------------------------------------------------------

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """An amount has no query."""

    def failures(self) -> tuple[CheckVerdict, ...]:
        """Rollback verdicts reached so far; they stay."""
        return self._state.failed

    def judge(self, moment: Moment) -> tuple[CheckVerdict, ...]:
        """The verdicts now: about the sum, about the forecast, about a spike."""
        spec = self._spec
        found = []
        if spec.level != "alert":
            found.append(next(iter(self._state.failed), None) or self._sum(moment))
        if spec.alert is not None:
            found.append(self._alert(spec.alert, moment))
        if spec.spike is not None:
            found.append(self._spiking(spec.spike, moment))
        return tuple(found)

    def _sum(self, moment: Moment) -> CheckVerdict:
        spec, forecast = self._spec, self._forecast()
        bound = spec.gate or (spec.limit and Bound(spec.limit.value, above=not spec.limit.above))
        text = self._facts()
        if bound is None:
            return self._make(Reason.INFORMATION, text, Verdict.INCONCLUSIVE, forecast, None)
        text += f", gate {self._shown(bound.value)}"
        if spec.limit is not None:
            text += f", rollback level {self._shown(spec.limit.value)}"
        reason, verdict = Reason.WITHIN_LIMIT, Verdict.PASS
        if (missing := self._missing(moment)) is not None:
            reason, verdict, text = (
                missing,
                Verdict.INCONCLUSIVE,
                explained(missing, self._state.unpriced, text),
            )
        elif spec.limit is not None and spec.limit.beyond(_both(self._period()[1])):
            reason, verdict = Reason.SHARED_CAUSE, Verdict.INCONCLUSIVE
            text = (
                f"limit breached, but the baseline alone would have: shared cause, holding ({text})"
            )
        elif not bound.beyond(forecast):
            reason, verdict = Reason.OUTSIDE_GATE, Verdict.INCONCLUSIVE
            text = f"outside the gate: {text}"
        made = self._make(reason, text, verdict, forecast, spec.limit or bound)
        return replace(made, warning=self._warning(forecast))

    def _warning(self, forecast: float | None) -> str:
        limit = self._spec.limit
        if limit is None or not limit.beyond(forecast) or self._state.unpriced:
            return ""
        return f"{self._facts()}; the rollback level is {self._shown(limit.value)}"

    def _alert(self, alert: Bound, moment: Moment) -> CheckVerdict:
        text = f"{self._facts()}, alert level {self._shown(alert.value)}"
        reason, verdict = Reason.WITHIN_LIMIT, Verdict.PASS
        since = self._state.over_since
        missing = self._missing(moment)
        reached = alert.above and alert.beyond(_both(self._period()[1]))
        if reached and missing in (None, Reason.TOO_FEW_SAMPLES):
            # No forecast is needed: so much has been added already.
            reason, verdict = Reason.ALERT_BREACHED, Verdict.FAIL
            text += ", and it has been reached"
        elif missing is not None:
            reason, verdict, text = (
                missing,
                Verdict.INCONCLUSIVE,
                explained(missing, self._state.unpriced, text),
            )
        elif since is not None and self._state.at - since >= self._patience:
            reason, verdict = Reason.ALERT_BREACHED, Verdict.FAIL
            text += f", beyond it for {messages.stretch(self._state.at - since)}"
        made = self._make(reason, text, verdict, self._forecast(), alert)
        return replace(made, check=f"{self._spec.name}-alert", level="alert", since=since)

    def _spiking(self, times: float, moment: Moment) -> CheckVerdict:
        text = self._facts()
        reason, verdict, pace = Reason.WITHIN_LIMIT, Verdict.PASS, None
        if (missing := self._missing(moment)) is not None:
            reason, verdict, text = (
                missing,
                Verdict.INCONCLUSIVE,
                explained(missing, self._state.unpriced, text),
            )
        elif (found := self._spike()) is not None:
            reason, verdict, pace = Reason.ALERT_BREACHED, Verdict.FAIL, found[0]
            latest = messages.stretch(self._patience)
            text = (
                f"the last {latest} run at {self._shown(found[1])}{self._per}, "
                f"{messages.ratio(found[0])} the pace before; {text}"
            )
        text += f", spike from {messages.ratio(times)} on"
        made = self._make(reason, text, verdict, pace, None)
        return replace(made, check=f"{self._spec.name}-spike", level="alert", limit=times)

    def _missing(self, moment: Moment) -> Reason | None:
        if self._state.unpriced:
            return Reason.NO_PRICE
        nothing = not _both(self._state.phase) and moment.candidate_calls > 0
        if not moment.candidate_fresh or nothing:
            return Reason.NO_DATA
        return Reason.TOO_FEW_SAMPLES if self._forecast() is None else None

    # --- how it is said ---------------------------------------------------------------------------

    @property
    def _per(self) -> str:
        return {86400.0: " a day", 3600.0: " an hour"}.get(
            self._spec.per_seconds, f" in {messages.stretch(self._spec.per_seconds)}"
        )

    def _shown(self, value: float | None) -> str:
        unit = self._spec.unit.removesuffix("/h")
        return messages.amount(value, unit)

    def _facts(self) -> str:
        seconds, added = self._period()
        text = (
            f"{self._shown(_both(added))} in the last {messages.stretch(seconds)} "
            f"(candidate {messages.amount(added.bad)}, baseline {messages.amount(added.baseline_bad)})"
        )
        forecast = self._forecast()
        if forecast is not None:
            text += f", at this pace {self._shown(forecast)}{self._per}"
        full = self._at_full_traffic()
        if full is not None:
            text += f"; at 100% this revision would add {self._shown(full[0])}{self._per}"
            text += f" for {messages.amount(full[1])} calls"
        return text

    def _make(
        self,
        reason: Reason,
        text: str,
        verdict: Verdict,
        estimate: float | None,
        limit: Bound | None,
    ) -> CheckVerdict:
        counts = self._state.phase
        return CheckVerdict(
            check=self._spec.name,
            metric=self._spec.metric,
            level=self._spec.level,
            verdict=verdict,
            reason=reason,
            message=text,
            estimate=estimate,
            bad=counts.bad,
            total=counts.total,
            baseline_bad=counts.baseline_bad,
            baseline_total=counts.baseline_total,
            limit=None if limit is None else limit.value,
        )

    def copy(self) -> AmountTracker:
        """An independent copy."""
        other = AmountTracker(self._spec, self._settings)
        other._state = self._state.copy()
        return other

    def dump(self) -> Any:
        """JSON-able state."""
        return _codec().dump_python(self._state, mode="json")

    def load(self, state: Any) -> None:
        """Take over dumped state; ValueError if it does not fit."""
        self._state = _codec().validate_python(state)


def _both(counts: Counts) -> float:
    return counts.bad + counts.baseline_bad
