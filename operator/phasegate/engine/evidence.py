"""Evidence of a phase: raw samples in, a verdict out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from phasegate.api.errors import PhasegateError
from phasegate.engine.checks import track
from phasegate.engine.fold import LOOKBACK_SECONDS, Fold, Ledger
from phasegate.engine.judging import judge
from phasegate.engine.plan import EvidencePlan
from phasegate.engine.samples import VALUE_PREFIX, Series, usable
from phasegate.engine.timeline import Reading, Route, Timeline
from phasegate.engine.verdict import CheckVerdict, Judgement

__all__ = ["LOOKBACK_SECONDS", "Evidence", "EvidencePlan", "StateMismatch"]

_VERSION: Final = 2
_BEHIND: Final = 4
"""Settled scrape times after which it pays to copy what has been folded already."""


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
        trackers = [
            track(check, replace(settings, start=plan.start + check.warm_up))
            for check in plan.checks
        ]
        self._base = Fold(plan, Ledger(), trackers)
        """Everything up to some time that is settled, less `_behind`."""
        self._behind: list[tuple[float, Sequence[Reading]]] = []
        self._live, self._live_at = self._base, -math.inf
        """Everything that is here."""
        self._snapshot: tuple[float, Fold] | None = None
        """What `_live` was some time ago: the next base, if nothing is put in before it."""
        self._settled_at: float | None = None
        self._timeline = Timeline()
        self._routes: dict[tuple[str, str, tuple[tuple[str, str], ...]], Route | None] = {}
        self._results: list[tuple[float, dict[str, dict[str, float]]]] = []
        """Results of queries in this batch, the latest first."""
        self._failed: tuple[CheckVerdict, ...] = ()
        self._failed_at: float | None = None

    def ingest(self, batch: Iterable[Series]) -> None:
        """Add raw samples. One batch holds everything that was read at once, of both arms."""
        results: dict[float, dict[str, dict[str, float]]] = {}
        first = math.inf
        for series in batch:
            if series.name.startswith(VALUE_PREFIX):
                _collect(series, results)
            else:
                first = min(first, self._take(series))
        self._results = sorted(results.items(), key=lambda found: -found[0])
        self._advance(first)
        self._observe(math.inf)

    def _folds(self) -> list[Fold]:
        folds = [self._base] if self._live is self._base else [self._base, self._live]
        return folds if self._snapshot is None else [*folds, self._snapshot[1]]

    def _take(self, series: Series) -> float:
        """The earliest time at which a series brings something new."""
        route, first, settled = self._route(series), math.inf, self._settled_at
        if route is None:
            return first
        for at, value in series.samples:
            if not usable(at, value, counter=True):
                continue
            if settled is not None and at <= settled:
                # What `_live` has folded may still be ahead of the others.
                if route.key not in self._live.ledger.values:
                    for fold in self._folds():
                        fold.originate(route, value)
                self._timeline.heard(at, route.target)
            elif self._timeline.add(at, route, value) and at < first:
                first = at
        return first

    def _advance(self, first: float) -> None:
        """Fold what is new from `first` on.

        What is not settled is folded all the same, onto a copy. If later samples only follow it,
        as they nearly always do, that copy is what goes on; else it is made anew.
        """
        settled = list(self._timeline.settle())
        if settled:
            self._settled_at = settled[-1][0]
        if self._live is not self._base:
            self._behind += settled
            if first <= self._live_at:
                self._catch_up()
                self._live, self._live_at = self._base.copy(), self._settled_at or -math.inf
                settled = []
        for at, readings in settled:
            if at > self._live_at:
                self._show(at, readings)
        for at, readings in self._timeline.rest():
            if at > self._live_at:
                if self._live is self._base:
                    self._live = self._base.copy()
                self._show(at, readings)
        self._promote()

    def _observe(self, until: float) -> None:
        """Show results of queries: they come from one place in order and wait for nobody."""
        while self._results and self._results[-1][0] <= until:
            at, found = self._results.pop()
            for fold in self._folds():
                fold.observe(at, found)
            self._note(at)

    def _show(self, at: float, readings: Sequence[Reading]) -> None:
        self._observe(at)
        self._live.add(at, readings)
        self._live_at = at
        self._note(at)

    def _note(self, at: float) -> None:
        """Keep a Fail, with the scrape that brought it: it stays."""
        if not self._failed:
            self._failed = self._live.failures()
            self._failed_at = at if self._failed else None

    def _catch_up(self) -> None:
        """Bring the base up to everything that is settled."""
        for at, readings in self._behind:
            self._base.add(at, readings)
        self._behind = []
        self._snapshot = None

    def _promote(self) -> None:
        """Make the snapshot the base once all of it is settled."""
        settled_at = -math.inf if self._settled_at is None else self._settled_at
        if self._snapshot is not None and self._snapshot[0] <= settled_at:
            at, self._base = self._snapshot
            self._behind = [entry for entry in self._behind if entry[0] > at]
            self._snapshot = None
        if self._live is not self._base and self._live_at <= settled_at:
            self._base, self._behind, self._snapshot = self._live, [], None
        elif self._snapshot is None and len(self._behind) >= _BEHIND:
            self._snapshot = (self._live_at, self._live.copy())

    def _route(self, series: Series) -> Route | None:
        """Where a series goes; None: no check needs it. Found once per series."""
        identity = (series.arm, series.name, series.labels)
        if identity not in self._routes:
            labels = dict(series.labels)
            parts = {part for c in self._plan.checks for part in c.parts(series.name, labels)}
            if self._plan.volume.accepts(series.name, labels):
                parts.add(str(self._plan.volume))
            if self._plan.spend is not None:
                parts.update(self._plan.spend.parts(series.name, labels))
            self._routes[identity] = (
                Route(
                    key=series.key,
                    target=series.target,
                    arm=series.arm,
                    parts=tuple(sorted(parts)),
                    late=series.late,
                )
                if parts
                else None
            )
        return self._routes[identity]

    def judge(self, now: float) -> Judgement:
        """The verdict at `now` (unix seconds) from everything fed so far."""
        found = judge(self._plan, self._live, self._failed, now)
        return found if self._failed_at is None else replace(found, at=self._failed_at)

    def newest(self) -> float | None:
        """Where to continue a range query: everything up to here, and maybe more, is settled.

        None: nothing yet, so begin LOOKBACK_SECONDS before the plan's start.
        """
        return self._settled_at

    def dump(self) -> dict[str, Any]:
        """State up to `newest()`, JSON-able. What came after it has to be read again."""
        self._catch_up()
        settled = self._base
        return {
            "version": _VERSION,
            "plan": self._plan.fingerprint,
            "at": self._settled_at,
            "dispersion": self._plan.dispersion,
            "ledger": _ledgers().dump_python(settled.ledger, mode="json"),
            "checks": [tracker.dump() for tracker in settled.trackers],
            "failed": _verdicts().dump_python(self._failed, mode="json"),
            "failed_at": self._failed_at,
        }

    @classmethod
    def load(cls, plan: EvidencePlan, state: dict[str, Any]) -> Evidence:
        """Continue from dumped state, with the dispersion that the phase began with.

        Raises StateMismatch if it is of another version or plan.
        """
        if state.get("version") != _VERSION or state.get("plan") != plan.fingerprint:
            raise StateMismatch("stored evidence is of another version or plan")
        try:
            found = tuple((str(check), float(phi)) for check, phi in state["dispersion"])
            self = cls(replace(plan, dispersion=found))
            self._base.ledger = _ledgers().validate_python(state["ledger"])
            for tracker, stored in zip(self._base.trackers, state["checks"], strict=True):
                tracker.load(stored)
            self._failed = _verdicts().validate_python(state["failed"])
            self._failed_at = state["failed_at"]
            self._settled_at = state["at"]
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise StateMismatch(f"stored evidence cannot be read: {error}") from error
        self._timeline = Timeline(self._base.ledger.targets.items())
        return self


def _collect(series: Series, results: dict[float, dict[str, dict[str, float]]]) -> None:
    """Results of a query by time: they wait for nobody, they come from one place in order."""
    for at, value in series.samples:
        if usable(at, value, counter=False):
            results.setdefault(at, {}).setdefault(series.name, {})[series.key] = value
