"""What is: one immutable value, read live and in parallel. Nothing cached decides about traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic import ValidationError

from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.api.agentrollout import AgentRolloutStatus
from phasegate.api.base import Meta
from phasegate.api.errors import InvalidSpec, NotFound, Refused
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.control import kinds
from phasegate.control.admission import UNKNOWN, IdentityCheck
from phasegate.control.parse import (
    actions_of,
    agent_status,
    explain,
    lacks_pods,
    meta_of,
    owned_by,
    spec_of,
    status_of,
    workloads_of,
)
from phasegate.control.ports import Clock, Cluster, Key, Kind, Manifest, References, Router
from phasegate.control.prices import PriceBook
from phasegate.engine.compiling import compile_checks
from phasegate.rollout import manifests, revision
from phasegate.rollout.judging import compile_context
from phasegate.rollout.labels import AGENT, REVISION, agent_selector
from phasegate.rollout.observed import Observed, PolicySeen, Revision
from phasegate.rollout.reasons import Reason

REFUSAL_LASTS = 30.0
"""Seconds after which a refused dry run is tried again: quotas and webhooks change without the spec."""


class Plans(Protocol):
    """Forecasts of attempts, made beside everything else."""

    def plan(self, key: Key, rollout: str | None) -> tuple[str, ...]:
        """The plan of an attempt; nothing while there is none."""

    def wish(self, key: Key, observed: Observed) -> None:
        """Make a plan if an attempt runs that has none yet."""

    def forget(self, key: Key) -> None:
        """The agent is gone."""


@dataclass(frozen=True, slots=True)
class LiveChildren:
    """Everything the agent owns besides its route and records, as it is at the API server."""

    deployments: Sequence[Manifest]
    services: Sequence[Manifest]
    config_maps: Sequence[Manifest]
    revisions: Sequence[Manifest]


@dataclass(frozen=True, slots=True)
class Sight:
    """One look: what the decision rests on, and the objects that carrying it out needs."""

    agent: Manifest
    observed: Observed
    children: LiveChildren


@dataclass(frozen=True, slots=True)
class _Trial:
    """Outcome of a dry run: the API server's words, None if it accepts; good until (monotonic s)."""

    problem: str | None
    until: float


@dataclass(frozen=True, slots=True)
class _Target:
    revision: Revision | None
    problem: str | None = None
    reason: Reason = Reason.INVALID_SPEC


