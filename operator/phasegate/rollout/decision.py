"""What a reconcile should do: one immutable value. Execution order is route → status → the rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import AgentRolloutSpec, AgentRolloutStatus
from phasegate.api.records import Told
from phasegate.api.rolloutaction import RolloutActionStatus
from phasegate.rollout.observed import Revision
from phasegate.rollout.route import Mode, RoutePlan


@dataclass(frozen=True, slots=True)
class WorkloadPlan:
    """A Deployment and Service that should exist."""

    revision: str
    mode: Mode
    replicas: int


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """The record of an attempt, as it should be: created if missing, its status as given."""

    name: str
    spec: AgentRolloutSpec
    status: AgentRolloutStatus
    over: bool = False
    """Nothing is judged by it any more: its evidence goes."""


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """What becomes of a person's decision."""

    name: str
    status: RolloutActionStatus


@dataclass(frozen=True, slots=True)
class Announcement:
    """One Kubernetes Event and one log line: a transition and its reason."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    revision: str | None = None
    """Hash of the revision that it is about."""
    begins: str | None = None
    """What stands from now on until it is over, as reason/check: an alert, a warning."""
    ends: tuple[str, ...] = ()
    """What is over with it."""

    @classmethod
    def of(cls, told: Told) -> Announcement:
        """As a status keeps it."""
        said = told.type, told.reason, told.message
        return cls(*said, told.revision, told.begins, told.ends)

    def told(self, at: datetime) -> Told:
        """For a status to keep."""
        return Told(
            type=self.type,
            reason=self.reason,
            message=self.message,
            at=at,
            revision=self.revision,
            begins=self.begins,
            ends=self.ends,
        )


@dataclass(frozen=True, slots=True)
class Children:
    """Everything the agent should own besides the route; what is not listed goes."""

    stable_service: str | None
    """Revision that the Service of the agent's own name selects."""
    workloads: tuple[WorkloadPlan, ...]
    keep_revisions: frozenset[str]
    """Hashes of stored revisions that must not be pruned."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One pass."""

    status: AgentDeploymentStatus
    route: RoutePlan | None = None
    """None: leave the route as it is (or there is none to have)."""
    remove_route: bool = False
    """The agent goes, and nobody needs its route any more."""
    children: Children | None = None
    """None: leave them as they are."""
    store: Revision | None = None
    """A revision to store before anything is created from it."""
    rollouts: tuple[RolloutPlan, ...] = ()
    outcomes: tuple[ActionOutcome, ...] = ()
    finalizer: Literal["keep", "add", "remove"] = "keep"
    announcements: tuple[Announcement, ...] = ()
    requeue_at: datetime | None = None

    def takes_back(self, current: RoutePlan | None) -> bool:
        """Whether the route is to be written because of a rollback that `current` does not know of.

        Or because the agent is deactivated.
        """
        if self.route is None:
            return False
        intent, off = self.route.intent, self.route.off
        if current is None:
            return self.route.takes_back
        return intent not in (None, current.intent) or off not in (None, current.off)
