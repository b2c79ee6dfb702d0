"""A person's Rollback: as urgent as evidence, and past everything that holds an attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from phasegate.control import kinds
from phasegate.control.ports import Key, Kind, Manifest
from phasegate.rollout.route import RoutePlan

from tests.control.fakes import FakeCluster, VirtualClock, settle
from tests.control.people import act, enforce_identity, outcome
from tests.control.test_rollback_path import NEW, canary, fleet
from tests.control.world import KEY, PHASES, World, broken

NEEDED = {"get agentdeployments", "list rolloutactions"} | {
    f"get {kind.plural}" for kind in (kinds.ADMISSION_POLICY, kinds.ADMISSION_BINDING)
}
"""Without these nobody can tell what a person has decided."""


class StuckCluster(FakeCluster):
    """An API server that, while it is stuck, answers nothing but what is needed."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.stuck = False
        self.unread: set[str] = set()
        """What nobody is answered at all."""

    async def _pass_on(self, call: str) -> None:
        while call in self.unread or (self.stuck and call not in NEEDED):
            await self._clock.sleep(0.1)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        await self._pass_on(f"get {kind.plural}")
        return await super().get(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Any:
        await self._pass_on(f"list {kind.plural}")
        return await super().list(kind, namespace, selector)

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        await self._pass_on("apply")
        return await super().apply(manifest, dry_run=dry_run)

    async def patch_status(self, *args: Any) -> Manifest:
        await self._pass_on("patch-status")
        return await super().patch_status(*args)


async def paused(world: World) -> str:
    candidate = await canary(world)
    act(world, "Pause", candidate, "hold")
    await world.run(2)
    assert world.status["progress"]["hold"]["by"] == "alice"
    return candidate


async def unapproved(world: World) -> str:
    """Waiting for somebody's word on the next phase."""
    await world.stable()
    phases = [*PHASES[:2], {**PHASES[2], "approval": "Required"}]
    world.apply(agent=NEW, strategy={"phases": phases})
    await world.until_phase("Canary")
    await world.run(90)
    assert world.condition("AwaitingApproval")["status"] == "True"
    return str(world.status["candidateRevision"])


async def without_policy(world: World) -> str:
    candidate = await canary(world)
    world.apply(agent=NEW, policyRef={"name": "gone"})
    await world.run(3)
    return candidate


async def refused_spec(world: World) -> str:
    """A spec that nobody can make anything of any more."""
    candidate = await canary(world)
    world.apply(agent=NEW, replicas="many")
    await world.run(3)
    return candidate


@pytest.mark.parametrize("held", [paused, unapproved, without_policy, refused_spec, canary])
async def test_users_go_back_although_nothing_else_is_answered(
    held: Callable[[World], Awaitable[str]],
) -> None:
    world = World()
    world.cluster = world.reads = cluster = StuckCluster(world.clock)
    world.router._journal = cluster.writes
    enforce_identity(cluster)
    async with world.operator():
        candidate = await held(world)
        assert world.share(candidate) == 20
        cluster.stuck = True
        world.queue.add(KEY)  # a pass that waits for ever
        await world.run(2)
        act(world, "Rollback", candidate)
        await world.run(0)
        assert world.share(candidate) == 0
        assert world.results[-1] == "preempted"
        cluster.stuck = False


async def test_its_outcome_is_told_once_it_is_in_the_record() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
        before = len(world.cluster.writes)
        act(world, "Rollback", candidate)
        await world.run(2)
        assert outcome(world)["outcome"] == "Accepted"
        assert outcome(world)["message"] == f"traffic is taken from {candidate}"
        assert world.status["rollback"]["by"] == "alice"
        writes = [w for w in world.cluster.writes[before:] if "events" not in w]
        order = ("route", "patch-status agentdeployments", "patch-status agentrollouts")
        last = "patch-status rolloutactions"
        assert [writes.index(w) for w in (*order, last)] == sorted(
            writes.index(w) for w in (*order, last)
        )
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[-1]["status"]
        assert record["incident"]["by"] == "alice"
        assert set(world.results) <= {"ok", "preempted"}


async def test_it_waits_for_who_may_act_to_be_known_and_no_second_longer() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
        world.cluster.broken["get validatingadmissionpolicies"] = broken()
        act(world, "Rollback", candidate)
        await world.run(7.5)
        assert world.share(candidate) == 20
        assert outcome(world) == {}
        world.cluster.broken.clear()
        await world.run(1.1)
        assert world.share(candidate) == 0


async def test_it_counts_for_nothing_while_nobodys_identity_is_enforced() -> None:
    async with World().operator() as world:
        candidate = await canary(world)
        act(world, "Rollback", candidate)
        await world.run(2)
        assert world.share(candidate) == 20
        assert "nobody's identity is enforced" in outcome(world)["message"]


async def test_one_about_another_revision_moves_nobody_and_is_answered() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
        act(world, "Rollback", "0123456789")
        await world.run(2)
        assert world.share(candidate) == 20
        assert outcome(world)["outcome"] == "Refused"
        assert world.reconciler.urgent(KEY) is False


async def test_what_else_fails_is_not_urgent_because_somebody_asked() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
        world.cluster.broken["patch-status agentrollouts"] = broken()
        act(world, "Rollback", candidate)
        await world.run(30)
        assert world.share(candidate) == 0
        assert world.results[-1] == "retry"
        assert world.reconciler.urgent(KEY) is False
        world.cluster.broken.clear()
        await world.run(60)
        assert outcome(world)["outcome"] == "Accepted"


async def test_who_asks_again_and_again_does_not_keep_it_from_being_done() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
        write = world.router.write

        async def slowly(agent: Manifest, plan: RoutePlan) -> None:
            await world.clock.sleep(0.5)
            await write(agent, plan)

        world.router.write = slowly  # type: ignore[method-assign]
        world.results.clear()
        for number in range(20):
            act(world, "Rollback", candidate, f"again-{number}")
            await world.run(0.1)
        assert world.share(candidate) == 0
        assert world.results.count("preempted") <= 1
        await world.run(30)
        assert {outcome(world, f"again-{n}")["outcome"] for n in range(20)} >= {"Accepted"}
        assert world.reconciler.urgent(KEY) is False


async def test_evidence_ends_a_pass_in_which_a_persons_word_cannot_be_read() -> None:
    world = World()
    world.cluster = world.reads = cluster = StuckCluster(world.clock)
    world.router._journal = cluster.writes
    async with world.operator():
        candidate = await canary(world)
        cluster.unread.add("list rolloutactions")
        world.reconciler.ask(KEY)
        await world.run(1)
        world.error_rate[candidate] = 1.0
        await world.run(6)
        assert world.share(candidate) == 0
        assert "preempted" in world.results
        cluster.unread.clear()


async def test_it_is_carried_out_by_a_process_that_finds_it() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
    metadata = {"name": "a1", "namespace": KEY.namespace}
    told = {"agent": KEY.name, "verb": "Rollback", "revision": candidate, "reason": "wrong"}
    world.cluster.put(
        {"kind": "RolloutAction", "metadata": metadata, "spec": {**told, "actor": "alice"}}
    )
    async with world.operator():
        await world.run(2)
        assert world.share(candidate) == 0
        assert outcome(world)["outcome"] == "Accepted"


async def test_it_is_not_behind_five_hundred_that_evidence_takes_back() -> None:
    many = await fleet(500, elsewhere=1)
    key = Key("elsewhere-0", "agent")
    many.bad.discard(key)
    many.call_takes = 0.02
    enforce_identity(many.cluster)
    candidate = many.cluster.all(kinds.AGENT_DEPLOYMENT)[0]["status"]["candidateRevision"]
    async with many.operator(workers=16, urgent=4):
        await many.clock.advance(0.2)
        told = {"agent": key.name, "verb": "Rollback", "revision": candidate, "reason": "bad"}
        metadata = {"name": "a1", "namespace": key.namespace}
        many.cluster.put(
            {"kind": "RolloutAction", "metadata": metadata, "spec": {**told, "actor": "alice"}}
        )
        many.reconciler.ask(key)
        await many.clock.advance(0.05)
        assert many.routes[key].intent is not None
        assert many.unsafe > 300
        await many.clock.advance(1)
        assert "patch-status rolloutactions" not in many.cluster.writes, "words wait in a surge"
        await many.rest()
        await many.run(2)
        assert "patch-status rolloutactions" in many.cluster.writes
        await settle(100)


async def test_who_is_safe_and_not_told_of_can_be_switched_off_in_the_middle_of_a_surge() -> None:
    many = await fleet(40)
    key = min(many.bad)
    enforce_identity(many.cluster)
    candidate = many.cluster.all(kinds.AGENT_DEPLOYMENT)[0]["status"]["candidateRevision"]
    async with many.operator():
        await settle(4000)
        assert many.unsafe == 0
        assert "patch-status agentdeployments" not in many.cluster.writes
        told = {"agent": key.name, "verb": "KillSwitch", "revision": candidate, "reason": "bad"}
        metadata = {"name": "a1", "namespace": key.namespace}
        many.cluster.put(
            {"kind": "RolloutAction", "metadata": metadata, "spec": {**told, "actor": "alice"}}
        )
        many.reconciler.ask(key)
        await settle(4000)
        first = many.routes[key].off
        assert first is not None
        for _ in range(4):  # the words wait; the route is not written for them again
            await many.clock.advance(0.5)
            assert many.routes[key].off == first
        await many.rest()


# --- after Stable --------------------------------------------------------------------------------


async def promoted(world: World, **spec: Any) -> tuple[str, str]:
    """A candidate that has just become stable; the revision before it, and itself."""
    await world.stable()
    before: str = world.status["stableRevision"]
    world.apply(agent=NEW, **spec)
    await world.until_phase("Full")
    await world.until_phase("Stable")
    await world.run(5)
    return before, world.status["stableRevision"]


async def test_a_person_takes_back_what_has_just_become_stable() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        before, now = await promoted(world)
        act(world, "Rollback", now)
        await world.run(0)
        assert world.share(before) == 100
        await world.run(90)
        status = world.status
        assert (status["stableRevision"], status["phase"]) == (before, "RolledBack")
        assert (status["rollback"]["by"], status["rollback"]["trigger"]) == ("alice", "Rollback")
        assert world.condition("RolledBack")["reason"] == "RolledBack"
        assert status["rejectedRevisions"] == [now]
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[-1]["status"]
        assert record["incident"]["by"] == "alice"
        assert outcome(world)["outcome"] == "Accepted"


async def test_a_stable_revision_is_not_taken_back_to_nothing() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        _, now = await promoted(world, standby={"keepWarm": "1s"})
        await world.run(60)
        act(world, "Rollback", now)
        await world.run(2)
        assert world.share(now) == 100
        assert outcome(world)["outcome"] == "Refused"
        assert "no revision before it is kept warm: to go back restore" in outcome(world)["message"]


async def test_nor_to_pods_that_are_not_ready() -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        before, now = await promoted(world)
        world.pods_start = False
        await world.run(2)
        act(world, "Rollback", now)
        await world.run(2)
        assert world.share(now) == 100
        assert f"0 of 1 pods of {before} are ready" in outcome(world)["message"]
