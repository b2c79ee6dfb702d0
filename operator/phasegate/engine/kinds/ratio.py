"""Ratio of bad calls: against a level (absolute) and against the baseline (relative)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from phasegate.engine.deadlines import Pending
from phasegate.engine.eprocess import Clearance
from phasegate.engine.kinds.base import Bound, level_of, reference_of
from phasegate.engine.samples import Arm
from phasegate.engine.selectors import Selector
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckLevel, CheckVerdict
from phasegate.engine.windows import Counts

RELATIVE_WEIGHT: Final = 4.0
"""Share of the error rate for the comparison with the baseline, in shares of other tests: a rate of
few percent gives little evidence per call, so there a share saves the most calls."""
SEVERE_WEIGHT: Final = 0.1
"""The same where every call is bad: each gives so much that a small share costs a single call."""


@dataclass(frozen=True, slots=True)
class Relative:
    """Comparison with the baseline at the same time."""

    limit: float = 1.5
    """Ratio that is a regression."""
    tolerate: float = 1.1
    """Ratio that is still fine: evidence must exclude it for a Fail."""
    excluded: float = 2.0
    """Ratio that evidence must exclude for a Pass."""
    slack: float = 0.0
    """Difference of rates that does not matter for a Pass, however large the ratio."""


@dataclass(frozen=True, slots=True)
class RatioCheck:
    """Bad calls of all calls. Rates are shares of *bad* calls, also where users think in good."""

    name: str
    metric: str
    total: Selector
    bad: Selector | None = None
    good: Selector | None = None
    """Instead of `bad`: what is not good is bad."""
    limit: Bound | None = None
    """The rollback level."""
    gate: Bound | None = None
    alert: Bound | None = None
    relative: Relative | None = None
    severe: float | None = None
    """Rate of a total failure, convicted faster than the bound on bursts allows."""
    min_samples: int | None = None
    warm_up: float = 0.0
    """Seconds at the start of a phase that do not count."""
    late: bool = False
    """Labels of calls that may have ended long ago: it counts when the label comes."""
    deadline: float | None = None
    """Instead of `bad`: a call in `total` (calls begun) is bad when `good` (calls answered) has not
    caught up with it after so many seconds."""
    alone: bool = False
    """What counts as bad is the candidate's own: the baseline's rate neither excuses nor accuses
    it. (Answers by a model that the candidate does not pin; the baseline may pin it.)"""

    @property
    def level(self) -> CheckLevel:
        """The most that the rate may do. The ratio to the baseline always takes back."""
        return level_of(self.limit, self.gate)

    @property
    def reference(self) -> Bound | None:
        """The rate that is tested: the rollback level, else where the gate ends."""
        return reference_of(self.limit, self.gate)

    def selectors(self) -> tuple[Selector, ...]:
        """Series that must be fetched."""
        return tuple(s for s in (self.total, self.bad, self.good) if s is not None)

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The selectors a series belongs to, as text; with a deadline by pod: ``<selector>|pod``."""
        found = tuple(str(s) for s in self.selectors() if s.accepts(name, labels))
        if self.deadline is None or not found:
            return found
        pod = labels.get("pod") or labels.get("instance") or ""
        return tuple(f"{part}|{pod}" for part in found)

    @property
    def ratio_weight(self) -> float:
        """Weight of the test against the baseline."""
        return 1.0 if self.relative is None else RELATIVE_WEIGHT

    def tests(self, level: Literal["rollback", "alert"]) -> float:
        """Tests against chance that share the error rate of `level`, by weight."""
        if level == "alert":
            return float(self.alert is not None)
        absolute = 0.0 if self.limit is None else 1.0
        severe = 0.0 if self.limit is None or self.severe is None else SEVERE_WEIGHT
        return absolute + severe + (0.0 if self.relative is None else RELATIVE_WEIGHT)


@dataclass(slots=True)
class RatioState:
    """All that a ratio check remembers."""

    trials: dict[str, Trial]
    """Evidence against the candidate: rate, ratio, alert, severe, severe-ratio."""
    clear: dict[str, Clearance]
    """Evidence for it: rate, ratio."""
    phase: Counts = field(default_factory=Counts)
    unpaired: Counts = field(default_factory=Counts)
    """Calls of one arm that wait for calls of the other at about the same time."""
    baseline_fresh: bool = False
    baseline_seen: bool = False
    failed: tuple[CheckVerdict, ...] = ()
    pending: dict[Arm, Pending] = field(default_factory=dict)
    """Calls without an answer, where the check has a deadline."""

    def copy(self) -> RatioState:
        """An independent copy."""
        return RatioState(
            {name: trial.copy() for name, trial in self.trials.items()},
            {name: clearance.copy() for name, clearance in self.clear.items()},
            self.phase,
            self.unpaired,
            self.baseline_fresh,
            self.baseline_seen,
            self.failed,
            {arm: pending.copy() for arm, pending in self.pending.items()},
        )
