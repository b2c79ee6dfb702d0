"""What a phase is judged by: fixed when the phase starts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from phasegate.engine.amounts import Amount
from phasegate.engine.checks import CheckSpec
from phasegate.engine.kinds.base import Settings
from phasegate.engine.prices import Priced
from phasegate.engine.selectors import Selector
from phasegate.engine.sources import AGENT_CONTRACT


@dataclass(frozen=True, slots=True)
class EvidencePlan:
    """A phase's evidence: times in unix seconds, durations in seconds."""

    phase: str
    start: float
    """Increments count from here on. Feed samples from `LOOKBACK_SECONDS` before it."""
    planned_seconds: float
    alpha: float
    """Chance that a healthy candidate is ever rolled back in this phase, all checks together."""
    beta: float
    """Chance, per check, that a candidate at the rollback level ever passes."""
    min_samples: int
    min_seconds: float
    stale_seconds: float
    """Without a fresh sample for this long there is no verdict."""
    checks: tuple[CheckSpec, ...]
    volume: Selector = AGENT_CONTRACT.calls
    """What counts calls, for the minimum of samples and the measured share."""
    spend: Amount | Priced | None = None
    """What the calls cost in US dollars, where a budget asks for it."""
    lasting: bool = False
    """Series outlive revisions (they are of a place in the route): what one had counted before it
    was first seen is not this candidate's."""
    dispersion: tuple[tuple[str, float], ...] = ()
    """Per check, from the baseline's history (see dispersion.py); absent is one."""

    @property
    def fingerprint(self) -> str:
        """Identity of the plan: stored state of another plan does not fit.

        Without the dispersion: that is measured, and a phase keeps what it began with.
        """
        plain = replace(self, dispersion=())
        return hashlib.blake2b(repr(plain).encode(), digest_size=8).hexdigest()

    @property
    def settings(self) -> Settings:
        """The numbers the checks need."""
        return Settings(
            start=self.start,
            planned_seconds=self.planned_seconds,
            alpha=self.alpha,
            beta=self.beta,
            min_samples=self.min_samples,
            stale_seconds=self.stale_seconds,
            rollback_tests=sum(check.tests("rollback") for check in self.checks),
            alert_tests=sum(check.tests("alert") for check in self.checks),
            dispersion=self.dispersion,
        )
