"""A policy is parsed once a version, whoever names it, and compiled for each agent that does."""

from __future__ import annotations

from typing import Any

from phasegate.api.agentdeployment import AgentDeploymentSpec
from phasegate.control import kinds
from phasegate.control.policies import Policies
from phasegate.control.ports import Key
from phasegate.control.reads import Reads
from phasegate.rollout.observed import PolicySeen
from phasegate.rollout.reasons import Reason

from tests.control.fakes import FakeCluster, VirtualClock
from tests.control.world import agent

ONE, TWO = Key("team", "one"), Key("team", "two")
DRIFT = {"name": "model-drift", "rollback": {"above": "1%"}}


def put(cluster: FakeCluster, *metrics: dict[str, Any]) -> None:
    cluster.put(
        {
            "apiVersion": kinds.ROLLBACK_POLICY.api_version,
            "kind": kinds.ROLLBACK_POLICY.kind,
            "metadata": {"name": "strict", "namespace": "team"},
            "spec": {"metrics": list(metrics)},
        }
    )


async def read(policies: Policies, cluster: FakeCluster, key: Key, **spec: Any) -> PolicySeen:
    wanted = agent(policyRef={"name": "strict"}, **spec)["spec"]
    parsed = AgentDeploymentSpec.model_validate(wanted)
    return await policies.of(cluster, key, parsed, Reads(at_stake=False))


async def test_agents_share_what_was_parsed_until_it_changes() -> None:
    cluster, policies = FakeCluster(VirtualClock()), Policies()
    put(cluster, {"name": "error-rate", "rollback": {"above": "5%"}})
    first = await read(policies, cluster, ONE)
    assert first.spec is not None
    assert (await read(policies, cluster, TWO)).spec is first.spec
    put(cluster, {"name": "error-rate", "rollback": {"above": "9%"}})
    second = await read(policies, cluster, ONE)
    assert second.spec is not None
    assert second.spec.metrics[0].rollback != first.spec.metrics[0].rollback


async def test_what_one_agent_can_use_another_may_not_and_neither_after_an_edit() -> None:
    cluster, policies = FakeCluster(VirtualClock()), Policies()
    put(cluster, DRIFT)
    pinned = {
        "systemPrompt": "Be kind.",
        "sideEffects": "DryRun",
        "model": {"provider": "openai", "name": "gpt"},
    }
    for _ in range(2):
        assert (await read(policies, cluster, ONE, agent=pinned)).problem is None
        assert (await read(policies, cluster, TWO)).reason is Reason.POLICY_INVALID
    assert (await read(policies, cluster, ONE)).reason is Reason.POLICY_INVALID


async def test_a_policy_that_is_gone_is_missed_and_one_made_anew_is_read() -> None:
    cluster, policies = FakeCluster(VirtualClock()), Policies()
    put(cluster, {"name": "error-rate", "rollback": {"above": "5%"}})
    await read(policies, cluster, ONE)
    cluster.remove(kinds.ROLLBACK_POLICY, "team", "strict")
    assert (await read(policies, cluster, ONE)).reason is Reason.POLICY_NOT_FOUND
    put(cluster, {"name": "latency-p95", "rollback": {"above": "5s"}})
    found = await read(policies, cluster, ONE)
    assert found.spec is not None
    assert found.spec.metrics[0].name == "latency-p95"
