"""The plan before a rollout: how long each gate takes, what it catches when, what cannot decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from phasegate.api.agentdeployment import AgentDeploymentSpec, Phase, Progress
from phasegate.api.quantities import parse_duration
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.engine.forecast import CheckForecast, Setting, Usual, Wait, foresee
from phasegate.engine.messages import stretch
from phasegate.engine.prices import PriceTable
from phasegate.rollout.judging import evidence_plan
from phasegate.rollout.phases import mirrors, phases_of, weight_of

_NOWHEN: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""A forecast does not depend on when a phase begins."""
_MOST_WARNINGS: Final = 3


@dataclass(frozen=True, slots=True)
class Traffic:
    """The agent's traffic as it is today, or as it is supposed to be."""

    calls: float
    """Of users, per second."""
    scrape_seconds: float = 15.0
    usual: Mapping[str, Usual] = field(default_factory=dict)
    """By metric; one that is not there is assumed."""


@dataclass(frozen=True, slots=True)
class PhaseForecast:
    """What to expect of one phase."""

    phase: Phase
    candidate: float
    """Calls a second that the candidate answers."""
    baseline: float
    min_seconds: float
    checks: tuple[CheckForecast, ...]

    @property
    def passes(self) -> Wait | None:
        """Until the gate is passed while all is as usual; None: never, see `never`."""
        if self.never:
            return None
        wait = Wait(self.min_seconds, self.min_seconds)
        for check in self.checks:
            wait = (
                wait if check.passes is None or check.level == "info" else wait.longer(check.passes)
            )
        return wait

    @property
    def never(self) -> tuple[str, ...]:
        """Why the gate can never be passed: one sentence for each check that it needs."""
        return tuple(
            f"{check.check}: {check.never}"
            for check in self.checks
            if check.never and check.level in ("rollback", "gate")
        )

    @property
    def line(self) -> str:
        """All of it in one line, for a status."""
        wait = self.passes
        if wait is None:
            found = "; ".join(self.never[:_MOST_WARNINGS])
            more = f" (and {len(self.never) - _MOST_WARNINGS} more)" if len(self.never) > 3 else ""
            return f"{self.phase.name}: cannot pass: {found}{more}"
        text = f"{self.phase.name}: passes after {stretch(wait.usual)}"
        if wait.slow > 1.05 * wait.usual:
            text += f" ({stretch(wait.slow)} in 9 of 10)"
        soonest = [
            f"{check.check} {catch.what} in {stretch(catch.seconds)}"
            for check in self.checks
            for catch in check.catches[:1]
            if catch.seconds is not None
        ]
        return text + (f"; catches {', '.join(soonest[:_MOST_WARNINGS])}" if soonest else "")


def forecast(
    spec: AgentDeploymentSpec,
    policy: RollbackPolicySpec | None,
    traffic: Traffic,
    prices: PriceTable | None = None,
) -> tuple[PhaseForecast, ...]:
    """The plan of a whole strategy. Raises InvalidSpec if the policy cannot be compiled."""
    return tuple(_phase(spec, policy, phase, traffic, prices) for phase in phases_of(spec.strategy))


def _phase(
    spec: AgentDeploymentSpec,
    policy: RollbackPolicySpec | None,
    phase: Phase,
    traffic: Traffic,
    prices: PriceTable | None,
) -> PhaseForecast:
    plan = evidence_plan(spec, policy, Progress(phase=phase, entered_at=_NOWHEN), prices)
    candidate, baseline = split_calls(phase, traffic.calls)
    most = phase.max_duration
    setting = Setting(
        settings=plan.settings,
        candidate=candidate,
        baseline=baseline,
        scrape_seconds=traffic.scrape_seconds,
        most_seconds=None if most is None else parse_duration(most).total_seconds(),
    )
    checks = tuple(
        foresee(check, setting, traffic.usual.get(check.metric, Usual())) for check in plan.checks
    )
    return PhaseForecast(phase, candidate, baseline, plan.min_seconds, checks)


def split_calls(phase: Phase, calls: float) -> tuple[float, float]:
    """Calls a second of candidate and baseline in a phase."""
    if mirrors(phase):
        return calls * (phase.mirror_percent or 100) / 100, calls
    share = weight_of(phase) / 100
    return calls * share, calls * (1 - share)
