"""What is: one immutable value, read in parallel; live where a candidate is to be given traffic.

What the reader remembers may hold traffic or take it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from phasegate.api.agentdeployment import AgentDeploymentSpec, AgentDeploymentStatus
from phasegate.api.base import Meta
from phasegate.api.errors import ClusterError, InvalidSpec, NotFound, Refused
from phasegate.control import kinds
from phasegate.control.admission import UNKNOWN, IdentityCheck
from phasegate.control.calendars import Calendars
from phasegate.control.fallbacks import Fallbacks, fallback_matters
from phasegate.control.parse import (
    actions_of,
    agent_status,
    meta_of,
    spec_of,
    workloads_of,
)
from phasegate.control.policies import Policies
from phasegate.control.ports import Clock, Cluster, Key, Manifest, References, Router
from phasegate.control.prices import PriceBook
from phasegate.control.reads import (
    LiveChildren,
    Reads,
    actions_about,
    children_of,
    config_maps_of,
    pods_of,
    rollout_of,
    taken,
)
from phasegate.control.records import Written, history_matters, records_of
from phasegate.control.urgency import said
from phasegate.rollout import manifests, revision
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.keeping import in_force
from phasegate.rollout.labels import REVISION
from phasegate.rollout.observed import Observed, PolicySeen, RecordSeen, Revision
from phasegate.rollout.reasons import Reason

REFUSAL_LASTS = 30.0
"""Seconds after which a refused dry run is tried again: quotas and webhooks change without the spec."""
FAILURE_LASTS = 5.0
"""Seconds after which a dry run that nobody answered is tried again."""


_Parsed = tuple[AgentDeploymentSpec | None, str | None, Calendar]


class Plans(Protocol):
    """Forecasts of attempts, made beside everything else."""

    def plan(self, key: Key, rollout: str | None) -> tuple[str, ...]:
        """The plan of an attempt; nothing while there is none."""

    def wish(self, key: Key, observed: Observed) -> None:
        """Make a plan if an attempt runs that has none yet."""

    def forget(self, key: Key) -> None:
        """The agent is gone."""


class Gone(NotFound):
    """The agent itself does not exist; anything else that is not found is not that."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look: what the decision rests on, and the objects that carrying it out needs."""

    agent: Manifest
    observed: Observed
    children: LiveChildren
    record: Written | None = None
    """The current attempt's record, as it was read."""
    heard: bool = False
    """What people decided was read, and whether it counts is known."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """Outcome of a dry run: the API server's words, None if it accepts; good until (monotonic s)."""

    problem: str | None
    until: float
    failed: str | None = None
    """Why there was no answer."""


@dataclass(frozen=True, slots=True)
class _Target:
    revision: Revision | None
    problem: str | None = None
    reason: Reason = Reason.INVALID_SPEC


