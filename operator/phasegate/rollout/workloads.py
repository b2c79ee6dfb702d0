"""Which Deployments should exist, and how many pods each has."""

from __future__ import annotations

import math
from datetime import datetime

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus, Phase
from phasegate.rollout.decision import Children, WorkloadPlan
from phasegate.rollout.observed import Observed
from phasegate.rollout.phases import mode_of, weight_of
from phasegate.rollout.route import Mode, RoutePlan


def full_size(spec: AgentDeploymentSpec, status: AgentDeploymentStatus) -> int:
    """Pods for all users: what the spec says, and during an attempt no fewer than when it began.

    An autoscaler that sees the stable revision's pods idle must not take away what a rollback needs.
    """
    return max(spec.replicas, status.base_replicas or 0)


def candidate_workload(
    spec: AgentDeploymentSpec, status: AgentDeploymentStatus, phase: Phase, revision: str
) -> WorkloadPlan:
    """The candidate's workload in `phase`, in proportion to the share it is given."""
    share = (phase.mirror_percent or 100) if weight_of(phase) == 0 else weight_of(phase)
    wanted = math.ceil(full_size(spec, status) * share / 100)
    return WorkloadPlan(revision, mode_of(phase, spec), max(1, wanted))


def children_for(
    seen: Observed,
    spec: AgentDeploymentSpec,
    status: AgentDeploymentStatus,
    route: RoutePlan | None,
    now: datetime,
) -> Children:
    """All children that should exist under `status`.

    Whatever the live route, or the one about to be written, still refers to stays as it is: pods go
    after their traffic, never before.
    """
    plans: dict[tuple[str, Mode], int] = {}

    def want(revision: str, mode: Mode, replicas: int) -> None:
        plans[(revision, mode)] = max(replicas, plans.get((revision, mode), 0))

    stable, candidate = status.stable_revision, status.candidate_revision
    if stable is not None:
        want(stable, "live", full_size(spec, status))
    if previous_is_warm(status, now) and status.previous_revision is not None:
        want(status.previous_revision, "live", full_size(spec, status))
    if candidate is not None and status.progress is not None:
        plan = candidate_workload(spec, status, status.progress.phase, candidate)
        want(plan.revision, plan.mode, plan.replicas)
    in_use = {
        used for plan in (seen.route.plan, route) if plan is not None for used in plan.revisions()
    }
    for workload in seen.workloads:
        if (workload.revision, workload.mode) in in_use or not seen.route.programmed:
            plans.setdefault((workload.revision, workload.mode), workload.desired)
    keep = {revision for revision, _ in plans} | {
        r for r in (stable, candidate, status.previous_revision) if r
    }
    if seen.target is not None:
        keep.add(seen.target.hash)
    if seen.unread is not None:
        keep.update(seen.revisions)  # the spec may describe one of them
    return Children(
        stable_service=stable,
        workloads=tuple(WorkloadPlan(r, m, n) for (r, m), n in sorted(plans.items())),
        keep_revisions=frozenset(keep),
    )


def previous_is_warm(status: AgentDeploymentStatus, now: datetime) -> bool:
    """True while the revision before the stable one is kept running."""
    return status.previous_warm_until is not None and now < status.previous_warm_until
