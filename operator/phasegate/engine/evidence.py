"""Evidence of a phase: raw samples in, a verdict out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from phasegate.api.errors import PhasegateError
from phasegate.engine.checks import track
from phasegate.engine.fold import LOOKBACK_SECONDS, Fold, Ledger
from phasegate.engine.judging import judge
from phasegate.engine.plan import EvidencePlan
from phasegate.engine.samples import VALUE_PREFIX, Series, usable
from phasegate.engine.timeline import Reading, Timeline
from phasegate.engine.verdict import CheckVerdict, Judgement

__all__ = ["LOOKBACK_SECONDS", "Evidence", "EvidencePlan", "StateMismatch"]

_VERSION: Final = 1


class StateMismatch(PhasegateError):
    """Stored evidence is of another version or plan: replay the raw samples of the phase."""


@cache
def _ledgers() -> TypeAdapter[Ledger]:
    return TypeAdapter(Ledger)


@cache
def _verdicts() -> TypeAdapter[tuple[CheckVerdict, ...]]:
    return TypeAdapter(tuple[CheckVerdict, ...])


class Evidence:
    """The evidence of one phase.

    The verdict is a pure function of the samples, and of `now` for freshness and the minimum
    duration. Neither the size of the batches nor their overlap matters. Samples that arrive out of
    order between pods are put in order (see timeline.py); a Fail that was reached stays.
    """

    def __init__(self, plan: EvidencePlan) -> None:
        settings = plan.settings
        self._plan = plan
        self._settled = Fold(plan, Ledger(), [track(check, settings) for check in plan.checks])
        self._settled_at: float | None = None
        self._live = self._settled
        self._timeline = Timeline()
        self._routes: dict[tuple[str, str, tuple[tuple[str, str], ...]], Reading | None] = {}
        self._failed: tuple[CheckVerdict, ...] = ()

    def ingest(self, batch: Iterable[Series]) -> None:
        """Add raw samples. One batch holds everything that was read at once, of both arms."""
        results: dict[float, dict[str, dict[str, float]]] = {}
        for series in batch:
            if series.name.startswith(VALUE_PREFIX):
                _collect(series, results)
            else:
                self._take(series)
        for at in sorted(results):
            self._settled.observe(at, results[at])
        for at, readings in self._timeline.settle():
            self._settled.add(at, readings)
            self._settled_at = at
        self._live = self._settled
        if len(self._timeline):
            self._live = self._settled.copy()
            for at, readings in self._timeline.rest():
                self._live.add(at, readings)
        if not self._failed:
            self._failed = self._live.failures()

    def _take(self, series: Series) -> None:
        route = self._route(series)
        if route is None:
            return
        for at, value in series.samples:
            if not usable(at, value, counter=True):
                continue
            reading = route.worth(value)
            if self._settled_at is not None and at <= self._settled_at:
                self._settled.originate(reading)
                self._timeline.heard(at, reading.target)
            else:
                self._timeline.add(at, reading)

    def _route(self, series: Series) -> Reading | None:
        """Where a series goes; None: no check needs it. Found once per series."""
        identity = (series.arm, series.name, series.labels)
        if identity not in self._routes:
            labels = dict(series.labels)
            parts = {part for c in self._plan.checks for part in c.parts(series.name, labels)}
            if self._plan.volume.accepts(series.name, labels):
                parts.add(str(self._plan.volume))
            self._routes[identity] = (
                Reading(
                    key=series.key,
                    target=series.target,
                    arm=series.arm,
                    parts=tuple(sorted(parts)),
                )
                if parts
                else None
            )
        return self._routes[identity]

    def judge(self, now: float) -> Judgement:
        """The verdict at `now` (unix seconds) from everything fed so far."""
        return judge(self._plan, self._live, self._failed, now)

    def newest(self) -> float | None:
        """Where to continue a range query: everything up to here, and maybe more, is settled.

        None: nothing yet, so begin LOOKBACK_SECONDS before the plan's start.
        """
        return self._settled_at

    def dump(self) -> dict[str, Any]:
        """State up to `newest()`, JSON-able. What came after it has to be read again."""
        return {
            "version": _VERSION,
            "plan": self._plan.fingerprint,
            "at": self._settled_at,
            "ledger": _ledgers().dump_python(self._settled.ledger, mode="json"),
            "checks": [tracker.dump() for tracker in self._settled.trackers],
            "failed": _verdicts().dump_python(self._failed, mode="json"),
        }

    @classmethod
    def load(cls, plan: EvidencePlan, state: dict[str, Any]) -> Evidence:
        """Continue from dumped state. Raises StateMismatch if it is of another version or plan."""
        if state.get("version") != _VERSION or state.get("plan") != plan.fingerprint:
            raise StateMismatch("stored evidence is of another version or plan")
        self = cls(plan)
        try:
            self._settled.ledger = _ledgers().validate_python(state["ledger"])
            for tracker, stored in zip(self._settled.trackers, state["checks"], strict=True):
                tracker.load(stored)
            self._failed = _verdicts().validate_python(state["failed"])
            self._settled_at = state["at"]
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise StateMismatch(f"stored evidence cannot be read: {error}") from error
        self._timeline = Timeline(self._settled.ledger.targets.items())
        return self


def _collect(series: Series, results: dict[float, dict[str, dict[str, float]]]) -> None:
    """Results of a query by time: they wait for nobody, they come from one place in order."""
    for at, value in series.samples:
        if usable(at, value, counter=False):
            results.setdefault(at, {}).setdefault(series.name, {})[series.key] = value
