"""A small world for `decide`: it carries out decisions the way the cluster would, write by write.

Nothing here judges: tests say what the evidence says, which pods come up, and when the operator dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from phasegate.api.agentdeployment import (
    Agent,
    AgentDeploymentSpec,
    AgentDeploymentStatus,
    Phase,
    Strategy,
)
from phasegate.api.agentrollout import AgentRolloutStatus
from phasegate.api.base import Meta
from phasegate.api.rolloutaction import RolloutActionSpec, RolloutActionStatus, Verb
from phasegate.api.traffic import GatewayApi, ParentRef, Service, Traffic
from phasegate.engine.verdict import CheckVerdict, Judgement, Verdict
from phasegate.engine.verdict import Reason as Verdicts
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.chain import Origin
from phasegate.rollout.decide import decide
from phasegate.rollout.decision import Announcement, Children, Decision, RolloutPlan
from phasegate.rollout.labels import FINALIZER
from phasegate.rollout.late import waits_for_labels
from phasegate.rollout.observed import (
    ActionSeen,
    Capabilities,
    Measured,
    Observed,
    PolicySeen,
    Revision,
    RouteSeen,
    Settings,
    Workload,
)
from phasegate.rollout.reasons import Reason
from phasegate.rollout.recording import merged
from phasegate.rollout.route import Mode, RoutePlan

START = datetime(2026, 1, 1, tzinfo=UTC)
PHASES = (
    Phase(name="dark", type="Dark", mirror_percent=100, min_duration="10s", min_samples=5),
    Phase(name="shadow", type="Shadow", mirror_percent=50, min_duration="10s", min_samples=5),
    Phase(name="canary-5", type="Canary", weight=5, min_duration="10s", min_samples=5),
    Phase(name="canary-50", type="Canary", weight=50, min_duration="10s", min_samples=5),
    Phase(name="full", type="Full", min_duration="10s", min_samples=5),
)


def make_spec(
    phases: tuple[Phase, ...] = PHASES, replicas: int = 2, **more: object
) -> AgentDeploymentSpec:
    """A valid spec with the given phases."""
    base = AgentDeploymentSpec(
        exposure="Internal",  # whoever wrote a revision may approve it, if nothing else is said
        agent=Agent(side_effects="DryRun"),
        template={"spec": {"containers": [{"name": "agent", "image": "agent"}]}},
        replicas=replicas,
        service=Service(port=8080),
        traffic=Traffic(gateway_api=GatewayApi(parent_refs=(ParentRef(name="gw"),))),
        strategy=Strategy(phases=phases),
    )
    return base.model_copy(update=more)


def make_revision(letter: str) -> Revision:
    """A revision whose hash is one letter repeated."""
    return Revision(hash=letter * 10, digest="sha256:" + letter.encode().hex()[0] * 64, snapshot={})


def judged(
    verdict: Verdict,
    at: float = 0.0,
    *,
    alerts: Iterable[str] = (),
    warning: str = "",
    calls: float = 100,
    spent: float | None = None,
) -> Judgement:
    """A judgement with one rollback-level check, and alerts that are breached."""
    check = CheckVerdict(
        check="error-rate",
        metric="error-rate",
        level="rollback",
        verdict=verdict,
        reason=Verdicts.BREACHED if verdict is Verdict.FAIL else Verdicts.WITHIN_LIMIT,
        message=f"candidate {verdict}",
        estimate=0.3,
        interval=(0.2, 0.4),
        bad=30,
        total=100,
        baseline_bad=1,
        baseline_total=100,
        limit=0.05,
        since=None,
        odds=5000.0,
        warning=warning,
    )
    breached = tuple(
        replace(
            check,
            check=f"{name}-alert",
            metric=name,
            level="alert",
            verdict=Verdict.FAIL,
            reason=Verdicts.ALERT_BREACHED,
            message="candidate 2% (20/1000), alert level 1%",
            warning="",
        )
        for name in alerts
    )
    holds = bool(breached) and verdict is not Verdict.FAIL
    return Judgement(
        verdict=Verdict.INCONCLUSIVE if holds else verdict,
        reason=Verdicts.ALERT_BREACHED if holds else check.reason,
        message=breached[0].message if holds else check.message,
        checks=(check, *breached),
        at=at,
        candidate_calls=calls,
        baseline_calls=100,
        candidate_fresh=True,
        baseline_fresh=True,
        spent=spent,
    )


@dataclass
class World:
    """The cluster's side of one AgentDeployment, and the clock."""

    spec: AgentDeploymentSpec = field(default_factory=make_spec)
    target: Revision = field(default_factory=lambda: make_revision("a"))
    now: datetime = START
    status: AgentDeploymentStatus = field(default_factory=AgentDeploymentStatus)
    generation: int = 1
    finalizers: tuple[str, ...] = ()
    deleted: datetime | None = None
    revisions: dict[str, Revision] = field(default_factory=dict)
    stable_service: str | None = None
    route: RoutePlan | None = None
    programmed: bool = True
    workloads: dict[tuple[str, Mode], Workload] = field(default_factory=dict)
    records: dict[str, AgentRolloutStatus] = field(default_factory=dict)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the records, as they were created."""
    verdict: Verdict | None = Verdict.PASS
    alerts: set[str] = field(default_factory=set)
    """Metrics whose alert is breached."""
    warning: str = ""
    calls: float = 100
    spent: float | None = None
    late: Verdict | None = None
    """What late labels say of the stable revision; None: nobody waits for any."""
    measured: Measured | None = None
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(mirror=True, mirror_percent=True, source="test")
    )
    policy: PolicySeen = field(default_factory=lambda: PolicySeen(None))
    calendar: Calendar = field(default_factory=Calendar)
    spec_problem: str | None = None
    identity_problem: str | None = None
    pods_start: bool = True
    unready: set[str] = field(default_factory=set)
    room: int = 100
    """Pods of one workload that can be ready at most."""
    actions: list[ActionSeen] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    """What each action was told."""
    said: list[Announcement] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    writes: int = 0

    def observe(self) -> Observed:
        """What a reconcile sees now."""
        progress = self.status.progress
        judgement, late = None, None
        if progress is not None and self.verdict is not None:
            judgement = judged(
                self.verdict,
                self.now.timestamp(),
                alerts=sorted(self.alerts),
                warning=self.warning,
                calls=self.calls,
                spent=self.spent,
            )
        elif self.late is not None and waits_for_labels(self.status, self.now):
            late = judged(self.late, self.now.timestamp(), warning=self.warning)
        current = self.status.current_rollout
        return Observed(
            meta=Meta(
                name="bot",
                namespace="team",
                uid="u1",
                generation=self.generation,
                resource_version="1",
                created=START,
                deleted=self.deleted,
                finalizers=self.finalizers,
            ),
            spec=self.spec,
            spec_problem=self.spec_problem,
            spec_reason=Reason.INVALID_SPEC,
            status=self.status,
            target=self.target,
            revisions=dict(self.revisions),
            stable_service=self.stable_service,
            policy=self.policy,
            workloads=tuple(self.workloads.values()),
            route=RouteSeen(self.route, self.programmed, "", self.capabilities),
            rollout=self.records.get(current) if current else None,
            judgement=judgement,
            late=late,
            measured=self.measured,
            calendar=self.calendar,
            actions=tuple(self.actions),
            identity_problem=self.identity_problem,
        )

    def step(self, survive: int | None = None) -> Decision:
        """One reconcile; with `survive`, the operator dies after that many of its writes."""
        decision = decide(self.observe(), self.now, self.settings)
        for count, write in enumerate(self._writes(decision)):
            if survive is not None and count >= survive:
                break
            write()
            self.writes += 1
        self._pods()
        return decision

    def run(self, steps: int = 60, each: timedelta = timedelta(seconds=5)) -> None:
        """Reconcile and let time pass."""
        for _ in range(steps):
            self.step()
            self.now += each

    def until(self, phase: str, steps: int = 80) -> None:
        """Run until the status says `phase`."""
        for _ in range(steps):
            if self.status.phase == phase:
                return
            self.step()
            self.now += timedelta(seconds=2)
        raise AssertionError(
            f"never reached {phase}; it is {self.status.phase}: {self.status.message}"
        )

    def edit(self, target: Revision) -> None:
        """The user changes the spec so that it describes `target`."""
        self.target = target
        self.generation += 1

    def act(
        self, verb: Verb, revision: str | None = None, actor: str = "alice", **more: object
    ) -> str:
        """A person decides; the name of the action."""
        name = f"act-{len(self.actions) + len(self.outcomes)}"
        about = revision or self.status.candidate_revision or self.target.hash
        told = {"agent": "bot", "verb": verb, "revision": about, "reason": "because"}
        spec = RolloutActionSpec.model_validate({**told, "actor": actor, **more})
        self.actions.append(ActionSeen(name, f"uid-{name}", self.now, spec))
        return name

    def share(self, revision: str) -> int:
        """Percent of the users' requests that `revision` is meant to get."""
        return self.route.percent(revision) if self.route is not None else 0

    def _writes(self, decision: Decision) -> list[Callable[[], object]]:
        """The writes of a decision in the executor's order."""
        out: list[Callable[[], object]] = []
        if decision.route is not None and decision.route != self.route:
            out.append(partial(setattr, self, "route", decision.route))
        if decision.remove_route and self.route is not None:
            out.append(partial(setattr, self, "route", None))
        if decision.status != self.status:
            out.append(partial(setattr, self, "status", decision.status))
        if decision.finalizer != "keep":
            out.append(partial(self._set_finalizer, decision.finalizer == "add"))
        if decision.store is not None:
            out.append(partial(self.revisions.__setitem__, decision.store.hash, decision.store))
        if decision.children is not None:
            out.append(partial(self._children, decision.children))
        for plan in decision.rollouts:
            out.append(partial(self._record, plan))
        for outcome in decision.outcomes:
            out.append(partial(self._outcome, outcome.name, outcome.status))
        out.append(partial(self.said.extend, decision.announcements))
        return out

    def _record(self, plan: RolloutPlan) -> None:
        spec = plan.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        origin = Origin("team", plan.name, self.specs.setdefault(plan.name, spec))
        known = self.records.get(plan.name, AgentRolloutStatus())
        self.records[plan.name] = merged(known, plan.status, origin)

    def stored_records(self) -> list[dict[str, Any]]:
        """The records as objects of the API server."""
        return [
            {
                "kind": "AgentRollout",
                "metadata": {"namespace": "team", "name": name},
                "spec": self.specs[name],
                "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
            }
            for name, status in self.records.items()
        ]

    def _set_finalizer(self, present: bool) -> None:
        self.finalizers = (FINALIZER,) if present else ()

    def _outcome(self, name: str, status: RolloutActionStatus) -> None:
        self.outcomes[name] = status.outcome or ""
        self.answers[name] = status.message
        self.actions = [a for a in self.actions if a.name != name]

    def _children(self, children: Children) -> None:
        self.stable_service = children.stable_service
        wanted = {(w.revision, w.mode): w.replicas for w in children.workloads}
        for key in set(self.workloads) - set(wanted):
            assert self.route is None or key not in self.route.revisions(), (
                f"{key} went before its traffic"
            )
            del self.workloads[key]
        for (revision, mode), replicas in wanted.items():
            old = self.workloads.get((revision, mode), Workload(revision, mode, 0, 0))
            self.workloads[(revision, mode)] = replace(old, desired=replicas)

    def _pods(self) -> None:
        for key, workload in self.workloads.items():
            up = self.pods_start and workload.revision not in self.unready
            self.workloads[key] = replace(
                workload, ready=min(workload.desired, self.room) if up else 0
            )
