"""Plans are made beside everything else, and never pile up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from phasegate.control.ports import Key, RawSeries
from phasegate.rollout.decide import decide

from tests.control.world import World
from tests.rollout.world import World as Small
from tests.rollout.world import make_revision

BY_GATEWAY = {
    "apiVersion": "phasegate.dev/v1alpha1",
    "kind": "RollbackPolicy",
    "metadata": {"name": "by-gateway", "namespace": "team"},
    "spec": {
        "source": "traefik",
        "metrics": [{"name": "error-rate", "rollback": {"above": "5%", "window": "30m"}}],
    },
}
NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}


async def test_a_provider_that_hangs_is_asked_once_for_each_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with World().operator() as world:
        await world.stable()
        answers, answer = asyncio.Event(), world.provider.stepped

        async def hanging(query: str, start: float, end: float, step: float) -> Sequence[RawSeries]:
            await answers.wait()
            return await answer(query, start, end, step)

        monkeypatch.setattr(world.provider, "stepped", hanging)
        dark = {"name": "dark", "type": "Dark", "mirrorPercent": 100, "minDuration": "2h"}
        world.apply(
            agent=NEW,
            strategy={"phases": [dark, {"name": "full", "type": "Full", "minDuration": "1h"}]},
        )
        await world.run(1200)
        assert not world.status.get("plan")
        world.provider.asked.clear()
        answers.set()
        await world.run(1)
        assert len([q for q in world.provider.asked if q.startswith("{")]) <= 8
        assert world.status["plan"]


async def test_series_that_could_be_another_namespaces_are_not_read_for_a_plan() -> None:
    async with World().operator() as world:
        await world.stable()
        stranger = Small()
        world.store.track(Key("team-support", "bot"), stranger.observe(), stranger.status)
        world.cluster.put(BY_GATEWAY)
        world.provider.queries.clear()
        world.provider.asked.clear()
        world.apply(agent=NEW, policyRef={"name": "by-gateway"})
        await world.run(10)
        assert not world.provider.queries
        assert not world.provider.asked
        (plan,) = world.status["plan"]
        assert plan.startswith("no plan: source traefik cannot tell this agent's series from those")
        assert "namespace team-support" in plan


def test_a_plan_fits_into_a_status_however_long_its_lines_are() -> None:
    world = Small()
    world.until("Stable")
    world.edit(make_revision("b"))
    world.step()
    seen = replace(world.observe(), plan=("x" * 5000,) * 30)
    plan = decide(seen, world.now, world.settings).status.plan
    assert [len(line) for line in plan] == [2048] * 24
