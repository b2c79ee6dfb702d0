"""Nothing stands before the write that takes traffic back."""

from __future__ import annotations

import pytest
from phasegate.control import kinds
from phasegate.control.ports import Kind

from tests.control.world import World, broken

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}
NOT_NEEDED = (
    kinds.DEPLOYMENT,
    kinds.SERVICE,
    kinds.CONFIG_MAP,
    kinds.CONTROLLER_REVISION,
    kinds.ROLLOUT_ACTION,
    kinds.AGENT_ROLLOUT,
    kinds.ROLLBACK_POLICY,
    kinds.POD,
)


@pytest.mark.parametrize("kind", NOT_NEEDED, ids=lambda kind: kind.plural)
async def test_a_rollback_does_not_need_to_read_anything_else(kind: Kind) -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Canary")
        await world.run(10)
        candidate = world.status["candidateRevision"]
        assert world.router.plan is not None
        assert world.router.plan.percent(candidate) == 20
        for verb in ("list", "get"):
            world.cluster.broken[f"{verb} {kind.plural}"] = broken()
        world.error_rate[candidate] = 1.0
        await world.run(30)
        assert world.router.plan.percent(candidate) == 0
        assert world.status["rollback"]["revision"] == candidate
        world.cluster.broken.clear()
        await world.run(90)
        assert world.status["phase"] == "RolledBack"
        assert world.status["readyReplicas"] == 2
