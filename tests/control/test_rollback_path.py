"""Nothing stands before the route write of a rollback: not others' work, and not its own agent's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from phasegate.api.agentdeployment import AgentDeploymentStatus
from phasegate.api.agentrollout import EvidenceCheckpoint
from phasegate.api.errors import ClusterError
from phasegate.control import kinds
from phasegate.control.execute import Executor
from phasegate.control.observe import Observer
from phasegate.control.pace import Pace
from phasegate.control.pending import (
    HASTEN_EVERY,
    LONGEST_SURGE,
    LULL,
    MANY,
    PendingRollbacks,
)
from phasegate.control.ports import Key, Kind, Manifest
from phasegate.control.queue import WorkQueue
from phasegate.control.reconcile import BRIEFLY, Reconciler
from phasegate.engine.verdict import Judgement, Verdict
from phasegate.rollout.observed import Capabilities, Measured, Observed, RouteSeen
from phasegate.rollout.route import RoutePlan

from tests.control.fakes import FakeCluster, FakeRecorder, VirtualClock, settle
from tests.control.world import KEY, World, broken
from tests.rollout.world import judged

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}


async def canary(world: World) -> str:
    """A candidate that has users; its hash."""
    await world.stable()
    world.apply(agent=NEW)
    await world.until_phase("Canary")
    await world.run(10)
    candidate: str = world.status["candidateRevision"]
    assert world.share(candidate) == 20
    return candidate


class HangingCluster(FakeCluster):
    """An API server that never answers some calls."""

    hang = ""

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        if self.hang == f"list {kind.plural}":
            await asyncio.Event().wait()
        return await super().list(kind, namespace, selector)

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        if self.hang == f"apply {manifest['kind']}":
            await asyncio.Event().wait()
        return await super().apply(manifest, dry_run=dry_run)


def hanging_world() -> tuple[World, HangingCluster]:
    world = World()
    cluster = HangingCluster(world.clock)
    world.cluster = world.reads = cluster
    world.router._journal = cluster.writes
    return world, cluster


@pytest.mark.parametrize("call", ["list deployments", "list rolloutactions", "apply Deployment"])
async def test_a_pass_that_hangs_is_given_up_for_the_rollback_of_its_agent(call: str) -> None:
    world, cluster = hanging_world()
    async with world.operator():
        candidate = await canary(world)
        cluster.hang = call
        world.apply(agent=NEW, replicas=4)  # the next pass has something to look at and to apply
        await world.run(3)
        world.error_rate[candidate] = 1.0
        await world.run(6)
        assert world.share(candidate) == 0
        assert world.status["phase"] == "RolledBack"
        assert "bug" not in world.results


async def test_a_rollback_that_cannot_be_written_is_counted_and_its_age_told() -> None:
    async with World().operator() as world:
        candidate = await canary(world)
        pending = world.reconciler.pending
        assert (len(pending), pending.oldest()) == (0, 0.0)
        world.error_rate[candidate] = 1.0
        world.router.broken = broken()
        await world.run(60)
        assert len(pending) == 1
        assert 50 < pending.oldest() <= 60
        world.router.broken = None
        await world.run(1.5)
        assert world.share(candidate) == 0
        assert (len(pending), pending.oldest()) == (0, 0.0)


async def test_a_route_that_cannot_even_be_read_counts_as_well() -> None:
    async with World().operator() as world:
        candidate = await canary(world)
        world.cluster.broken["get agentdeployments"] = broken()
        world.error_rate[candidate] = 1.0
        await world.run(20)
        assert len(world.reconciler.pending) == 1
        world.cluster.broken.clear()
        await world.run(1.5)
        assert world.share(candidate) == 0
        assert len(world.reconciler.pending) == 0


async def test_nothing_is_pending_once_the_agent_is_gone() -> None:
    async with World().operator() as world:
        candidate = await canary(world)
        world.router.broken = broken()
        world.error_rate[candidate] = 1.0
        await world.run(20)
        world.cluster.remove(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name)
        await world.run(10)
        assert len(world.reconciler.pending) == 0
        assert world.router.forgotten == [KEY]


# --- many at once --------------------------------------------------------------------------------


class Fleet:
    """Many agents with users on a candidate, all found bad at once, and one operator."""

    def __init__(
        self, template: Mapping[str, Any], plan: RoutePlan, size: int, elsewhere: int
    ) -> None:
        self.clock = VirtualClock()
        self.cluster = FakeCluster(self.clock)
        self.queue: WorkQueue[Key] = WorkQueue(self.clock, lambda: 0.5, lambda key: key.namespace)
        self.call_takes = 0.0
        self.passes: list[str] = []
        self.bad = {Key("team", f"agent-{n}") for n in range(size)}
        self.bad |= {Key(f"elsewhere-{n}", "agent") for n in range(elsewhere)}
        self.routes = dict.fromkeys(self.bad, plan)
        self.broken: ClusterError | None = None
        self.tries = 0
        for key in self.bad:
            metadata = {"name": key.name, "namespace": key.namespace}
            self.cluster.put({**template, "metadata": metadata})
            self.cluster.set_status(
                kinds.AGENT_DEPLOYMENT, key.namespace, key.name, template["status"]
            )
        self.reconciler = Reconciler(
            Observer(self.cluster, self, self.clock),
            Executor(self.cluster, self, FakeRecorder(), self.clock, pace=Pace()),
            self,
            self.queue,
            self.clock,
            Pace(),
            lambda result, seconds: self.passes.append(result),
        )

    @asynccontextmanager
    async def operator(self, workers: int = 2, urgent: int = 0) -> AsyncIterator[None]:
        work = [self.reconciler.work(urgent_only=n >= workers) for n in range(workers + urgent)]
        tasks = [asyncio.ensure_future(w) for w in (self.queue.run(), *work)]
        for key in self.bad:
            self.queue.add(key, urgent=True)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self, seconds: int) -> None:
        """Let time pass, and no pass take any of it."""
        for _ in range(2 * seconds):
            await self.clock.advance(0.5)
            await settle(150)

    async def rest(self) -> None:
        """Let time pass until there is nothing left to do."""
        while self.bad or len(self.queue) or self.queue._alarms:
            await self.run(1)

    @property
    def unsafe(self) -> int:
        return sum(1 for plan in self.routes.values() if plan.intent is None)

    # a router
    async def observe(self, agent: Manifest, *, live: bool = False) -> RouteSeen:
        return RouteSeen(self.routes[key_of(agent)], True, "", Capabilities(mirror=True))

    async def write(self, agent: Manifest, plan: RoutePlan) -> None:
        if plan == self.routes[key_of(agent)]:
            return
        self.tries += 1
        if self.call_takes:
            await self.clock.sleep(self.call_takes)
        if self.broken is not None:
            raise self.broken
        self.cluster.writes.append("route")
        self.routes[key_of(agent)] = plan

    async def remove(self, agent: Manifest) -> None:
        raise AssertionError("nothing is deleted here")

    # the evidence
    def judgement(self, key: Key) -> Judgement | None:
        return judged(Verdict.FAIL) if key in self.bad else None

    def late(self, key: Key) -> Judgement | None:
        return None

    def measured(self, key: Key) -> Measured | None:
        return None

    def track(self, key: Key, observed: Observed, status: AgentDeploymentStatus) -> None:
        if status.progress is None:
            self.bad.discard(key)

    def checkpoint(self, key: Key) -> EvidenceCheckpoint | None:
        return None

    def stored(self, key: Key, checkpoint: EvidenceCheckpoint) -> None:
        raise AssertionError("there is none")

    def forget(self, key: Key) -> None:
        self.bad.discard(key)


def key_of(agent: Manifest) -> Key:
    return Key(agent["metadata"]["namespace"], agent["metadata"]["name"])


async def fleet(size: int, elsewhere: int = 0) -> Fleet:
    """`size` agents in one namespace and each of `elsewhere` in one of its own."""
    async with World().operator() as world:
        await canary(world)
        plan = world.router.plan
        assert plan is not None
        return Fleet(world.object, replace(plan, intent=None), size, elsewhere)


async def test_the_routes_of_all_are_written_before_the_status_of_any() -> None:
    many = await fleet(40)
    async with many.operator():
        await settle(4000)
        assert many.unsafe == 0
        writes = many.cluster.writes
        assert writes[:40] == ["route"] * 40
        await many.run(2)
        assert writes.count("patch-status agentdeployments") >= 40
        assert not many.bad


async def test_a_few_are_told_of_at_once() -> None:
    many = await fleet(MANY - 1)
    async with many.operator():
        await settle(4000)
        assert many.unsafe == 0
        await many.clock.advance(BRIEFLY)
        await settle(4000)
        assert not many.bad


async def test_in_a_surge_that_is_found_piece_by_piece_routes_go_before_what_is_told() -> None:
    many = await fleet(60)
    pieces = [sorted(many.bad)[n : n + 20] for n in range(0, 60, 20)]
    many.bad.clear()
    async with many.operator():
        for piece in pieces:
            many.bad.update(piece)
            for key in piece:
                many.queue.add(key, urgent=True)
            await settle(4000)
            await many.clock.advance(LULL * 0.8)
            await settle(4000)
        assert many.cluster.writes == ["route"] * 60
        assert len(many.passes) < 4 * 60, "what waits is not tried over and over"
        await many.rest()
        assert many.cluster.writes.count("patch-status agentdeployments") >= 60


async def test_rollbacks_that_never_end_keep_nobody_from_being_told_for_long() -> None:
    many = await fleet(200)
    keys = sorted(many.bad)
    many.bad.clear()
    async with many.operator():
        for second, key in enumerate(keys):
            many.bad.add(key)
            many.queue.add(key, urgent=True)
            await many.clock.advance(0.1)
            await settle(100)
            if second * 0.1 > LONGEST_SURGE + 1:
                assert keys[0] not in many.bad
                assert keys[second - 10] not in many.bad, "nor the later ones"
        await many.rest()


async def test_half_of_the_workers_bring_five_hundred_of_one_namespace_to_safety() -> None:
    many = await fleet(500)
    many.call_takes = 0.02
    async with many.operator(workers=16, urgent=4):
        await many.clock.advance(500 / 10 * many.call_takes + 0.1)
        assert many.unsafe == 0
        assert many.cluster.writes[:490] == ["route"] * 490  # ten at a time: no route waits
        assert len(many.passes) < 2 * 500, "no pass is tried over and over meanwhile"
        await many.rest()


async def test_what_waits_for_the_routes_of_another_namespace_is_not_tried_over_and_over() -> None:
    many = await fleet(40, elsewhere=1)
    many.call_takes = 0.1
    async with many.operator(workers=4):
        await many.clock.advance(0.35)
        await settle(1000)
        assert many.unsafe > 20
        assert not many.bad & {Key("elsewhere-0", "agent")}, "its status is written beside"
        assert len(many.passes) < 20
        await many.rest()
        assert many.unsafe == 0


async def test_passes_that_wait_for_nothing_let_others_run_between_them() -> None:
    many = await fleet(20)
    turns, seen = 0, []

    async def beat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await settle(1)

    many.reconciler._on_pass = lambda result, seconds: seen.append(turns)
    others = asyncio.ensure_future(beat())
    async with many.operator(workers=1):
        await settle(1000)
        await many.clock.advance(LULL)
        await settle(1000)
    others.cancel()
    assert not many.bad
    assert len(set(seen)) == len(seen) >= 20


async def test_a_try_that_another_success_hastens_is_not_given_up() -> None:
    many = await fleet(2)
    slow, other = sorted(many.bad)
    many.bad.discard(slow)  # what a person takes back: no evidence says so
    many.reconciler.pending.begin(slow)
    started, held = asyncio.Event(), asyncio.Event()
    get = many.cluster.get

    async def late(kind: Kind, namespace: str | None, name: str) -> Manifest:
        if name == slow.name and not held.is_set():
            started.set()
            await held.wait()
        return await get(kind, namespace, name)

    many.cluster.get = late  # type: ignore[method-assign]
    many.broken = broken()
    async with many.operator():
        many.queue.add(slow)
        await started.wait()
        await many.clock.advance(2)
        many.broken = None
        await many.clock.advance(HASTEN_EVERY + 1)
        assert other not in many.reconciler.pending
        held.set()
        await settle(200)
    assert "preempted" not in many.passes


async def test_after_a_refusal_of_all_route_writes_all_are_safe_within_a_second() -> None:
    many = await fleet(12)
    many.broken = broken("Internal error: 500")
    async with many.operator():
        await many.run(30)
        assert many.unsafe == len(many.reconciler.pending) == 12
        some = many.cluster.all(kinds.AGENT_DEPLOYMENT)[7]["status"]
        assert "route still at 20%: Internal error: 500" in some["message"]
        assert some["phase"] == "Canary"
        before = many.tries
        await many.run(10)
        assert 12 * 10 * 0.5 <= many.tries - before <= 12 * 10 * 2
        many.broken = None
        await many.run(1)
        assert many.unsafe == len(many.reconciler.pending) == 0


def test_many_pending_rollbacks_are_tried_at_most_five_seconds_apart() -> None:
    pending = PendingRollbacks(VirtualClock())
    for n in range(2000):
        pending.begin(Key("team", f"agent-{n}"))
        assert 1.0 <= pending.patience() <= 5.0
    assert pending.patience() == 5.0


async def test_a_success_hastens_the_others_once_a_second_at_most() -> None:
    clock = VirtualClock()
    pending = PendingRollbacks(clock)
    assert not pending.begin(KEY)
    assert pending.begin(KEY)
    assert list(pending.others()) == [KEY]
    assert list(pending.others()) == []
    await clock.advance(HASTEN_EVERY)
    assert list(pending.others()) == [KEY]


async def test_a_verdict_that_outlives_its_attempt_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    async with world.operator():
        await world.stable()
        monkeypatch.setattr(world.store, "judgement", lambda key: judged(Verdict.FAIL))
        world.queue.add(KEY)
        await world.run(3)
        assert "cannot be determined" not in world.status["message"]
        assert world.status["phase"] == "Stable"
