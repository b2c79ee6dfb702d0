"""Raw samples in the order of scrape time → increments → steps of the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from phasegate.engine.kinds.base import Step, Tracker
from phasegate.engine.plan import EvidencePlan
from phasegate.engine.samples import Arm
from phasegate.engine.timeline import FORGET_SECONDS, Reading, Rhythm
from phasegate.engine.verdict import CheckVerdict

LOOKBACK_SECONDS = 300.0
"""How long before the phase's start samples should be fed from, so that pods which were there
before it have an origin."""


@dataclass(slots=True)
class Ledger:
    """What must be remembered of the samples themselves."""

    values: dict[str, tuple[str, float]] = field(default_factory=dict)
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
        )


class Fold:
    """State after all samples up to a time; feeding the same samples gives the same state.

    One step per scrape of candidate pods, with what the baseline added since the step before: a
    breach is seen with the sample that shows it, whenever the baseline's own scrape is due.
    """

    __slots__ = ("_plan", "_volume", "ledger", "trackers")

    def __init__(self, plan: EvidencePlan, ledger: Ledger, trackers: Sequence[Tracker]) -> None:
        self._plan = plan
        self._volume = str(plan.volume)
        self.ledger = ledger
        self.trackers = tuple(trackers)

    def copy(self) -> Fold:
        """An independent copy."""
        trackers = [tracker.copy() for tracker in self.trackers]
        return Fold(self._plan, self.ledger.copy(), trackers)

    def add(self, at: float, readings: Sequence[Reading]) -> None:
        """All readings of one scrape time; times come in order."""
        candidate = [reading for reading in readings if reading.arm == "candidate"]
        baseline = [reading for reading in readings if reading.arm == "baseline"]
        counted: dict[Arm, dict[str, float]] = {
            "candidate": self._count(at, candidate),
            "baseline": self._count(at, baseline),
        }
        for reading in readings:
            self._scraped(at, reading)
        if at <= self._plan.start:
            return
        for arm, increments in counted.items():
            self.ledger.calls[arm] += increments.get(self._volume, 0.0)
        waiting = self.ledger.waiting
        for part, amount in counted["baseline"].items():
            waiting[part] = waiting.get(part, 0.0) + amount
        if candidate:
            self._step(at, {reading.target for reading in candidate}, counted["candidate"])

    def _count(self, at: float, readings: Sequence[Reading]) -> dict[str, float]:
        """Increments by part since each series' last sample."""
        increments: dict[str, float] = {}
        if at <= self._plan.start:
            return increments
        for reading in readings:
            amount = self._increment(reading)
            for part in reading.parts:
                increments[part] = increments.get(part, 0.0) + amount
        return increments

    def _increment(self, reading: Reading) -> float:
        before = self.ledger.values.get(reading.key)
        if before is not None:
            # A counter that fell was reset: what it shows now was counted since.
            return reading.value - before[1] if reading.value >= before[1] else reading.value
        # A label value seen for the first time was born at its first call, and a candidate's pod in
        # this phase. A baseline's pod may be old: what it counted before is not of this phase.
        born = reading.arm == "candidate" or reading.target in self.ledger.targets
        return reading.value if born else 0.0

    def _scraped(self, at: float, reading: Reading) -> None:
        ledger = self.ledger
        rhythm = ledger.targets.setdefault(reading.target, Rhythm(at))
        if at > rhythm.last:
            rhythm.gap, rhythm.last = at - rhythm.last, at
        ledger.values[reading.key] = (reading.target, reading.value)
        ledger.newest[reading.arm] = at

    def originate(self, reading: Reading) -> None:
        """A baseline series first seen too late to be counted: the value is its origin."""
        if reading.arm == "baseline" and reading.key not in self.ledger.values:
            self.ledger.values[reading.key] = (reading.target, reading.value)

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
        for tracker in self.trackers:
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

    def observe(self, at: float, results: Mapping[str, Mapping[str, float]]) -> None:
        """Results of queries at a time: by part, then by series."""
        if at > self._plan.start:
            for tracker in self.trackers:
                tracker.observe(at, results)
