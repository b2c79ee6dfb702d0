"""What is judged in a phase: the policy in force, the evidence plan, and whether the split is real."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

from phasegate.api.agentdeployment import (
    AgentDeploymentSpec,
    AgentDeploymentStatus,
    Phase,
    Progress,
)
from phasegate.api.quantities import parse_duration, parse_percent
from phasegate.api.rollbackpolicy import Baseline, Level, Metric, RollbackPolicySpec
from phasegate.engine.compiling import Context, compile_checks, money_of
from phasegate.engine.evidence import EvidencePlan
from phasegate.engine.prices import PriceTable
from phasegate.engine.sources import SOURCES
from phasegate.rollout.late import labels_until
from phasegate.rollout.observed import Measured
from phasegate.rollout.phases import budget_of, mirrors, weight_of
from phasegate.rollout.rollback import AFTERWARDS

BETA = 0.05
"""Chance that a candidate at the rollback level passes a gate (statistics: Pass is a proof of its own)."""
STALE_SECONDS = 120.0
"""Without a fresh sample for this long there is no verdict."""
SHARE_SAMPLES = 200
"""Answered calls before the measured share says anything about the split."""
SHARE_SIGMAS = 4.0


def default_policy(spec: AgentDeploymentSpec) -> RollbackPolicySpec:
    """The policy of an agent that names none; an internal agent has a lower bar (R5, seed 002/003/004)."""
    internal = spec.exposure == "Internal"
    error, escalation = ("15%", "60%") if internal else ("5%", "50%")
    return RollbackPolicySpec(
        metrics=(
            Metric(
                name="error-rate",
                gate=Level(below=error),
                rollback=Level(above=error, window="30m"),
                baseline=Baseline(),
            ),
            Metric(name="escalation-rate", rollback=Level(above=escalation, window="15m")),
            Metric(name="safety-flags", rollback=Level(above="0")),
        )
    )


def compile_context(spec: AgentDeploymentSpec, prices: PriceTable | None = None) -> Context:
    """What compiling a policy needs to know of the agent, and of the administrator's prices."""
    return Context(None if spec.agent.model is None else spec.agent.model.name, prices)


def evidence_plan(
    spec: AgentDeploymentSpec,
    policy: RollbackPolicySpec | None,
    progress: Progress,
    prices: PriceTable | None = None,
) -> EvidencePlan:
    """The evidence plan of the running phase.

    Evidence counts from the moment the phase was decided, so that nothing between two phases goes
    unjudged. Raises InvalidSpec if the policy cannot be compiled.
    """
    policy, context = policy or default_policy(spec), compile_context(spec, prices)
    plan = phase_plan(policy, context, progress.phase, progress.entered_at)
    budget = budget_of(progress.phase, spec.strategy)
    money = budget is not None and budget.cost is not None
    return replace(plan, spend=money_of(policy.source, context)) if money else plan


def phase_plan(
    policy: RollbackPolicySpec, context: Context, phase: Phase, entered_at: datetime
) -> EvidencePlan:
    """The evidence plan of a phase of anybody's. Raises InvalidSpec as `evidence_plan` does."""
    seconds = parse_duration(phase.min_duration).total_seconds()
    return EvidencePlan(
        phase=f"{phase.name}@{entered_at.isoformat()}",
        start=entered_at.timestamp(),
        planned_seconds=max(seconds, 60.0),
        alpha=parse_percent(policy.false_rollback_rate),
        beta=BETA,
        min_samples=phase.min_samples,
        min_seconds=seconds,
        stale_seconds=STALE_SECONDS,
        checks=compile_checks(policy, context),
        volume=SOURCES[policy.source].calls,
    )


def late_plan(
    spec: AgentDeploymentSpec,
    policy: RollbackPolicySpec | None,
    status: AgentDeploymentStatus,
    prices: PriceTable | None = None,
) -> EvidencePlan | None:
    """What labels that arrive after an attempt's success are judged by; None if none can come.

    Raises InvalidSpec if the policy cannot be compiled.
    """
    until, gate = labels_until(status), status.last_gate
    if until is None or gate is None:
        return None
    policy = policy or default_policy(spec)
    checks = tuple(c for c in compile_checks(policy, compile_context(spec, prices)) if c.late)
    if not checks:
        return None
    return EvidencePlan(
        phase=f"{AFTERWARDS}@{gate.at.isoformat()}",
        start=gate.at.timestamp(),
        planned_seconds=(until - gate.at).total_seconds(),
        alpha=parse_percent(policy.false_rollback_rate),
        beta=BETA,
        min_samples=0,
        min_seconds=0.0,
        stale_seconds=STALE_SECONDS,
        checks=checks,
        volume=SOURCES[policy.source].calls,
    )


def share_problem(phase: Phase, measured: Measured | None) -> str | None:
    """Why the share that was measured is not the share that was asked for; None if it is, or can't be told yet.

    A binomial share's standard error is sqrt(p(1-p)/n); a quarter of the share and half a point on
    top are allowed for sessions that stick. A mirror is best effort: only too few copies count.
    """
    if measured is None:
        return None
    if mirrors(phase):
        asked = (phase.mirror_percent or 100) / 100
        if measured.stable < SHARE_SAMPLES or measured.candidate >= asked * measured.stable / 2:
            return None
        return (
            f"{measured.candidate:.0f} of {measured.stable:.0f} requests were mirrored, "
            f"{phase.mirror_percent or 100}% were asked for"
        )
    total = measured.candidate + measured.stable
    asked = weight_of(phase) / 100
    if total < SHARE_SAMPLES:
        return None
    share = measured.candidate / total
    if (
        abs(share - asked)
        <= SHARE_SIGMAS * math.sqrt(asked * (1 - asked) / total) + asked / 4 + 0.005
    ):
        return None
    return f"the candidate answered {share:.1%} of {total:.0f} calls, {asked:.0%} was asked for"
