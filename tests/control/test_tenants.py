"""Many at once, and one that hangs: everybody else's users are looked after as if they were alone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from phasegate.api.agentdeployment import Phase
from phasegate.api.errors import ClusterError
from phasegate.control import kinds
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.pace import Pace
from phasegate.control.ports import Key, Kind, Manifest, RawSeries
from phasegate.control.queue import WorkQueue
from phasegate.control.sampler import PATIENCE, Sampler

from tests.control.fakes import FakeCluster, FakeRouter, VirtualClock, settle
from tests.control.sampling import EVERY_KIND, observed
from tests.control.world import KEY, FakeProvider, World, agent

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}
CANARY = Phase(name="canary-20", type="Canary", weight=20, min_duration="120s", min_samples=20)
HANGS = 5.0
"""Seconds until a call that hangs is given up."""


class Workers:
    """Workers whose passes last as long as a test says."""

    def __init__(self, normal: int = 8, urgent: int = 2, jitter: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.queue: WorkQueue[Key] = WorkQueue(
            self.clock, lambda: jitter, lambda key: key.namespace
        )
        self.lasts: dict[str, float] = {}
        self.busy: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: dict[Key, float] = {}
        self.tasks = [asyncio.ensure_future(self.queue.run())]
        for number in range(normal + urgent):
            self.tasks.append(asyncio.ensure_future(self._work(urgent_only=number >= normal)))

    async def _work(self, *, urgent_only: bool) -> None:
        while True:
            key = await self.queue.get(urgent_only=urgent_only)
            self.began.setdefault(key, self.clock.monotonic())
            self.busy[key.namespace] += 1
            self.most[key.namespace] = max(self.most[key.namespace], self.busy[key.namespace])
            await self.clock.sleep(self.lasts.get(key.namespace, 0.001))
            self.busy[key.namespace] -= 1
            self.queue.done(key)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def keys(namespace: str, number: int) -> list[Key]:
    return [Key(namespace, f"agent-{n}") for n in range(number)]


@pytest.mark.parametrize("urgent", [False, True], ids=["normal", "urgent"])
async def test_a_tenant_whose_passes_hang_leaves_half_of_the_workers_to_others(
    urgent: bool,
) -> None:
    workers = Workers()
    workers.lasts["hangs"] = 30.0
    for key in keys("hangs", 100):
        workers.queue.add(key, urgent=urgent)
    await workers.clock.advance(1)
    for key in keys("works", 50):
        workers.queue.add(key, urgent=urgent)
    await workers.clock.advance(1)
    assert workers.most["hangs"] == (5 if urgent else 4)
    assert all(workers.began[key] < 1.1 for key in keys("works", 50))
    await workers.end()


async def test_somebody_new_finds_a_worker_although_several_tenants_hang() -> None:
    workers = Workers()
    for tenant in range(6):
        workers.lasts[f"hangs-{tenant}"] = 30.0
        for key in keys(f"hangs-{tenant}", 100):
            workers.queue.add(key)
    await workers.clock.advance(1)
    workers.queue.add(Key("works", "agent"))
    await workers.clock.advance(0.01)
    assert Key("works", "agent") in workers.began
    await workers.end()


async def test_every_key_of_a_tenant_that_hangs_still_gets_its_turn() -> None:
    workers = Workers()
    workers.lasts["hangs"] = 1.0
    for key in keys("hangs", 40):
        workers.queue.add(key)
    await workers.clock.advance(11)
    assert len(workers.began) == 40
    await workers.end()


async def test_tenants_take_turns_however_much_one_of_them_has_to_do() -> None:
    clock = VirtualClock()
    queue: WorkQueue[Key] = WorkQueue(clock, lambda: 0.0, lambda key: key.namespace)
    for key in (*keys("many", 100), *keys("few", 2)):
        queue.add(key)
    order = []
    for _ in range(6):
        key = await queue.get()
        order.append(key.namespace)
        queue.done(key)
    assert order == ["many", "few", "many", "few", "many", "many"]


async def test_rollbacks_of_a_tenant_that_hangs_hurry_nobody_else() -> None:
    workers = Workers()
    workers.lasts["hangs"] = 30.0
    for key in keys("hangs", 20):
        workers.queue.add(key, urgent=True)
    await workers.clock.advance(0.5)
    hurried = workers.queue.hurried
    assert hurried
    await workers.clock.advance(1)
    assert not workers.queue.hurried
    await workers.end()


class Slow(FakeCluster):
    """An API server on which everything of one namespace hangs (a webhook, say)."""

    hanging = "hangs"

    async def _hang(self, namespace: str | None) -> None:
        if namespace == self.hanging:
            await self._clock.sleep(HANGS)
            raise ClusterError("The API server did not answer within 5 s")

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        await self._hang(namespace)
        return await super().get(kind, namespace, name)


async def time_to_safety(neighbours: int) -> float:
    """Seconds from a breach to the route, with so many agents beside whose passes hang."""
    world = World()
    world.workers = 4
    world.cluster = world.reads = Slow(world.clock)
    world.router = FakeRouter(world.cluster.writes)
    for number in range(neighbours):
        other = agent()
        other["metadata"] = {"name": f"agent-{number}", "namespace": Slow.hanging}
        world.cluster.put(other)
    world.cluster.put(agent())
    async with world.operator():
        await world.run(5)
        mine = world.cluster.all(kinds.AGENT_DEPLOYMENT)[-1]["metadata"]
        assert (mine["namespace"], mine["name"]) == (KEY.namespace, KEY.name)
        changed = agent(agent=NEW)
        world.cluster.put(changed)
        world.queue.add(KEY)
        await world.run(50)
        (first,) = [plan for plan in world.router.history if plan.mirror is not None][:1]
        assert first.mirror is not None
        world.error_rate[first.mirror.revision] = 0.5
        began = world.clock.monotonic()
        for _ in range(600):
            await world.run(0.1)
            plan = world.router.plan
            if plan is not None and plan.intent is not None:
                return world.clock.monotonic() - began
        raise AssertionError("never taken back")


async def test_a_tenant_whose_calls_hang_delays_nobodys_rollback() -> None:
    alone = await time_to_safety(0)
    assert await time_to_safety(60) == pytest.approx(alone, abs=0.3)


class HangingProvider(FakeProvider):
    """A Prometheus that takes its time with everything."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.looks: list[float] = []

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        self.looks.append(self._clock.monotonic())
        await self._clock.sleep(20)
        return await super().raw(selector, start, end)


