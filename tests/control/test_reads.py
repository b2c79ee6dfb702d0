"""What is remembered holds traffic and takes it back; only the API server's own word gives it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from phasegate.api.errors import ClusterError, NotFound
from phasegate.control import kinds
from phasegate.control.evidence_store import EvidenceStore
from phasegate.control.observe import Observer
from phasegate.control.pace import Pace, checkpoint_every
from phasegate.control.ports import Key, Kind, Manifest
from phasegate.control.queue import WorkQueue
from phasegate.control.sampler import Sampler
from phasegate.control.standby import PACE, Standby
from phasegate.rollout.giving import gives_more
from phasegate.rollout.route import HeaderRoute, Mirror, RollbackIntent, RoutePlan, only, split
from phasegate.rollout.telling import Change

from tests.control.fakes import START, FakeCluster
from tests.control.world import KEY, World

STABLE, CANDIDATE = "aaaaaaaaaa", "bbbbbbbbbb"


class Memory(FakeCluster):
    """The same objects as the API server's, read without asking it; wrong where a test says so."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self._objects = world.cluster._objects
        self.optimistic = False
        """It believes that every pod is ready."""
        self.past: dict[str, Any] | None = None
        """The agent as it was."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        if kind == kinds.AGENT_DEPLOYMENT and self.past is not None:
            return copy.deepcopy(self.past)
        return await super().get(kind, namespace, name)

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        found = [dict(item) for item in await super().list(kind, namespace, selector)]
        for item in found if self.optimistic and kind == kinds.DEPLOYMENT else ():
            item["status"] = {"readyReplicas": item["spec"]["replicas"]}
        return found


def remembering(world: World) -> Memory:
    memory = Memory(world)
    world.reads = memory
    return memory


async def test_no_traffic_is_given_to_pods_that_only_memory_knows() -> None:
    world = World()
    memory = remembering(world)
    async with world.operator():
        await world.stable()
        memory.optimistic, world.pods_start = True, False
        written = len(world.router.history)
        world.apply(agent={"systemPrompt": "Be quick.", "sideEffects": "DryRun"})
        await world.run(30)
        assert world.status["phase"] == "Dark"
        assert world.router.history[written:] == []
        assert "0 of" in world.status["message"]


async def test_while_nothing_moves_nothing_is_asked() -> None:
    world = World()
    remembering(world)
    async with world.operator():
        await world.stable()
        world.apply(agent={"systemPrompt": "Be quick.", "sideEffects": "DryRun"})
        await world.until_phase("Dark")
        await world.run(5)
        world.cluster.reads.clear()
        await world.run(20)
        assert world.cluster.reads == []


async def test_traffic_is_taken_back_while_the_api_server_refuses_every_read() -> None:
    world = World()
    remembering(world)
    async with world.operator():
        await world.stable()
        world.apply(agent={"systemPrompt": "Be quick.", "sideEffects": "DryRun"})
        await world.until_phase("Canary")
        await world.run(5)
        for verb, kind in (("get", kinds.AGENT_DEPLOYMENT), ("list", kinds.DEPLOYMENT)):
            world.cluster.broken[f"{verb} {kind.plural}"] = ClusterError("no reads today")
        candidate = world.status["candidateRevision"]
        assert world.share(candidate) == 20
        world.error_rate[candidate] = 0.9
        await world.run(15)
        assert world.share(candidate) == 0


async def test_a_new_leader_with_an_old_memory_moves_nothing_by_it() -> None:
    world = World()
    async with world.operator():
        await world.stable()
        past = world.object
        world.apply(agent={"systemPrompt": "Be quick.", "sideEffects": "DryRun"})
        await world.until_phase("Canary")
        await world.run(5)
        split_before = world.router.plan
    memory = remembering(world)
    memory.past = past
    world.cluster.writes.clear()
    world.cluster.reads.clear()
    async with world.operator():
        assert "get agentdeployments" in world.cluster.reads
        assert "route" not in world.cluster.writes
        assert world.router.plan == split_before
        assert world.status["phase"] == "Canary"


async def test_a_candidate_is_promoted_by_the_api_servers_word_only() -> None:
    world = World()
    remembering(world)
    async with world.operator():
        await world.stable()
        stable = world.status["stableRevision"]
        world.apply(agent={"systemPrompt": "Be quick.", "sideEffects": "DryRun"})
        await world.until_phase("Full")
        await world.run(5)
        world.cluster.broken["get agentdeployments"] = ClusterError("no reads today")
        await world.run(60)
        assert world.status["stableRevision"] == stable
        world.cluster.broken.clear()
        await world.until_phase("Stable")
        assert world.status["stableRevision"] != stable


async def test_only_an_agent_that_is_gone_itself_is_forgotten() -> None:
    world = World()
    async with world.operator():
        await world.stable()
        world.cluster.broken["list deployments"] = NotFound("the server has no such resource")
        world.queue.add(KEY)
        await world.run(1)
        assert world.results[-1] == "retry"
        world.cluster.broken.clear()
        world.cluster.remove(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name)
        await world.run(5)
        assert world.results[-1] == "gone"


async def test_a_standby_knows_that_a_candidate_fails_and_writes_nothing() -> None:
    world = World()
    async with world.operator():
        await world.stable()
        world.apply(agent={"systemPrompt": "Be quick.", "sideEffects": "DryRun"})
        await world.until_phase("Canary")
        await world.run(5)
    candidate = world.status["candidateRevision"]
    world.cluster.writes.clear()
    queue = WorkQueue[Key](world.clock, lambda: 0.0)
    store = EvidenceStore(world.clock)
    observer = Observer(world.cluster, world.router, world.clock)
    sampler = Sampler({"default": world.metrics}, store, queue, world.clock, tick=1.0)
    standby = Standby(world.cluster, observer, store, sampler, queue, world.clock)
    tasks = [asyncio.ensure_future(standby.run()), asyncio.ensure_future(world.traffic())]
    queue.add(KEY)
    world.error_rate[candidate] = 0.9
    await world.run(2 * PACE + 1)
    judgement = store.judgement(KEY)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert judgement is not None
    assert judgement.verdict == "Fail"
    assert world.cluster.writes == []


INTENT = RollbackIntent("support-1", CANDIDATE, "canary", "error-rate", "bad", START)


@pytest.mark.parametrize(
    ("current", "wanted", "more"),
    [
        (None, only(STABLE, None), False),
        (None, split(STABLE, CANDIDATE, 5, None), True),
        (split(STABLE, CANDIDATE, 5, None), split(STABLE, CANDIDATE, 20, None), True),
        (split(STABLE, CANDIDATE, 20, None), split(STABLE, CANDIDATE, 5, None), False),
        (split(STABLE, CANDIDATE, 20, None), split(STABLE, "cccccccccc", 20, None), True),
        (split(STABLE, CANDIDATE, 100, None), only(CANDIDATE, None), False),
    ],
)
def test_a_candidate_is_given_more_when_its_share_grows(
    current: RoutePlan | None, wanted: RoutePlan, more: bool
) -> None:
    assert gives_more(current, wanted, STABLE) is more


def test_copies_and_requests_on_purpose_are_given_too() -> None:
    plain = only(STABLE, None)
    half = RoutePlan(plain.slots, Mirror(CANDIDATE, "dark", 50))
    whole = RoutePlan(plain.slots, Mirror(CANDIDATE, "dark", 100))
    asked = RoutePlan(plain.slots, None, HeaderRoute(CANDIDATE, "shadow"))
    assert gives_more(plain, half, STABLE)
    assert gives_more(half, whole, STABLE)
    assert not gives_more(whole, half, STABLE)
    assert gives_more(plain, asked, STABLE)
    assert not gives_more(asked, plain, STABLE)


def test_a_rollback_never_gives() -> None:
    back = RoutePlan(only("cccccccccc", None).slots, intent=INTENT)
    assert not gives_more(split(STABLE, CANDIDATE, 20, None), back, STABLE)


def test_few_rollouts_write_their_numbers_as_often_as_they_like_and_many_take_turns() -> None:
    few, numbers = Pace(running=lambda: 3), Change.NUMBERS
    assert few.write(numbers) == few.look() == few.refresh
    assert few.write(Change.VERDICTS) == 0
    assert checkpoint_every(3) == 60.0
    for many in (50, 100, 1000):
        pace = Pace(running=partial(int, many))
        assert many / pace.write(numbers) + many / checkpoint_every(many) < 0.16
        assert many / pace.write(Change.VERDICTS) < 0.7
        assert many / pace.look() <= 17
        assert pace.look() <= 60
        assert pace.write(Change.NEWS) == 0


def test_agents_with_nothing_to_do_are_looked_at_the_less_often_the_more_there_are() -> None:
    pace = Pace()
    assert pace.idle(1) == pace.resync
    assert 10_000 / pace.idle(10_000) <= 2.5