class Observer:
    """Reads everything that one reconcile needs from the cluster. What is judged is added later."""

    def __init__(  # noqa: PLR0913 (what it looks at, most of it optional)
        self,
        cluster: Cluster,
        router: Router,
        clock: Clock,
        references: References | None = None,
        prices: PriceBook | None = None,
        plans: Plans | None = None,
        calendars: Calendars | None = None,
        *,
        live: Cluster | None = None,
    ) -> None:
        """`live`: the same API server as `cluster`, without anything remembered in between."""
        self._cluster = cluster
        self._live = live or cluster
        self._router = router
        self._clock = clock
        self._references = references
        self._policies = Policies(prices)
        self._plans = plans
        self._calendars = calendars or Calendars()
        self.identity = IdentityCheck(cluster, clock)
        self._fallbacks = Fallbacks(cluster)
        self._trials: dict[Key, tuple[str, _Trial]] = {}
        self._specs: dict[Key, tuple[tuple[str, int], _Parsed]] = {}

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._trials.pop(key, None)
        self._specs.pop(key, None)
        for part in (self._references, self._plans, self._policies, self._fallbacks):
            if part is not None:
                part.forget(key)

    async def observe(self, key: Key, *, live: bool = False) -> Sight:
        """Look at everything; raises Gone when the agent itself is, else ClusterError.

        `live`: ask the API server for all of it.
        """
        cluster = self._live if live else self._cluster
        agent = await _agent(cluster, key)
        meta, status = meta_of(agent), agent_status(agent)
        spec, spec_problem, calendar = self._spec(key, meta, agent)
        self._refer(key, spec)
        reads = Reads(at_stake=_at_stake(meta, status))
        children, route, record, policy, config_maps, actions = await asyncio.gather(
            children_of(cluster, key, meta.uid, reads),
            self._router.observe(agent, live=live or _to_be_proved(status)),
            reads.part(
                "the rollout's record",
                lambda: rollout_of(cluster, key, meta.uid, status.current_rollout),
                None,
            ),
            self._policies.of(cluster, key, spec, reads),
            reads.courtesy(
                "a ConfigMap of the spec", lambda: config_maps_of(cluster, key, spec), None
            ),
            reads.courtesy("RolloutActions", lambda: actions_about(cluster, key), None),
        )
        rollout = record.status if record is not None else None
        policy = in_force(policy, rollout)
        stored = _revisions(children.revisions)
        target = _Target(None) if config_maps is None else _target(spec, config_maps, stored)
        pending = actions_of(actions or (), key.name)
        stable_service = _stable_service(children.services, key.name)
        pods, records, refused, name_taken, identity, fallback = await asyncio.gather(
            pods_of(cluster, key, children),
            _records(cluster, key, meta, status, target.revision, reads),
            reads.courtesy(
                "whether the API server takes the new template",
                lambda: self._refused(key, meta, spec, target.revision, children, status),
                None,
            ),
            reads.courtesy("the Service of the agent's name", lambda: taken(cluster, key), None)
            if stable_service is None
            else _nothing(),
            self.identity.problem() if pending else _nothing(),
            self._fallbacks.look(key, spec, reads)
            if fallback_matters(status, target.revision, pending)
            else _nothing(),
        )
        heard = actions is not None and identity is not UNKNOWN
        if identity is UNKNOWN:
            pending, identity = (), None  # they wait; traffic does not
            reads.problem = reads.problem or UNKNOWN
        problems = (
            (spec_problem, Reason.INVALID_SPEC),
            (target.problem, target.reason),
            (calendar.problem, Reason.INVALID_SPEC),
            (name_taken, Reason.INVALID_SPEC),
            (refused, Reason.TEMPLATE_REFUSED),
        )
        problem, reason = next((p for p in problems if p[0]), (None, Reason.INVALID_SPEC))
        observed = Observed(
            meta=meta,
            spec=spec,
            spec_problem=problem,
            spec_reason=reason,
            status=status,
            target=target.revision,
            revisions=stored,
            stable_service=stable_service,
            policy=policy,
            workloads=workloads_of(children.deployments, pods, children.served()),
            route=route,
            rollout=rollout,
            records=records,
            calendar=calendar,
            actions=pending,
            fallback_problem=fallback,
            identity_problem=identity or self.identity.known_problem,
            partial=reads.partial,
            unread=reads.problem,
        )
        if self._plans is not None:
            self._plans.wish(key, observed)
            observed = replace(observed, plan=self._plans.plan(key, status.current_rollout))
        return Sight(agent, observed, children, record, heard)

    async def glance(self, key: Key, *, people: bool = False) -> Sight:
        """The least that taking traffic back needs: the agent and its route.

        `people`: and what they decided that takes it back, if that counts. Nothing else is read, so
        nothing else that is slow or broken stands before the route.
        """
        agent = await _agent(self._cluster, key)
        meta = meta_of(agent)
        spec, _, _ = self._spec(key, meta, agent)
        route, heard = await asyncio.gather(
            self._router.observe(agent),
            said(self._cluster, self.identity, key) if people else _nothing(),
        )
        actions, identity = heard or ((), None)
        status = agent_status(agent)
        fallback = None
        if fallback_matters(status, None, actions):
            fallback = await self._fallbacks.glance(key, spec)
        observed = Observed(
            meta=meta,
            spec=spec,
            spec_problem=None,
            spec_reason=Reason.INVALID_SPEC,
            status=status,
            target=None,
            revisions={},
            stable_service=None,
            policy=PolicySeen(None),
            workloads=(),
            route=route,
            rollout=None,
            actions=actions,
            fallback_problem=fallback,
            identity_problem=identity or self.identity.known_problem,
            partial=True,
            pods_seen=False,
        )
        return Sight(agent, observed, LiveChildren((), (), (), ()), heard=heard is not None)

    def _refer(self, key: Key, spec: AgentDeploymentSpec | None) -> None:
        """Before they are read: a change that comes while they are read is news then."""
        if self._references is not None and spec is not None:
            policy = spec.policy_ref.name if spec.policy_ref is not None else None
            config_maps = [use.name for use in revision.config_map_uses(spec)]
            self._references.set(key, policy, config_maps)

    def _spec(self, key: Key, meta: Meta, agent: Manifest) -> _Parsed:
        """Parsed once: while it is the same, its generation is."""
        known = self._specs.get(key)
        if known is None or known[0] != (meta.uid, meta.generation):
            spec, problem = spec_of(agent)
            known = (meta.uid, meta.generation), (spec, problem, self._calendars.of(spec))
            self._specs[key] = known
        return known[1]

    async def _refused(
        self,
        key: Key,
        meta: Meta,
        spec: AgentDeploymentSpec | None,
        target: Revision | None,
        children: LiveChildren,
        status: AgentDeploymentStatus,
    ) -> str | None:
        """The API server's own words about a Deployment that does not exist yet and that it refuses.

        Tried before an attempt only: while one runs, nothing is started. Raises ClusterError if the
        API server does not say.
        """
        if spec is None or target is None or _at_stake(meta, status):
            return None
        if any(manifests.revision_of(d) == target.hash for d in children.deployments):
            return None
        known = self._trials.get(key)
        if known is not None and known[0] == target.hash:
            trial = known[1]
            if self._clock.monotonic() < trial.until:
                if trial.failed is not None:
                    raise ClusterError(trial.failed)
                return trial.problem
            if trial.problem is None and trial.failed is None:
                return None
        trial = await self._try(manifests.deployment(meta, target, "live", spec.replicas))
        self._trials[key] = (target.hash, trial)
        if trial.failed is not None:
            raise ClusterError(trial.failed)
        return trial.problem

    async def _try(self, manifest: Manifest) -> _Trial:
        problem = failed = None
        try:
            await self._cluster.apply(manifest, dry_run=True)
        except Refused as error:
            problem = f"spec.template: {error}"
        except ClusterError as error:
            failed = str(error)
        lasts = REFUSAL_LASTS if failed is None else FAILURE_LASTS
        return _Trial(problem, self._clock.monotonic() + lasts, failed)


