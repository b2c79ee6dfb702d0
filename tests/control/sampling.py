"""A sampler and its store on virtual time, without the rest of the loop: agents count, it looks."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from phasegate.api.agentdeployment import (
    AgentDeploymentSpec,
    AgentDeploymentStatus,
    Phase,
    Progress,
)
from phasegate.api.agentrollout import AgentRolloutStatus, EvidenceCheckpoint
from phasegate.api.base import Meta
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.control.attempt import Attempt
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.ports import Key
from phasegate.control.queue import WorkQueue
from phasegate.control.sampler import Sampler
from phasegate.engine.verdict import Judgement
from phasegate.rollout.observed import Capabilities, Observed, PolicySeen, RouteSeen
from phasegate.rollout.reasons import Reason

from tests.control.fakes import START, VirtualClock, settle
from tests.control.world import KEY, FakeProvider, agent

NEW, OLD = "aaaaaaaaaa", "bbbbbbbbbb"
EVERY_KIND: dict[str, Any] = {
    "metrics": [
        {"name": "error-rate", "gate": {"below": "10%"}, "rollback": {"above": "20%"}, "baseline": {}},
        {"name": "latency-p95", "rollback": {"above": "3s"}, "baseline": {}},
        {"name": "quality-score", "baseline": {"worseBy": "0.9", "tolerate": "0.97"}},
        {"name": "cost-per-call", "baseline": {}},
        {"name": "spend-per-day", "alert": {"above": "50"}},
        {"name": "accuracy", "rollback": {"below": "50%"}},
        {"name": "safety-flags", "alert": {"above": "3"}},
        {"name": "depth", "threshold": {"query": "depth", "for": "20s"}, "rollback": {"above": "100"}},
    ]
}  # fmt: skip
EDGES = ("0.5", "1.0", "2.0", "3.0", "5.0", "+Inf")


def observed(
    policy: Mapping[str, Any],
    *,
    phase: Phase,
    entered: datetime = START,
    checkpoint: EvidenceCheckpoint | None = None,
    key: Key = KEY,
) -> tuple[Observed, AgentDeploymentStatus]:
    """What a pass sees of an agent in this phase."""
    progress = Progress(phase=phase, entered_at=entered, started_at=entered)
    status = AgentDeploymentStatus(
        current_rollout="support-1",
        candidate_revision=NEW,
        stable_revision=OLD,
        progress=progress,
    )
    record = AgentRolloutStatus(evidence=checkpoint) if checkpoint is not None else None
    meta = Meta(key.name, key.namespace, "uid", 1, "1", START)
    seen = Observed(
        meta=meta,
        spec=AgentDeploymentSpec.model_validate(agent()["spec"]),
        spec_problem=None,
        spec_reason=Reason.INVALID_SPEC,
        status=status,
        target=None,
        revisions={},
        stable_service=None,
        policy=PolicySeen(RollbackPolicySpec.model_validate(policy)),
        workloads=(),
        route=RouteSeen(None, programmed=False, message="", capabilities=Capabilities()),
        rollout=record,
    )
    return seen, status


class Agents:
    """Two revisions that count, pod by pod and second by second; the same for the same seed."""

    def __init__(self, provider: FakeProvider, seed: int, *, bad: float = 0.02) -> None:
        self.provider = provider
        self.bad = bad
        self.mode = "live"
        self._chance = random.Random(seed)

    def serve(self, at: float) -> None:
        """One second of calls, and the scrape at its end."""
        increments: dict[tuple[tuple[str, str], ...], float] = {}
        for revision, pods in ((NEW, 1), (OLD, 2)):
            for pod in range(pods):
                self._pod(revision, pod, increments)
        self.provider.count(at, increments)

    def _pod(
        self, revision: str, pod: int, increments: dict[tuple[tuple[str, str], ...], float]
    ) -> None:
        def add(name: str, amount: float, **labels: str) -> None:
            mode = self.mode if revision == NEW else "live"
            where = {"namespace": KEY.namespace, "agent": KEY.name, "revision": revision}
            who = {
                "__name__": name,
                "mode": mode,
                "pod": f"{revision}-{mode}-{pod}",
                **where,
                **labels,
            }
            key = tuple(sorted(who.items()))
            increments[key] = increments.get(key, 0.0) + amount

        for edge in EDGES:
            add("agent_request_duration_seconds_bucket", 0.0, le=edge)
        for _ in range(self._chance.randrange(4)):
            failed = self._chance.random() < (self.bad if revision == NEW else 0.02)
            add("agent_requests_total", 1, outcome="error" if failed else "success", model="m")
            add("agent_cost_usd_total", self._chance.choice((0.01, 0.02, 0.05)), model="m")
            seconds = self._chance.expovariate(1.0)
            for edge in EDGES:
                if seconds <= float(edge):
                    add("agent_request_duration_seconds_bucket", 1, le=edge)
            if self._chance.random() < 0.2:
                add("agent_eval_total", 1)
                add("agent_eval_passed_total", float(self._chance.random() < 0.9))
                add("agent_eval_score_sum", self._chance.uniform(3, 5))
                add("agent_eval_score_count", 1)
            if self._chance.random() < 0.005:
                add("agent_safety_flags_total", 1, category="tone")


class Sampling:
    """One provider that outlives the processes that look at it."""

    def __init__(self, policy: Mapping[str, Any], phase: Phase, provider: FakeProvider) -> None:
        self.clock = VirtualClock()
        self.provider = provider
        self.policy, self.phase = policy, phase
        self.checkpoint: EvidenceCheckpoint | None = None
        self.start()

    def start(self) -> None:
        """A new process: nothing in memory but what was stored."""
        self.store = EvidenceStore(self.clock)
        self.queue: WorkQueue[Key] = WorkQueue(self.clock, lambda: 0.0)
        providers = {"default": self.provider}
        self.sampler = Sampler(providers, self.store, self.queue, self.clock, tick=1.0)
        seen, status = observed(self.policy, phase=self.phase, checkpoint=self.checkpoint)
        self.store.track(KEY, seen, status)

    @property
    def attempt(self) -> Attempt:
        (attempt,) = self.store.attempts()
        return attempt

    async def look(self) -> Judgement | None:
        """One look; the judgement, unless what was missed is still being read."""
        await self.sampler.look()
        await settle()
        self.store.judge(self.attempt)
        if (checkpoint := self.store.checkpoint(KEY)) is not None:
            self.checkpoint = checkpoint
            self.store.stored(KEY, checkpoint)
        up_to_date = self.attempt.read_until >= self.clock.now().timestamp()
        return self.attempt.judgement if up_to_date else None


def seconds(count: int) -> Iterable[int]:
    """Seconds of virtual time, from the phase's start on."""
    return range(1, count + 1)


def at(second: int) -> float:
    return (START + timedelta(seconds=second)).astimezone(UTC).timestamp()