class Observer:
    """Reads everything that one reconcile needs from the cluster. What is judged is added later."""

    def __init__(
        self,
        cluster: Cluster,
        router: Router,
        clock: Clock,
        references: References | None = None,
        prices: PriceBook | None = None,
        plans: Plans | None = None,
    ) -> None:
        self._cluster = cluster
        self._router = router
        self._clock = clock
        self._references = references
        self._prices = prices
        self._plans = plans
        self._identity = IdentityCheck(cluster, clock)
        self._trials: dict[Key, tuple[str, _Trial]] = {}

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._trials.pop(key, None)
        for part in (self._references, self._plans):
            if part is not None:
                part.forget(key)

    async def observe(self, key: Key) -> Sight:
        """Look at everything; raises NotFound when the agent itself is gone, else ClusterError."""
        agent = await self._cluster.get(kinds.AGENT_DEPLOYMENT, key.namespace, key.name)
        meta, status = meta_of(agent), agent_status(agent)
        spec, spec_problem = spec_of(agent)
        self._refer(key, spec)
        children, route, rollout, policy, config_maps, actions = await asyncio.gather(
            self._children(key, meta.uid),
            self._router.observe(agent),
            self._rollout(key, status.current_rollout),
            self._policy(key, spec),
            self._config_maps(key, spec),
            self._cluster.list(kinds.ROLLOUT_ACTION, key.namespace),
        )
        stored = _revisions(children.revisions)
        target = _target(spec, config_maps, stored)
        pending = actions_of(actions, key.name)
        stable_service = _stable_service(children.services, key.name)
        pods, refused, taken, identity = await asyncio.gather(
            self._pods(key, children),
            self._refused(key, meta, spec, target.revision, children),
            self._taken(key) if stable_service is None else _nothing(),
            self._identity.problem() if pending else _nothing(),
        )
        if identity is UNKNOWN:
            pending, identity = (), None  # they wait; traffic does not
        problems = (
            (spec_problem, Reason.INVALID_SPEC),
            (target.problem, target.reason),
            (taken, Reason.INVALID_SPEC),
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
            workloads=workloads_of(
                children.deployments,
                pods,
                frozenset(service["metadata"]["name"] for service in children.services),
            ),
            route=route,
            rollout=rollout,
            actions=pending,
            identity_problem=identity,
        )
        if self._plans is not None:
            self._plans.wish(key, observed)
            observed = replace(observed, plan=self._plans.plan(key, status.current_rollout))
        return Sight(agent, observed, children)

    async def glance(self, key: Key) -> Sight:
        """The least that taking traffic back needs: the agent and its route.

        Nothing else is read, so nothing else that is slow or broken stands before the route.
        """
        agent = await self._cluster.get(kinds.AGENT_DEPLOYMENT, key.namespace, key.name)
        spec, _ = spec_of(agent)
        observed = Observed(
            meta=meta_of(agent),
            spec=spec,
            spec_problem=None,
            spec_reason=Reason.INVALID_SPEC,
            status=agent_status(agent),
            target=None,
            revisions={},
            stable_service=None,
            policy=PolicySeen(None),
            workloads=(),
            route=await self._router.observe(agent),
            rollout=None,
            partial=True,
        )
        return Sight(agent, observed, LiveChildren((), (), (), ()))

    def _refer(self, key: Key, spec: AgentDeploymentSpec | None) -> None:
        """Before they are read: a change that comes while they are read is news then."""
        if self._references is not None and spec is not None:
            policy = spec.policy_ref.name if spec.policy_ref is not None else None
            config_maps = [use.name for use in revision.config_map_uses(spec)]
            self._references.set(key, policy, config_maps)

    async def _children(self, key: Key, uid: str) -> LiveChildren:
        """What is this agent's; children of one of the same name before it are not."""

        async def labelled(kind: Kind) -> Sequence[Manifest]:
            found = await self._cluster.list(kind, key.namespace, agent_selector(key.name))
            return [item for item in found if owned_by(item, uid)]

        return LiveChildren(
            *await asyncio.gather(
                labelled(kinds.DEPLOYMENT),
                labelled(kinds.SERVICE),
                labelled(kinds.CONFIG_MAP),
                labelled(kinds.CONTROLLER_REVISION),
            )
        )

    async def _rollout(self, key: Key, name: str | None) -> AgentRolloutStatus | None:
        if name is None:
            return None
        manifest = await self._find(kinds.AGENT_ROLLOUT, key, name)
        return None if manifest is None else status_of(AgentRolloutStatus, manifest)

    async def _policy(self, key: Key, spec: AgentDeploymentSpec | None) -> PolicySeen:
        if spec is None or spec.policy_ref is None:
            return PolicySeen(None)
        name = spec.policy_ref.name
        manifest = await self._find(kinds.ROLLBACK_POLICY, key, name)
        if manifest is None:
            problem = (
                f"spec.policyRef.name: RollbackPolicy {name!r} does not exist in namespace "
                f"{key.namespace}; create it, or leave policyRef out for the default policy"
            )
            return PolicySeen(None, problem, Reason.POLICY_NOT_FOUND)
        try:
            policy = RollbackPolicySpec.model_validate(manifest.get("spec") or {})
            prices = await self._prices.table() if self._prices is not None else None
            compile_checks(policy, compile_context(spec, prices))
        except ValidationError as error:
            words = explain(error, "spec")
        except InvalidSpec as error:
            unread = self._prices.problem if self._prices is not None else None
            words = f"{error}; {unread}" if unread else str(error)
        else:
            return PolicySeen(policy, prices=prices)
        return PolicySeen(None, f"RollbackPolicy {name}: {words}", Reason.POLICY_INVALID)

    async def _config_maps(
        self, key: Key, spec: AgentDeploymentSpec | None
    ) -> Mapping[str, Mapping[str, Any]]:
        names = [use.name for use in revision.config_map_uses(spec)] if spec is not None else []
        found = await asyncio.gather(*(self._find(kinds.CONFIG_MAP, key, name) for name in names))
        return {n: m for n, m in zip(names, found, strict=True) if m is not None}

    async def _pods(self, key: Key, children: LiveChildren) -> Sequence[Manifest]:
        """Pods, only where they explain why a workload is not ready."""
        if not any(lacks_pods(deployment) for deployment in children.deployments):
            return ()
        return await self._cluster.list(kinds.POD, key.namespace, agent_selector(key.name))

    async def _taken(self, key: Key) -> str | None:
        """Why the Service of the agent's own name cannot be made: somebody else's has that name."""
        service = await self._find(kinds.SERVICE, key, key.name)
        if service is None or (service["metadata"].get("labels") or {}).get(AGENT) == key.name:
            return None  # of an agent of this name before this one: it is about to go
        return (
            f"metadata.name: a Service {key.name} that is not Phasegate's exists in this namespace; "
            "delete or rename it, or give the agent another name"
        )

    async def _refused(
        self,
        key: Key,
        meta: Meta,
        spec: AgentDeploymentSpec | None,
        target: Revision | None,
        children: LiveChildren,
    ) -> str | None:
        """The API server's own words about a Deployment that does not exist yet and that it refuses."""
        if spec is None or target is None or meta.deleted is not None:
            return None
        if any(manifests.revision_of(d) == target.hash for d in children.deployments):
            return None
        known = self._trials.get(key)
        if known is not None and known[0] == target.hash:
            trial = known[1]
            if trial.problem is None or self._clock.monotonic() < trial.until:
                return trial.problem
        problem = await self._try(manifests.deployment(meta, target, "live", spec.replicas))
        until = self._clock.monotonic() + REFUSAL_LASTS
        self._trials[key] = (target.hash, _Trial(problem, until))
        return problem

    async def _try(self, manifest: Manifest) -> str | None:
        try:
            await self._cluster.apply(manifest, dry_run=True)
        except Refused as error:
            return f"spec.template: {error}"
        return None

    async def _find(self, kind: Kind, key: Key, name: str) -> Manifest | None:
        try:
            return await self._cluster.get(kind, key.namespace, name)
        except NotFound:
            return None


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


def _stable_service(services: Sequence[Manifest], agent: str) -> str | None:
    for service in services:
        if service["metadata"]["name"] == agent:
            selector: Mapping[str, str] = (service.get("spec") or {}).get("selector") or {}
            return selector.get(REVISION)
    return None


async def _nothing() -> None:
    return None