async def _agent(cluster: Cluster, key: Key) -> Manifest:
    try:
        return await cluster.get(kinds.AGENT_DEPLOYMENT, key.namespace, key.name)
    except NotFound as error:
        raise Gone(str(error)) from error


def _revisions(stored: Sequence[Manifest]) -> dict[str, Revision]:
    found = (revision.from_manifest(manifest) for manifest in stored)
    return {known.hash: known for known in found if known is not None}


def _target(
    spec: AgentDeploymentSpec | None,
    config_maps: Mapping[str, Mapping[str, Any]],
    stored: Mapping[str, Revision],
) -> _Target:
    """The revision that the spec describes: the stored one, or a new one with the next number."""
    if spec is None:
        return _Target(None)
    try:
        wanted = revision.build(spec, config_maps)
    except revision.ConfigMapMissing as error:
        return _Target(None, str(error), Reason.CONFIG_MAP_NOT_FOUND)
    except InvalidSpec as error:
        return _Target(None, str(error))
    known = stored.get(wanted.hash)
    if known is None:
        number = max((r.number for r in stored.values()), default=0) + 1
        return _Target(revision.numbered(wanted, number))
    if known.digest != wanted.digest:
        return _Target(
            None,
            f"spec: its digest begins like that of another revision ({known.hash}); change "
            "anything in it, for example agent.version",
        )
    return _Target(known)


def _at_stake(meta: Meta, status: AgentDeploymentStatus) -> bool:
    """True while traffic may have to be taken back, or was and its proof is owed."""
    return status.progress is not None or meta.deleted is not None or _to_be_proved(status)


def _to_be_proved(status: AgentDeploymentStatus) -> bool:
    """True from a rollback until the gateway confirms it: no stream that fell silent may hide that."""
    return status.rollback is not None and status.rollback.safe_at is None


def _stable_service(services: Sequence[Manifest], agent: str) -> str | None:
    for service in services:
        if service["metadata"]["name"] == agent:
            selector: Mapping[str, str] = (service.get("spec") or {}).get("selector") or {}
            return selector.get(REVISION)
    return None


async def _nothing() -> None:
    return None


async def _records(
    cluster: Cluster,
    key: Key,
    meta: Meta,
    status: AgentDeploymentStatus,
    target: Revision | None,
    reads: Reads,
) -> tuple[RecordSeen, ...]:
    """What was tried before, where that matters; a lost status cannot be restored without."""
    if not history_matters(status, target):
        return ()
    if status.stable_revision is None:
        return await records_of(cluster, key, meta.uid)
    return await reads.courtesy(
        "the records of earlier rollouts", lambda: records_of(cluster, key, meta.uid), ()
    )
