"""What only explains, or only the next attempt rests on, never stands before a rollback."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.api.errors import ClusterError, Fenced, Refused
from phasegate.control import kinds

from tests.control.people import act, enforce_identity
from tests.control.world import KEY, World, agent, broken

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}
PROMPT = {"systemPromptFrom": {"configMapKeyRef": {"name": "p", "key": "text"}}}
METRIC = {"name": "error-rate", "rollback": {"above": "5%"}}
REFERRED: dict[str, Any] = {
    "policyRef": {"name": "strict"},
    "agent": {**PROMPT, "sideEffects": "DryRun"},
}
READS = [
    "list pods",
    "list services",
    "list configmaps",
    "list controllerrevisions",
    "list agentrollouts",
    "list rolloutactions",
    "get agentrollouts",
    "get configmaps",
    "get rollbackpolicies",
    "get services",
    "get validatingadmissionpolicies",
    "dry-run deployments",
]


def refer(world: World, text: str) -> None:
    """What the spec refers to."""
    for kind, name, body in (
        ("ConfigMap", "p", {"data": {"text": text}}),
        ("RollbackPolicy", "strict", {"spec": {"metrics": [METRIC]}}),
    ):
        metadata = {"name": name, "namespace": KEY.namespace}
        world.cluster.put({"kind": kind, "metadata": metadata, **body})


async def canary(world: World) -> str:
    """A candidate with users, of a spec that refers to a policy and a ConfigMap."""
    refer(world, "Be kind.")
    world.apply(**REFERRED)
    await world.run(5)
    refer(world, "Be quick.")
    world.apply(**REFERRED)
    await world.until_phase("Canary")
    await world.run(10)
    candidate: str = world.status["candidateRevision"]
    assert world.share(candidate) == 20
    return candidate


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("call", "error"),
    [*((call, broken()) for call in READS), ("list pods", Refused("forbidden"))],
)
async def test_users_leave_a_candidate_without_pods_whatever_else_cannot_be_read(
    call: str, error: ClusterError, restarted: bool
) -> None:
    world = World()
    async with world.operator():
        candidate = await canary(world)
        if not restarted:
            world.cluster.broken[call] = error
            world.pods_start = False
            await world.run(8)
            assert world.share(candidate) == 0
    if restarted:
        world.cluster.broken[call] = error
        world.pods_start = False
        async with world.operator():
            await world.run(8)
            assert world.share(candidate) == 0
            assert "bug" not in world.results
            world.cluster.broken.clear()
            await world.run(61)
            assert world.status["phase"] == "RolledBack"
            assert world.status["rollback"]["safeAt"]
            gates = world.cluster.all(kinds.AGENT_ROLLOUT)[-1]["status"]["gates"]
            assert [gate["decision"] for gate in gates][0 :: len(gates) - 1] == [
                "Started",
                "RolledBack",
            ]


@pytest.mark.parametrize("call", sorted(set(READS) - {"list rolloutactions"}))
async def test_a_persons_rollback_is_carried_out_whatever_else_cannot_be_read(call: str) -> None:
    world = World()
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
        act(world, "Pause", "a" * 10)  # whether identity is enforced is known from now on
        await world.run(1)
        world.cluster.broken[call] = broken()
        act(world, "Rollback", candidate)
        world.cluster.set_status(kinds.ROLLOUT_ACTION, KEY.namespace, "a1", {})
        await world.run(8)
        assert world.share(candidate) == 0


async def test_a_persons_act_waits_seconds_for_who_may_act_however_many_rollouts_run() -> None:
    world = World()
    world.rollouts = lambda: 1000  # type: ignore[method-assign]
    enforce_identity(world.cluster)
    async with world.operator():
        candidate = await canary(world)
        world.cluster.broken["get validatingadmissionpolicies"] = broken()
        act(world, "Rollback", candidate)
        await world.run(1)
        world.cluster.broken.clear()
        await world.run(8)
        assert world.share(candidate) == 0


@pytest.mark.parametrize("call", READS)
async def test_a_failing_candidate_is_found_after_a_restart_whatever_else_cannot_be_read(
    call: str,
) -> None:
    world = World()
    async with world.operator():
        candidate = await canary(world)
    world.cluster.broken[call] = broken()
    world.error_rate[candidate] = 1.0
    async with world.operator():
        await world.run(30)
        assert world.share(candidate) == 0


async def test_nobody_is_judged_by_another_policy_while_theirs_cannot_be_read_at_all() -> None:
    world = World()
    async with world.operator():
        candidate = await canary(world)
        patient = {"metrics": [{"name": "error-rate", "rollback": {"above": "90%"}}]}
        metadata = {"name": "strict", "namespace": KEY.namespace}
        world.cluster.put({"kind": "RollbackPolicy", "metadata": metadata, "spec": patient})
        world.queue.add(KEY)
        await world.run(3)
    for call in ("get rollbackpolicies", "get agentrollouts"):
        world.cluster.broken[call] = broken()
    world.error_rate[candidate] = 0.5
    async with world.operator():
        await world.run(60)
        assert world.share(candidate) == 20
        world.pods_start = False
        await world.run(8)
        assert world.share(candidate) == 0


@pytest.mark.parametrize("error", [broken(), Fenced("another process may be leading")])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_template_that_cannot_be_tried_only_delays_its_own_attempt(
    error: ClusterError, restarted: bool
) -> None:
    world = World()
    async with world.operator():
        candidate = await canary(world)
        if not restarted:
            world.cluster.broken["dry-run deployments"] = error
            world.apply(agent=NEW)
            await world.run(3)
            assert world.share(candidate) == 0
    if restarted:
        world.cluster.broken["dry-run deployments"] = error
        world.cluster.put(agent(agent=NEW))
    async with world.operator():
        await world.run(120)
        assert world.share(candidate) == 0
        assert set(world.results) <= {"ok"}
        assert world.condition("Reconciling")["reason"] == "ReadFailed"
        assert world.cluster.reads.count("dry-run deployments") < 40
        world.cluster.broken.clear()
        await world.run(6)
        assert world.status["phase"] == "Dark"


async def test_while_a_config_map_cannot_be_read_an_attempt_is_judged_and_not_superseded() -> None:
    world = World()
    async with world.operator():
        candidate = await canary(world)
        world.cluster.broken["get configmaps"] = broken()
        await world.run(120)
        assert world.share(candidate) == 20
        assert world.status["candidateRevision"] == candidate
        assert world.condition("Reconciling")["reason"] == "ReadFailed"
        assert "etcd is away" in world.status["message"]
        world.cluster.broken.clear()
        await world.until_phase("Full", most=8)


async def test_while_a_config_map_cannot_be_read_no_attempt_starts_and_nothing_is_removed() -> None:
    world = World()
    async with world.operator():
        refer(world, "Be kind.")
        world.apply(**REFERRED)
        await world.run(60)
        world.cluster.broken["get configmaps"] = broken()
        refer(world, "Be quick.")
        world.queue.add(KEY)
        revisions = len(world.cluster.all(kinds.CONTROLLER_REVISION))
        await world.run(60)
        assert "progress" not in world.status
        assert len(world.cluster.all(kinds.CONTROLLER_REVISION)) == revisions
        world.cluster.broken.clear()
        await world.run(6)
        assert world.status["phase"] == "Dark"