async def test_a_provider_that_hangs_delays_no_look_at_another() -> None:
    clock = VirtualClock()
    good, slow = FakeProvider(), HangingProvider(clock)
    store = EvidenceStore(clock)
    queue: WorkQueue[Key] = WorkQueue(clock, lambda: 0.0)
    for name, provider in (("one", "good"), ("two", "slow")):
        key, policy = Key("team", name), {**EVERY_KIND, "prometheus": provider}
        store.track(key, *observed(policy, phase=CANARY, key=key))
    sampler = Sampler({"good": good, "slow": slow}, store, queue, clock, tick=1.0)
    task = asyncio.ensure_future(sampler.run())
    await settle()
    await clock.advance(61)
    assert len(good.queries) >= 60 / (1.0 + PATIENCE) - 1
    assert 2 <= len(slow.looks) <= 6, "half of its time at most, and catching up beside"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_thousand_agents_that_start_together_do_not_stay_together() -> None:
    clock, dice = VirtualClock(), random.Random(1)
    queue: WorkQueue[Key] = WorkQueue(clock, dice.random, lambda key: key.namespace)
    seconds: Counter[int] = Counter()
    every = Pace().idle(1000)

    async def work() -> None:
        while True:
            key = await queue.get()
            seconds[int(clock.monotonic())] += 1
            queue.look_again(key, every)
            queue.done(key)

    tasks = [asyncio.ensure_future(job) for job in (queue.run(), work())]
    for key in keys("team", 1000):
        queue.add(key)
    await clock.advance(6 * every)
    assert seconds[0] == 1000
    late = [count for second, count in seconds.items() if second > 4 * every]
    assert sum(late) >= 1900
    assert max(late) < 30, "about two a second were even"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
