"""Raw samples in the order of scrape time → increments → steps of the checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from phasegate.engine.kinds.base import Moment, Step, Tracker
from phasegate.engine.kinds.threshold import ThresholdCheck
from phasegate.engine.packing import LastValues
from phasegate.engine.plan import EvidencePlan
from phasegate.engine.samples import Arm
from phasegate.engine.timeline import FORGET_SECONDS, Reading, Rhythm, Route
from phasegate.engine.verdict import CheckVerdict

LOOKBACK_SECONDS = 300.0
"""How long before the phase's start samples should be fed from, so that pods which were there
before it have an origin."""


@dataclass(slots=True)
class Ledger:
    """What must be remembered of the samples themselves."""

    values: LastValues = field(default_factory=dict)
    """Per series: its target and the last value."""
    targets: dict[str, Rhythm] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    """Increments of the baseline since the last step, by part."""
    round: set[str] = field(default_factory=set)
    """Candidate pods scraped in the running round."""
    stepped_at: float | None = None
    calls: dict[Arm, float] = field(default_factory=lambda: {"candidate": 0.0, "baseline": 0.0})
    newest: dict[Arm, float] = field(default_factory=dict)
    """Scrape time of the newest counter sample."""
    spent: float = 0.0
    """What the candidate's calls have cost, where the plan asks for it."""
    unpriced: float = 0.0
    """What the candidate used that nobody knows the price of."""

    def copy(self) -> Ledger:
        """An independent copy."""
        return Ledger(
            dict(self.values),
            {name: Rhythm(rhythm.last, rhythm.gap) for name, rhythm in self.targets.items()},
            dict(self.waiting),
            set(self.round),
            self.stepped_at,
            dict(self.calls),
            dict(self.newest),
            self.spent,
            self.unpriced,
        )


class Fold:
    """State after all samples up to a time; feeding the same samples gives the same state.

    One step per scrape of candidate pods, with what the baseline added since the step before: a
    breach is seen with the sample that shows it, whenever the baseline's own scrape is due.
    """

    __slots__ = ("_begins", "_plan", "_said", "_volume", "ledger", "trackers")

    def __init__(self, plan: EvidencePlan, ledger: Ledger, trackers: Sequence[Tracker]) -> None:
        self._plan = plan
        self._volume = str(plan.volume)
        # While its metric warms up, a tracker is shown nothing of either arm.
        self._begins = tuple(plan.start + check.warm_up for check in plan.checks)
        self.ledger = ledger
        self.trackers = tuple(trackers)
        self._said: tuple[bool, tuple[tuple[CheckVerdict, ...], ...]] | None = None

    def copy(self) -> Fold:
        """An independent copy."""
        trackers = [tracker.copy() for tracker in self.trackers]
        return Fold(self._plan, self.ledger.copy(), trackers)

    def add(self, at: float, readings: Iterable[Reading]) -> None:
        """All readings of one scrape time; times come in order."""
        self._said = None
        counted: dict[Arm, dict[str, float]] = {"candidate": {}, "baseline": {}}
        pods: dict[str, Route] = {}
        values, before_phase = self.ledger.values, at <= self._plan.start
        for route, value in readings:
            if not before_phase:
                amount, increments = self._increment(route, value), counted[route.arm]
                for part in route.parts:
                    increments[part] = increments.get(part, 0.0) + amount
            values[route.key] = (route.target, value)
            if route.target not in pods or not route.late:
                pods[route.target] = route
        for route in pods.values():
            self._scraped(at, route)
        if before_phase:
            return
        self._spend(at, counted["candidate"])
        waiting = self.ledger.waiting
        for part, amount in counted["baseline"].items():
            waiting[part] = waiting.get(part, 0.0) + amount
        for arm, increments in counted.items():
            self.ledger.calls[arm] += increments.get(self._volume, 0.0)
        candidates = {name for name, route in pods.items() if route.arm == "candidate"}
        if candidates:
            self._step(at, candidates, counted["candidate"])

    def _increment(self, route: Route, value: float) -> float:
        before = self.ledger.values.get(route.key)
        if before is not None:
            # A counter that fell was reset: what it shows now was counted since.
            return value - before[1] if value >= before[1] else value
        # A label value seen for the first time was born at its first call, and a candidate's pod in
        # this phase. A baseline's pod may be old: what it counted before is not of this phase.
        # Where series outlive revisions that is so of the candidate, too.
        new = route.arm == "candidate" and not self._plan.lasting
        return value if new or route.target in self.ledger.targets else 0.0

    def _spend(self, at: float, increments: Mapping[str, float]) -> None:
        if self._plan.spend is not None:
            self.ledger.spent += self._plan.spend.value(increments, at)
            self.ledger.unpriced += len(self._plan.spend.unknown(increments, at))

    def _scraped(self, at: float, route: Route) -> None:
        ledger = self.ledger
        rhythm = ledger.targets.setdefault(route.target, Rhythm(at))
        if at > rhythm.last:
            rhythm.gap, rhythm.last = at - rhythm.last, at
        if not route.late:
            ledger.newest[route.arm] = at

    def originate(self, route: Route, value: float) -> None:
        """A baseline series first seen too late to be counted: the value is its origin."""
        if route.arm == "baseline" and route.key not in self.ledger.values:
            self.ledger.values[route.key] = (route.target, value)

    def _step(self, at: float, pods: set[str], increments: Mapping[str, float]) -> None:
        ledger = self.ledger
        new_round = ledger.stepped_at is None or not ledger.round.isdisjoint(pods)
        if new_round:
            ledger.round = set()
            self._forget(at)
        ledger.round |= pods
        stale = at - self._plan.stale_seconds
        step = Step(
            at=at,
            since=self._plan.start if ledger.stepped_at is None else ledger.stepped_at,
            new_round=new_round,
            baseline_fresh=ledger.newest.get("baseline", stale - 1) >= stale,
            covered=all(
                rhythm.last >= at or rhythm.last < stale
                for name, rhythm in ledger.targets.items()
                if name.startswith("baseline/")
            ),
            candidate=increments,
            baseline=ledger.waiting,
        )
        ledger.waiting = {}
        ledger.stepped_at = at
        for tracker, begins in zip(self.trackers, self._begins, strict=True):
            if step.since >= begins:
                tracker.step(step)

    def _forget(self, at: float) -> None:
        """Drop baseline pods that are gone. A candidate's would count again from zero if it came."""
        gone = {
            name
            for name, rhythm in self.ledger.targets.items()
            if name.startswith("baseline/") and rhythm.last < at - FORGET_SECONDS
        }
        if gone:
            values = self.ledger.values.items()
            self.ledger.values = {key: seen for key, seen in values if seen[0] not in gone}
            for name in gone:
                del self.ledger.targets[name]

    def failures(self) -> tuple[CheckVerdict, ...]:
        """Rollback verdicts reached so far."""
        return tuple(verdict for tracker in self.trackers for verdict in tracker.failures())

    def verdicts(self, moment: Moment) -> tuple[tuple[CheckVerdict, ...], ...]:
        """What the trackers say now, by check. It is asked for more often than anything changes."""
        fresh = moment.candidate_fresh
        ages = any(isinstance(check, ThresholdCheck) for check in self._plan.checks)
        if self._said is None or self._said[0] != fresh or ages:
            self._said = (fresh, tuple(tracker.judge(moment) for tracker in self.trackers))
        return self._said[1]

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """Results of queries at a time: by part, then by series."""
        self._said = None
        for tracker, begins in zip(self.trackers, self._begins, strict=True):
            if at > begins:
                tracker.observe(at, results)
