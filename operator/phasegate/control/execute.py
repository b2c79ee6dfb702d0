"""Carry a decision out: the route first, then the status, then the rest.

Nothing stands before the route write. A write that fails stops only what must not be said or done
before it: without the route, the status tells that traffic has not moved, and nothing is announced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from phasegate.api.agentrollout import AgentRolloutStatus, EvidenceCheckpoint
from phasegate.api.base import StatusModel
from phasegate.api.errors import ClusterError, Conflict, NotFound
from phasegate.control import kinds
from phasegate.control.children import ChildrenKeeper
from phasegate.control.observe import Sight
from phasegate.control.parse import status_of
from phasegate.control.ports import Clock, Cluster, Key, Recorder, Router
from phasegate.rollout import manifests
from phasegate.rollout.decide import FINALIZER
from phasegate.rollout.decision import Decision, RolloutPlan
from phasegate.rollout.route import RoutePlan
from phasegate.rollout.telling import not_routed, only_numbers_differ


@dataclass(slots=True)
class Outcome:
    """How carrying out a decision went."""

    errors: list[ClusterError] = field(default_factory=list)
    route_failed: bool = False
    """Traffic has not moved as decided: try again soon, and before anything else."""
    recorded: bool = False
    """The status says what was decided."""
    write_again_in: float | None = None
    """Seconds until numbers that were held back are due to be written."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A route write that has not succeeded since `first`."""

    first: datetime
    plan: RoutePlan


