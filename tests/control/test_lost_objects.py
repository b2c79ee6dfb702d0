"""Objects that somebody deletes or wipes: nothing that was decided is forgotten or overwritten."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.control import kinds

from tests.control.test_loop import NEW, bad_canary, policy
from tests.control.world import KEY, World

LEVEL = {"name": "error-rate", "rollback": {"above": "20%", "window": "5m"}}
OTHER = {"systemPrompt": "Answer in rhymes.", "sideEffects": "DryRun"}


def records(world: World) -> dict[str, dict[str, Any]]:
    return {r["metadata"]["name"]: r for r in world.cluster.all(kinds.AGENT_ROLLOUT)}


def wipe(world: World) -> None:
    """``kubectl edit --subresource=status``, and everything deleted."""
    world.cluster.set_status(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name, {})
    world.queue.add(KEY)


async def canary(world: World) -> str:
    """A good candidate that has its users."""
    candidate = await bad_canary(world)
    world.error_rate[candidate] = 0.01
    return candidate


async def test_a_restart_while_the_policy_is_gone_judges_by_what_the_attempt_kept() -> None:
    world = World()
    async with world.operator():
        world.cluster.put(policy(LEVEL))
        await world.stable()
        world.apply(agent=NEW, policyRef={"name": "strict"})
        await world.until_phase("Canary")
        await world.run(10)
    world.cluster.remove(kinds.ROLLBACK_POLICY, KEY.namespace, "strict")
    async with world.operator():
        await world.run(30)
        assert world.status["phase"] == "Canary"
        judgement = world.store.judgement(KEY)
        assert judgement is not None
        assert [check.limit for check in judgement.checks] == [0.2]
        words = world.condition("Stalled")["message"]
        assert "RollbackPolicy 'strict' does not exist" in words
        assert "judged by the policy as it was last read" in words
        world.error_rate[world.status["candidateRevision"]] = 1.0
        await world.run(20)
        assert world.status["rollback"]["trigger"] == "error-rate"


async def test_a_policy_that_is_edited_is_kept_as_it_is_now() -> None:
    world = World()
    async with world.operator():
        world.cluster.put(policy(LEVEL))
        await world.stable()
        world.apply(agent=NEW, policyRef={"name": "strict"})
        await world.until_phase("Canary")
        world.cluster.put(policy({**LEVEL, "rollback": {"above": "30%", "window": "5m"}}))
        world.queue.add(KEY)
        await world.run(10)
    world.cluster.remove(kinds.ROLLBACK_POLICY, KEY.namespace, "strict")
    async with world.operator():
        await world.run(10)
        judgement = world.store.judgement(KEY)
        assert judgement is not None
        assert [check.limit for check in judgement.checks] == [0.3]


async def test_a_status_wiped_in_mid_rollout_ends_with_stable_and_the_attempt_is_closed() -> None:
    async with World().operator() as world:
        candidate = await canary(world)
        stable = world.status["stableRevision"]
        before = records(world)["support-1"]["status"]["gates"]
        world.pods_start = False  # so that the next attempt does not get far
        wipe(world)
        await world.run(3)
        assert world.share(stable) == 100
        assert world.status["stableRevision"] == stable
        ended = records(world)["support-1"]
        assert ended["spec"]["revision"] == candidate
        assert ended["status"]["phase"] == "Cancelled"
        assert ended["status"]["gates"][: len(before)] == before
        assert "was lost" in ended["status"]["message"]


async def test_the_next_attempt_after_a_lost_status_gets_the_next_number() -> None:
    async with World().operator() as world:
        candidate = await canary(world)
        wipe(world)
        await world.run(5)
        assert world.status["currentRollout"] == "support-2"
        assert set(records(world)) == {"support-1", "support-2"}
        assert world.status["candidateRevision"] == candidate
        assert world.status["phase"] == "Dark"


async def test_what_was_rolled_back_stays_rejected_when_the_status_is_lost() -> None:
    async with World().operator() as world:
        candidate = await bad_canary(world)
        await world.run(30)
        before = records(world)
        wipe(world)
        await world.run(60)
        assert world.status["rejectedRevisions"] == [candidate]
        assert world.status["phase"] == "RolledBack"
        assert records(world) == before
        assert world.share(candidate) == 0


async def test_without_status_and_service_stable_is_what_the_records_say() -> None:
    world = World()
    async with world.operator():
        candidate = await canary(world)
        stable = world.status["stableRevision"]
    world.cluster.remove(kinds.SERVICE, KEY.namespace, KEY.name)
    world.cluster.set_status(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name, {})
    async with world.operator():
        await world.run(3)
        assert world.status["stableRevision"] == stable
        assert world.share(candidate) == 0


async def test_an_agent_of_the_same_name_takes_the_next_free_number() -> None:
    world = World()
    async with world.operator():
        candidate = await bad_canary(world)
        await world.run(30)
    before = records(world)["support-1"]
    for kind in (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONTROLLER_REVISION):
        for item in world.cluster.all(kind):
            world.cluster.remove(kind, KEY.namespace, item["metadata"]["name"])
    world.cluster.remove(kinds.AGENT_DEPLOYMENT, KEY.namespace, KEY.name)
    world.router.plan = None
    async with world.operator():
        await world.stable()
        world.error_rate[candidate] = 0.01
        world.apply(agent=NEW)  # what was bad for the agent before is not held against this one
        await world.until_phase("Canary")
        assert world.status["currentRollout"] == "support-2"
        assert records(world)["support-1"] == before


async def test_a_record_of_somebody_elses_attempt_is_never_overwritten() -> None:
    async with World().operator() as world:
        await canary(world)
        world.cluster.remove(kinds.AGENT_ROLLOUT, KEY.namespace, "support-1")
        foreign = {
            "apiVersion": "phasegate.dev/v1alpha1",
            "kind": "AgentRollout",
            "metadata": {"name": "support-1", "namespace": KEY.namespace, "uid": "of-another"},
            "spec": {"agent": "other"},
        }
        world.cluster.put(foreign)
        await world.run(30)
        found = records(world)["support-1"]
        assert found["spec"] == foreign["spec"]
        assert "status" not in found


@pytest.mark.parametrize("whose", ["stableRevision", "candidateRevision"])
async def test_a_stored_revision_deleted_in_mid_rollout_is_stored_again(whose: str) -> None:
    async with World().operator() as world:
        await canary(world)
        lost = f"support-{world.status[whose]}"
        stored = {r["metadata"]["name"]: r for r in world.cluster.all(kinds.CONTROLLER_REVISION)}
        world.cluster.remove(kinds.CONTROLLER_REVISION, KEY.namespace, lost)
        world.queue.add(KEY)
        await world.run(3)
        again = {r["metadata"]["name"]: r for r in world.cluster.all(kinds.CONTROLLER_REVISION)}
        assert again[lost]["data"] == stored[lost]["data"]
        assert world.status["phase"] == "Canary"


async def test_pods_stay_although_the_revision_they_were_made_from_is_lost() -> None:
    world = World()
    async with world.operator():
        await canary(world)
        stable = world.status["stableRevision"]
    world.cluster.remove(kinds.CONTROLLER_REVISION, KEY.namespace, f"support-{stable}")
    async with world.operator():
        world.apply(agent=OTHER)
        await world.run(120)
        names = {d["metadata"]["name"] for d in world.cluster.all(kinds.DEPLOYMENT)}
        assert f"support-{stable}" in names
        assert world.status["stableRevision"] == stable
