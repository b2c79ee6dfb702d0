"""Carry a decision out: the route first, then the status, then the rest.

Nothing stands before the route write. A write that fails stops only what must not be said or done
before it: without the route, the status tells that traffic has not moved, and nothing is announced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from phasegate.api.agentrollout import AgentRolloutStatus, EvidenceCheckpoint
from phasegate.api.base import StatusModel
from phasegate.api.errors import ClusterError, Conflict, NotFound, Refused
from phasegate.api.records import Told
from phasegate.control import kinds
from phasegate.control.children import ChildrenKeeper, attempt
from phasegate.control.notifying import Silent
from phasegate.control.observe import Sight
from phasegate.control.pace import Pace
from phasegate.control.ports import Clock, Cluster, Key, Notifier, Recorder, Router
from phasegate.control.records import Written, record_seen
from phasegate.rollout import manifests
from phasegate.rollout.chain import Origin
from phasegate.rollout.decision import Announcement, Decision, RolloutPlan
from phasegate.rollout.labels import FINALIZER
from phasegate.rollout.recording import bounded, merged
from phasegate.rollout.route import RoutePlan
from phasegate.rollout.telling import LATELY, change, not_routed

TELL_AFTER = timedelta(seconds=5)
"""A route write that is refused for longer is told, although other rollbacks wait for a worker."""


@dataclass(slots=True)
class Outcome:
    """How carrying out a decision went."""

    errors: list[ClusterError] = field(default_factory=list)
    route_failed: bool = False
    """Traffic has not moved as decided: try again soon, and before anything else."""
    route_tried: bool = False
    """Traffic was to be moved, and that was tried."""
    deferred: bool = False
    """That is all that was done; everything else waits for the routes of others."""
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
        pace: Pace,
        notifier: Notifier | None = None,
        on_taken_back: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`on_taken_back` is told, once a rollback's route is written, the seconds since its decision."""
        self._cluster = cluster
        self._router = router
        self._recorder = recorder
        self._notifier = notifier or Silent()
        self._clock = clock
        self._pace = pace
        self._on_taken_back = on_taken_back
        self._children = ChildrenKeeper(cluster)
        self._pending: dict[Key, _Pending] = {}
        self._written: dict[Key, float] = {}
        self._told: dict[Key, frozenset[Told]] = {}

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._router.forget(key)
        self._children.forget(key)
        self._pending.pop(key, None)
        self._written.pop(key, None)
        self._told.pop(key, None)

    async def execute(
        self,
        key: Key,
        sight: Sight,
        decision: Decision,
        checkpoint: EvidenceCheckpoint | None,
        hurried: Callable[[bool], bool] = lambda tried: False,
    ) -> Outcome:
        """Carry out `decision`; `checkpoint` goes into the running attempt's record if it is due.

        While `hurried` says that other agents' users are still to be brought to safety, nothing but
        the route is written; it is told whether traffic was to be moved by this call.
        """
        outcome = Outcome()
        decision = self._since_first(key, decision)
        await self._route(key, sight, decision, outcome)
        owed = outcome.route_failed and self._owes_words(key)
        if hurried(outcome.route_tried) and not owed:
            outcome.deferred = True
            return outcome
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
        await self._announce(key, sight, decision)
        return outcome

    async def _announce(self, key: Key, sight: Sight, decision: Decision) -> None:
        """Tell what this pass decided, and what the status says that this process has not told.

        The process before this one may have died before it did; the Event's name keeps it from
        being told twice.
        """
        now, known = self._clock.now(), self._told.get(key, frozenset())
        kept = decision.status.announced
        fresh = [told for told in kept if told not in known and now - told.at < LATELY]
        news = {Announcement.of(told): told.at for told in fresh}
        for announcement in dict.fromkeys((*news, *decision.announcements)):
            await self._recorder.announce(sight.agent, announcement)
            at, again = news.get(announcement, now), announcement not in decision.announcements
            self._notifier.notify(sight.agent, announcement, at, again=again)
        self._told[key] = frozenset(kept)

    def _owes_words(self, key: Key) -> bool:
        """True when a route could not be written for so long that people must be told, come what may."""
        return self._clock.now() - self._pending[key].first >= TELL_AFTER

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
        if decision.remove_route:
            await attempt(outcome.errors, self._router.remove(sight.agent))
            return
        # The split may be right and the rest of the route not (hostnames, a foreign edit): the
        # router knows, and writes nothing where nothing differs.
        plan = decision.route or sight.observed.route.plan
        if plan is None:
            self._pending.pop(key, None)
            return
        outcome.route_tried = plan != sight.observed.route.plan
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
        due = self._written.get(key, float("-inf")) + self._pace.write(change(before, status))
        if (rest := due - self._clock.monotonic()) > 0:
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
        planned, before = {plan.name for plan in decision.rollouts}, len(outcome.errors)
        for plan in decision.rollouts:
            due = checkpoint if plan.name == sight.observed.status.current_rollout else None
            await attempt(outcome.errors, self._rollout(key, sight, plan, due))
        current = sight.observed.status.current_rollout
        if checkpoint is not None and current is not None and current not in planned:
            known = sight.record
            if known is not None:
                updated = known.status.model_copy(update={"evidence": checkpoint})
                await attempt(outcome.errors, self._write_rollout(key, current, known, updated))
        if any(not isinstance(error, Refused) for error in outcome.errors[before:]):
            return  # an answer is given once the record has what was answered
        for action in decision.outcomes:
            written = self._cluster.patch_status(
                kinds.ROLLOUT_ACTION, key.namespace, action.name, dump(action.status), None
            )
            await attempt(outcome.errors, written)

    async def _rollout(
        self, key: Key, sight: Sight, plan: RolloutPlan, checkpoint: EvidenceCheckpoint | None
    ) -> None:
        """Make the record of an attempt say what `plan` says, and all that it said before.

        Its evidence is not the plan's affair, while there is need of any.
        """

        async def write(known: Written) -> None:
            evidence = None if plan.over else checkpoint or known.status.evidence
            origin = Origin(key.namespace, plan.name, known.spec)
            status = merged(known.status, plan.status, origin)
            status = status.model_copy(update={"evidence": evidence})
            await self._write_rollout(key, plan.name, known, status)

        known = await self._known_rollout(key, sight, plan)
        try:
            if known is None:
                created = manifests.agent_rollout(sight.observed.meta, plan)
                known = Written.of(await self._cluster.create(created))
            await write(known)
        except Conflict:  # what was read was remembered, and is not what is there
            await write(await self._written_before(key, sight, plan))

    async def _known_rollout(self, key: Key, sight: Sight, plan: RolloutPlan) -> Written | None:
        if plan.name == sight.observed.status.current_rollout:
            return sight.record
        try:
            return await self._written_before(key, sight, plan)
        except NotFound:
            return None

    async def _written_before(self, key: Key, sight: Sight, plan: RolloutPlan) -> Written:
        """The record of this very attempt; raises Refused if another one's has its name."""
        manifest = await self._cluster.get(kinds.AGENT_ROLLOUT, key.namespace, plan.name)
        found = record_seen(manifest, sight.observed.meta.uid)
        if found is None or not found.mine or found.spec.revision != plan.spec.revision:
            raise Refused(
                f"AgentRollout {plan.name} is the record of another attempt and is kept as it is; "
                "this attempt has no record"
            )
        return Written.of(manifest)

    async def _write_rollout(
        self, key: Key, name: str, known: Written, status: AgentRolloutStatus
    ) -> None:
        """Raises Conflict if the record says something else by now than what is `known` of it."""
        status = bounded(status)
        if status != known.status:
            await self._cluster.patch_status(
                kinds.AGENT_ROLLOUT, key.namespace, name, dump(status), known.version
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
        await attempt(outcome.errors, written)


def dump(status: StatusModel) -> dict[str, Any]:
    """A status as the API server stores it: what is not there, or is an empty list, is left out."""
    stored = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in stored.items() if value not in ([], "")}