class Executor:
    """Writes what a decision says, and nothing when nothing differs."""

    def __init__(
        self,
        cluster: Cluster,
        router: Router,
        recorder: Recorder,
        clock: Clock,
        *,
        refresh: float,
        on_taken_back: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`refresh`: seconds between status writes that change numbers only.

        `on_taken_back` is told, once a rollback's route is written, the seconds since its decision.
        """
        self._cluster = cluster
        self._router = router
        self._recorder = recorder
        self._clock = clock
        self._refresh = refresh
        self._on_taken_back = on_taken_back
        self._children = ChildrenKeeper(cluster)
        self._pending: dict[Key, _Pending] = {}
        self._written: dict[Key, float] = {}

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._children.forget(key)
        self._pending.pop(key, None)
        self._written.pop(key, None)

    async def execute(
        self, key: Key, sight: Sight, decision: Decision, checkpoint: EvidenceCheckpoint | None
    ) -> Outcome:
        """Carry out `decision`; `checkpoint` goes into the running attempt's record if it is due."""
        outcome = Outcome()
        decision = self._since_first(key, decision)
        await self._route(key, sight, decision, outcome)
        version = await self._status(key, sight, decision, outcome)
        if any(isinstance(error, Conflict) for error in outcome.errors):
            return outcome  # somebody changed the agent meanwhile: look again before doing more
        outcome.recorded = version is not None and not outcome.route_failed
        outcome.errors += await self._children.keep(sight, decision, delete=outcome.recorded)
        if version is None or not outcome.recorded:
            if sight.observed.meta.deleted is not None:  # a route nobody can write holds nothing up
                at = version or sight.observed.meta.resource_version
                await self._finalizer(key, sight, decision, at, outcome)
            return outcome  # what follows says that it happened
        await self._records(key, sight, decision, checkpoint, outcome)
        await self._finalizer(key, sight, decision, version, outcome)
        for announcement in decision.announcements:
            await self._recorder.announce(sight.agent, announcement)
        return outcome

    def _since_first(self, key: Key, decision: Decision) -> Decision:
        """A rollback whose route write failed was decided when it was first decided."""
        pending, plan = self._pending.get(key), decision.route
        intent = plan.intent if plan is not None else None
        if pending is None or plan is None or intent is None:
            return decision
        before = pending.plan.intent
        if before is None or (before.rollout, before.revision) != (intent.rollout, intent.revision):
            return decision
        route = replace(plan, intent=replace(intent, decided_at=before.decided_at))
        record = decision.status.rollback
        if record is None:
            return replace(decision, route=route)
        record = record.model_copy(update={"decided_at": before.decided_at})
        status = decision.status.model_copy(update={"rollback": record})
        return replace(decision, route=route, status=status)

    async def _route(self, key: Key, sight: Sight, decision: Decision, outcome: Outcome) -> None:
        # The split may be right and the rest of the route not (hostnames, a foreign edit): the
        # router knows, and writes nothing where nothing differs.
        plan = decision.route or sight.observed.route.plan
        if plan is None:
            self._pending.pop(key, None)
            return
        try:
            await self._router.write(sight.agent, plan)
        except ClusterError as error:
            outcome.errors.append(error)
            outcome.route_failed = True
            first = self._pending.get(key)
            since = first.first if first is not None else self._clock.now()
            self._pending[key] = _Pending(since, plan)
        else:
            self._pending.pop(key, None)
            before = sight.observed.route.plan
            if plan.intent is not None and (before is None or before.intent != plan.intent):
                exposed = self._clock.now() - plan.intent.decided_at
                self._on_taken_back(exposed.total_seconds())

    async def _status(
        self, key: Key, sight: Sight, decision: Decision, outcome: Outcome
    ) -> str | None:
        """Write the status; the resourceVersion after it, None if it could not be written."""
        seen, status = sight.observed, decision.status
        if outcome.route_failed:
            since = self._pending[key].first
            status = not_routed(seen, decision, outcome.errors[0], since, self._clock.now())
        before = seen.status
        if status == before:
            return seen.meta.resource_version
        if only_numbers_differ(before, status):
            rest = self._written.get(key, float("-inf")) + self._refresh - self._clock.monotonic()
            if rest > 0:
                outcome.write_again_in = rest
                return seen.meta.resource_version
        try:
            written = await self._cluster.patch_status(
                kinds.AGENT_DEPLOYMENT,
                key.namespace,
                key.name,
                dump(status),
                seen.meta.resource_version,
            )
        except ClusterError as error:
            outcome.errors.append(error)
            return None
        self._written[key] = self._clock.monotonic()
        return str(written["metadata"]["resourceVersion"])

    async def _records(
        self,
        key: Key,
        sight: Sight,
        decision: Decision,
        checkpoint: EvidenceCheckpoint | None,
        outcome: Outcome,
    ) -> None:
        planned = {plan.name for plan in decision.rollouts}
        for plan in decision.rollouts:
            due = checkpoint if plan.name == sight.observed.status.current_rollout else None
            await _attempt(outcome, self._rollout(key, sight, plan, due))
        current = sight.observed.status.current_rollout
        if checkpoint is not None and current is not None and current not in planned:
            known = sight.observed.rollout
            if known is not None:
                updated = known.model_copy(update={"evidence": checkpoint})
                await _attempt(outcome, self._write_rollout(key, current, updated))
        for action in decision.outcomes:
            written = self._cluster.patch_status(
                kinds.ROLLOUT_ACTION, key.namespace, action.name, dump(action.status), None
            )
            await _attempt(outcome, written)

    async def _rollout(
        self, key: Key, sight: Sight, plan: RolloutPlan, checkpoint: EvidenceCheckpoint | None
    ) -> None:
        """Make the record of an attempt say what `plan` says; its evidence is not the plan's affair."""
        known = await self._known_rollout(key, sight, plan.name)
        if known is None:
            created = manifests.agent_rollout(sight.observed.meta, plan)
            try:
                await self._cluster.create(created)
            except Conflict:
                known = await self._known_rollout(key, sight, plan.name, live=True)
        evidence = checkpoint or (known.evidence if known is not None else None)
        status = plan.status.model_copy(update={"evidence": evidence})
        if status != known:
            await self._write_rollout(key, plan.name, status)

    async def _known_rollout(
        self, key: Key, sight: Sight, name: str, *, live: bool = False
    ) -> AgentRolloutStatus | None:
        if not live and name == sight.observed.status.current_rollout:
            return sight.observed.rollout
        try:
            manifest = await self._cluster.get(kinds.AGENT_ROLLOUT, key.namespace, name)
        except NotFound:
            return None
        return status_of(AgentRolloutStatus, manifest)

    async def _write_rollout(self, key: Key, name: str, status: AgentRolloutStatus) -> None:
        await self._cluster.patch_status(
            kinds.AGENT_ROLLOUT, key.namespace, name, dump(status), None
        )

    async def _finalizer(
        self, key: Key, sight: Sight, decision: Decision, version: str, outcome: Outcome
    ) -> None:
        if decision.finalizer == "keep":
            return
        present = sight.observed.meta.finalizers
        wanted = [name for name in present if name != FINALIZER]
        if decision.finalizer == "add":
            wanted.append(FINALIZER)
        if wanted == list(present):
            return
        patch: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/metadata/finalizers", "value": wanted},
        ]
        written = self._cluster.patch(kinds.AGENT_DEPLOYMENT, key.namespace, key.name, patch)
        await _attempt(outcome, written)


def dump(status: StatusModel) -> dict[str, Any]:
    """A status as the API server stores it: what is not there, or is an empty list, is left out."""
    stored = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in stored.items() if value not in ([], "")}


async def _attempt(outcome: Outcome, write: Awaitable[object]) -> None:
    """Await one write; its failure does not stop the others."""
    try:
        await write
    except ClusterError as error:
        outcome.errors.append(error)
