"""What the engine says: three values, a reason from a documented list, and the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

CheckLevel = Literal["rollback", "gate", "alert", "info"]


class Verdict(StrEnum):
    """Inconclusive means: hold. It is never a reason to advance or to roll back."""

    PASS = "Pass"  # noqa: S105
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"


class Reason(StrEnum):
    """Why a verdict is what it is. Each value is stable: people alert on it."""

    BREACHED = "Breached"
    """Beyond the limit, and beyond chance."""
    ALERT_BREACHED = "AlertBreached"
    """An alert level is breached, beyond chance: holds, never rolls back."""
    WITHIN_LIMIT = "WithinLimit"
    """Inside the gate, and the rollback level is excluded beyond chance."""
    NO_DATA = "NoData"
    """No fresh samples, or none at all."""
    NO_PRICE = "NoPrice"
    """A model answered that the price table does not know, so its cost cannot be told."""
    NO_EDGE = "NoEdge"
    """The histogram has no bucket edge where the level could be tested."""
    TOO_FEW_SAMPLES = "TooFewSamples"
    MIN_DURATION = "MinDuration"
    """Everything passes; the phase's minimum duration is not over."""
    SHARED_CAUSE = "SharedCause"
    """Beyond the limit, and so is the baseline: not the candidate's fault."""
    OUTSIDE_GATE = "OutsideGate"
    """The estimate is not inside the gate."""
    WORSENING = "Worsening"
    """The latest calls are beyond the limit, whatever the phase looks like as a whole."""
    STILL_UNCERTAIN = "StillUncertain"
    """Too little evidence either way."""
    INFORMATION = "Information"
    """The metric has no level: shown, never judged."""


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """One check's verdict with its numbers. Rates are fractions, times unix seconds."""

    check: str
    metric: str
    level: CheckLevel
    verdict: Verdict
    reason: Reason
    message: str
    """One sentence with the numbers, without the check's name."""
    estimate: float | None = None
    """A rate (absolute check), a ratio to the baseline (relative), a count (event) or a value."""
    interval: tuple[float, float] | None = None
    """95 % anytime-valid interval of the estimate."""
    bad: float = 0.0
    total: float = 0.0
    baseline_bad: float = 0.0
    baseline_total: float = 0.0
    limit: float | None = None
    """What `estimate` is compared with."""
    since: float | None = None
    """Onset: where the stretch begins that speaks most against the candidate."""
    odds: float | None = None
    """Evidence against chance, to one; compare with checks / falseRollbackRate."""
    warning: str = ""
    """Early warning: the trend that speaks against the candidate though nothing is breached."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict about a phase. Fail is final for the phase."""

    verdict: Verdict
    reason: Reason
    message: str
    checks: tuple[CheckVerdict, ...]
    at: float
    """Scrape time of the newest sample used; the phase's start if there is none."""
    candidate_calls: float
    baseline_calls: float
    candidate_fresh: bool
    baseline_fresh: bool
    spent: float | None = None
    """US dollars the candidate's calls have cost in the phase; None: not asked for, or not known."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Early warnings, one sentence each: what gets worse though nothing is breached."""
        return tuple(f"{check.check}: {check.warning}" for check in self.checks if check.warning)
