"""What a reconcile saw: one immutable value, all that `decide` may know besides the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.agentrollout import AgentRolloutSpec, AgentRolloutStatus
from phasegate.api.base import Meta
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.api.rolloutaction import RolloutActionSpec
from phasegate.engine.prices import PriceTable
from phasegate.engine.verdict import Judgement
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.notifiers import Known
from phasegate.rollout.reasons import Reason
from phasegate.rollout.route import Mode, RoutePlan


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable revision of an agent: `hash` names its children, `digest` identifies it."""

    hash: str
    digest: str
    snapshot: Mapping[str, Any] = field(repr=False)
    """``{"agent": …, "template": …, "service": …, "configMaps": {name/key: content}}``, canonical."""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """One Deployment (with its Service) of a revision in one mode."""

    revision: str
    mode: Mode
    desired: int
    ready: int
    problem: str | None = None
    """Why it does not become ready, in Kubernetes' own words (image, quota, crash), if that is known."""

    def serves(self, replicas: int) -> bool:
        """True when at least `replicas` pods are ready."""
        return self.ready >= replicas


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the router in front of the agent can do."""

    weights: bool = True
    mirror: bool = False
    mirror_percent: bool = False
    source: str = ""
    """Where this is known from, for the message: supportedFeatures, built-in table, configuration."""


@dataclass(frozen=True, slots=True)
class RouteSeen:
    """The route as it is at the API server."""

    plan: RoutePlan | None
    """None: there is no route yet, or it is not readable as one of ours."""
    programmed: bool
    """Accepted and ResolvedRefs are True for the current generation at every parent."""
    message: str
    """Why it is not programmed, in the gateway's own words."""
    capabilities: Capabilities
    edited: str = ""
    """Who has changed the route since we wrote it, if somebody has."""
    contested: str = ""
    """Who changes it again and again, in a sentence; while it is so, what can wait is not corrected."""


@dataclass(frozen=True, slots=True)
class PolicySeen:
    """The policy in force, or why there is none."""

    spec: RollbackPolicySpec | None
    problem: str | None = None
    """A sentence for the user: not found, or invalid with the field and the fix."""
    reason: Reason = Reason.POLICY_NOT_FOUND
    """The reason that goes with `problem`."""
    prices: PriceTable | None = None
    """What tokens cost, where the administrator says so."""


@dataclass(frozen=True, slots=True)
class ActionSeen:
    """A person's decision that has no outcome yet, oldest first."""

    name: str
    uid: str
    """Tells it from an earlier one of the same name."""
    created: datetime
    spec: RolloutActionSpec


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """The record of an attempt, of this agent or of one that had its name before."""

    name: str
    spec: AgentRolloutSpec
    status: AgentRolloutStatus
    mine: bool
    """It belongs to this very agent, by uid."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Calls that were really answered since the running phase's traffic was in place."""

    candidate: float
    stable: float


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision rests on."""

    meta: Meta
    spec: AgentDeploymentSpec | None
    spec_problem: str | None
    """What is wrong with the spec, if `spec` is None or cannot be carried out (dry run refused, ConfigMap missing)."""
    spec_reason: Reason
    """The reason that goes with `spec_problem`."""
    status: AgentDeploymentStatus
    target: Revision | None
    """The revision that the spec describes; None if it cannot be determined."""
    revisions: Mapping[str, Revision]
    """Stored revisions by hash."""
    stable_service: str | None
    """Revision that the Service of the agent's own name selects, if it exists."""
    policy: PolicySeen
    workloads: tuple[Workload, ...]
    route: RouteSeen
    rollout: AgentRolloutStatus | None
    """The current attempt's record (of `status.current_rollout`), if it exists."""
    records: tuple[RecordSeen, ...] = ()
    """All records of the agent's name, oldest first; read where an attempt may start, or the status was lost."""
    judgement: Judgement | None = None
    late: Judgement | None = None
    """What labels say that arrive after the attempt has ended well; None when nobody waits for any."""
    measured: Measured | None = None
    calendar: Calendar = field(default_factory=Calendar)
    """When the agent may go forward; always, where nothing is said."""
    plan: tuple[str, ...] = ()
    """What the running attempt's phases will take and catch, a line each; empty while that is not known."""
    actions: tuple[ActionSeen, ...] = ()
    partial: bool = False
    """Too little was read for anything but taking traffic back."""
    pods_seen: bool = True
    """False: nobody looked at them, so nothing follows from there being none."""
    unread: str | None = None
    """What could not be read now, in a sentence: nothing that rests on it is done, and it is read again soon."""
    fallback_problem: str | None = None
    """Why the Service that should answer for a deactivated agent cannot, in a sentence; read where that matters."""
    identity_problem: str | None = None
    """Why nobody's identity is enforced (admission policies missing or changed): no action is accepted then."""

    def workload(self, revision: str | None, mode: Mode) -> Workload | None:
        """The workload of `revision` in `mode`, if it exists."""
        return next((w for w in self.workloads if w.revision == revision and w.mode == mode), None)


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's own settings that decisions depend on."""

    refresh: timedelta = timedelta(seconds=10)
    """How often a running attempt is looked at when nothing happens."""
    poll: timedelta = timedelta(seconds=1)
    """How soon to look again while waiting for something that also sends an event (pods, the route)."""
    linger: timedelta = timedelta(seconds=30)
    """How long a revision that lost its traffic keeps running, for requests in flight."""
    notifiers: Known | None = None
    """What agents may name; None: that is not known here, and nothing is said about it."""
