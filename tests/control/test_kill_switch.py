"""A deactivated agent: off at once and past everything, on again by a person's word and ready pods."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.control import kinds
from phasegate.rollout.route import Backend

from tests.control.people import act, enforce_identity, outcome
from tests.control.test_rollback_by_hand import StuckCluster
from tests.control.test_rollback_path import NEW, canary
from tests.control.world import KEY, World, broken

FALLBACK = {"service": {"name": "human-desk", "port": 80}}


def world_of_people() -> World:
    world = World()
    enforce_identity(world.cluster)
    return world


def serve_fallback(world: World, **spec: Any) -> None:
    metadata = {"name": "human-desk", "namespace": KEY.namespace}
    ports = [{"port": 80, "targetPort": 8080}]
    world.cluster.put({"kind": "Service", "metadata": metadata, "spec": {"ports": ports, **spec}})


def off(world: World) -> Any:
    assert world.router.plan is not None
    return world.router.plan.off


async def killed(world: World, **spec: Any) -> str:
    """A stable agent that somebody has switched off; its revision."""
    await world.stable()
    if spec:
        world.apply(**spec)
        await world.run(3)
    stable: str = world.status["stableRevision"]
    act(world, "KillSwitch", stable, "off")
    await world.run(2)
    assert world.status["phase"] == "Deactivated"
    return stable


async def test_a_canary_ends_and_nobody_gets_either_revision() -> None:
    world = world_of_people()
    async with world.operator():
        candidate = await canary(world)
        stable = world.status["stableRevision"]
        act(world, "KillSwitch", candidate, "off", reason="it insults people")
        await world.run(0)
        assert (world.share(stable), world.share(candidate)) == (0, 0)
        assert off(world).by == "alice"
        await world.run(3)
        status = world.status
        assert "progress" not in status
        assert status["rejectedRevisions"] == [candidate]
        assert (status["rollback"]["trigger"], status["rollback"]["by"]) == ("KillSwitch", "alice")
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[-1]["status"]
        assert (record["phase"], record["gates"][-1]["reason"]) == ("RolledBack", "KillSwitch")
        assert outcome(world, "off")["outcome"] == "Accepted"


async def test_it_says_who_why_and_how_to_go_on() -> None:
    world = world_of_people()
    async with world.operator():
        owner = {"rollbackOwner": "olga", "backup": "bob"}
        stable = await killed(world, owner=owner)
        ready, stalled = world.condition("Ready"), world.condition("Stalled")
        assert (ready["status"], stalled["status"]) == ("False", "True")
        assert ready["reason"] == stalled["reason"] == "Deactivated"
        assert world.condition("Deactivated")["status"] == "True"
        for words in ("alice", "looks wrong", "every request is refused", "Resume as olga or bob"):
            assert words in stalled["message"]
        assert stable in stalled["message"]
        told = [a for a in world.recorder.announced if a.reason == "Deactivated"]
        assert [a.type for a in told] == ["Warning"]
        assert {share["percent"] for share in world.status["traffic"]} == {0}


async def test_nothing_stands_before_it_and_it_is_one_write() -> None:
    world = World()
    world.cluster = world.reads = cluster = StuckCluster(world.clock)
    world.router._journal = cluster.writes
    enforce_identity(cluster)
    async with world.operator():
        candidate = await canary(world)
        cluster.stuck = True
        world.queue.add(KEY)
        await world.run(2)
        before = len(world.router.history)
        act(world, "KillSwitch", candidate, "off")
        await world.run(0)
        assert off(world) is not None
        assert len(world.router.history) == before + 1
        cluster.stuck = False
        await world.run(60)
        assert world.status["phase"] == "Deactivated"


async def test_edits_are_taken_in_and_get_no_traffic_until_the_owner_resumes() -> None:
    world = world_of_people()
    async with world.operator():
        stable = await killed(world, owner={"rollbackOwner": "olga"})
        world.apply(agent=NEW, owner={"rollbackOwner": "olga"}, replicas=3)
        await world.run(120)
        assert world.status["phase"] == "Deactivated"
        assert world.status["observedGeneration"] == world.object["metadata"]["generation"]
        assert len(world.cluster.all(kinds.CONTROLLER_REVISION)) == 2
        assert [d["spec"]["replicas"] for d in world.cluster.all(kinds.DEPLOYMENT)] == [3]
        act(world, "Resume", stable, "not-mine")
        await world.run(3)
        assert "neither" in outcome(world, "not-mine")["message"]
        assert off(world) is not None
        act(world, "Resume", stable, "on", actor="olga")
        await world.run(3)
        assert outcome(world, "on")["outcome"] == "Accepted"
        assert world.share(stable) == 100
        await world.until_phase("Dark", most=20)
        assert world.condition("Deactivated")["status"] == "absent"


async def test_users_come_back_only_to_pods_that_are_ready() -> None:
    world = world_of_people()
    async with world.operator():
        stable = await killed(world)
        world.pods_start = False
        await world.run(3)
        act(world, "Resume", stable, "on")
        await world.run(30)
        assert outcome(world, "on")["outcome"] == "Accepted"
        assert off(world) is not None
        assert f"0 of 2 pods of {stable} are ready" in world.status["message"]
        world.pods_start = True
        await world.run(5)
        assert world.share(stable) == 100
        assert world.status["phase"] == "Stable"
        assert [a.reason for a in world.recorder.announced].count("Reactivated") == 1


async def test_who_switches_off_again_before_users_are_back_is_obeyed() -> None:
    world = world_of_people()
    async with world.operator():
        stable = await killed(world)
        world.pods_start = False
        await world.run(2)
        act(world, "Resume", stable, "on")
        await world.run(2)
        act(world, "KillSwitch", stable, "again", actor="bob")
        await world.run(2)
        world.pods_start = True
        await world.run(30)
        assert off(world).by == "bob"


async def test_of_two_words_of_one_second_the_one_that_switches_off_is_the_last() -> None:
    world = world_of_people()
    async with world.operator():
        stable = await killed(world)
        act(world, "KillSwitch", stable, "a-off", actor="bob")
        act(world, "Resume", stable, "b-on")
        await world.run(10)
        assert outcome(world, "b-on")["outcome"] == "Accepted"
        assert off(world).by == "bob"


async def test_a_second_word_changes_nothing() -> None:
    world = world_of_people()
    async with world.operator():
        stable = await killed(world)
        written = len(world.router.history)
        act(world, "KillSwitch", stable, "again", actor="bob")
        await world.run(3)
        assert outcome(world, "again")["message"] == "already deactivated by alice"
        assert off(world).by == "alice"
        assert len(world.router.history) == written


async def test_a_word_about_a_revision_of_last_week_is_refused() -> None:
    world = world_of_people()
    async with world.operator():
        await world.stable()
        act(world, "KillSwitch", "0123456789", "off")
        await world.run(3)
        assert outcome(world, "off")["outcome"] == "Refused"
        assert off(world) is None


async def test_the_fallback_answers_as_long_as_it_can() -> None:
    world = world_of_people()
    async with world.operator():
        serve_fallback(world)
        await killed(world, fallback=FALLBACK)
        assert off(world).fallback == Backend("human-desk", 80)
        assert "Service human-desk:80 answers instead" in world.status["message"]
        world.cluster.remove(kinds.SERVICE, KEY.namespace, "human-desk")
        await world.run(15)
        assert off(world).fallback is None
        assert "human-desk does not exist" in world.status["message"]
        world.cluster.broken["get services"] = broken()
        await world.run(15)
        assert off(world).fallback is None, "what was known last counts"
        world.cluster.broken.clear()
        serve_fallback(world)
        await world.run(15)
        assert off(world).fallback == Backend("human-desk", 80)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"ports": [{"port": 8080}]}, "no port 80; it has 8080"),
        ({"selector": {"phasegate.dev/agent": "other"}}, "is an agent's"),
        ({"type": "ExternalName", "externalName": "example.com"}, "ExternalName"),
    ],
)
async def test_a_fallback_that_cannot_answer_is_told_before_an_attempt_and_never_routed_to(
    spec: dict[str, Any], words: str
) -> None:
    world = world_of_people()
    async with world.operator():
        serve_fallback(world, **spec)
        await world.stable()
        world.apply(agent=NEW, fallback=FALLBACK)
        await world.run(5)
        assert "progress" not in world.status
        assert world.condition("Stalled")["reason"] == "FallbackInvalid"
        assert words in world.status["message"]
        act(world, "KillSwitch", world.status["stableRevision"], "off")
        await world.run(2)
        assert off(world).fallback is None


async def test_a_fallback_that_nobody_can_look_at_is_trusted() -> None:
    world = world_of_people()
    async with world.operator():
        await world.stable()
        world.apply(fallback=FALLBACK)
        await world.run(2)
        world.cluster.broken["get services"] = broken()
        act(world, "KillSwitch", world.status["stableRevision"], "off")
        await world.run(0)
        assert off(world).fallback == Backend("human-desk", 80)


async def test_a_route_that_somebody_opens_again_is_shut_again() -> None:
    world = world_of_people()
    async with world.operator():
        stable = await killed(world)
        closed = world.router.plan
        assert closed is not None
        world.router.plan = type(closed)(closed.slots)
        assert world.share(stable) == 100
        world.queue.add(KEY)
        await world.run(2)
        assert world.router.plan == closed


async def test_a_process_that_finds_only_the_route_keeps_it_off() -> None:
    world = world_of_people()
    async with world.operator():
        await killed(world)
    status = {k: v for k, v in world.status.items() if k not in ("deactivated", "phase")}
    world.cluster.set_status(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name, status)
    async with world.operator():
        await world.run(10)
        assert off(world).by == "alice"
        assert world.status["deactivated"]["by"] == "alice"
        assert world.status["phase"] == "Deactivated"


async def test_a_deactivated_agent_can_be_deleted_and_nobody_is_let_in_meanwhile() -> None:
    world = world_of_people()
    async with world.operator():
        stable = await killed(world)
        live = world.object
        live["metadata"] |= {
            "deletionTimestamp": world.clock.now().isoformat(),
            "finalizers": ["phasegate.dev/traffic"],
        }
        world.cluster.put(live)
        world.queue.add(KEY)
        history = len(world.router.history)
        await world.run(1)
        assert all(plan.percent(stable) == 0 for plan in world.router.history[history:])
        await world.run(60)
        assert world.router.plan is None
