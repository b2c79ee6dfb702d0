"""Whether identity is enforced is looked up, cheaply, and told on every agent."""

from __future__ import annotations

import asyncio

from tests.control.people import enforce_identity
from tests.control.world import KEY, World


async def test_a_missing_admission_policy_is_told_before_anybody_decides() -> None:
    async with World().operator() as world:
        await world.stable()
        identity = world.observer.identity
        watching = asyncio.create_task(identity.watch())
        await world.run(61)
        assert identity.enforced == 0
        world.queue.add(KEY)
        await world.run(2)
        conditions = {c["type"]: c for c in world.status["conditions"]}
        assert conditions["IdentityEnforced"]["reason"] == "AdmissionPolicyMissing"
        assert (
            "phasegate-rolloutactions does not exist" in conditions["IdentityEnforced"]["message"]
        )
        looks = world.cluster.reads.count("get validatingadmissionpolicies")
        enforce_identity(world.cluster)
        await world.run(61)
        assert identity.enforced == 1
        assert world.cluster.reads.count("get validatingadmissionpolicies") <= looks + 4
        world.queue.add(KEY)
        await world.run(2)
        assert "IdentityEnforced" not in {c["type"] for c in world.status["conditions"]}
        watching.cancel()
