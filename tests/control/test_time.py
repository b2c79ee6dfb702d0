"""Time goes on without the operator, and clocks are set: no phase ends early, nothing is taken back for it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.control.world import World

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}
CANARY = [
    {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "5m"},
    {"name": "full", "type": "Full", "minDuration": "30m"},
]
HOUR = timedelta(hours=1)


async def in_canary(world: World) -> str:
    """A candidate has had its users for a minute; which one."""
    await world.stable()
    world.apply(agent=NEW, strategy={"phases": CANARY})
    await world.until_phase("Canary")
    await world.run(60)
    return str(world.status["candidateRevision"])


def reasons(world: World) -> list[str]:
    return [announced.reason for announced in world.recorder.announced]


def users(world: World, revision: str) -> int:
    assert world.router.plan is not None
    return world.router.plan.percent(revision)


async def test_an_operator_that_was_stopped_for_ten_minutes_judges_what_it_missed_before_it_goes_on() -> (
    None
):
    async with World().operator() as world:
        bad = await in_canary(world)
        world.error_rate[bad] = 0.3
        world.freeze(600)
        assert users(world, bad) == 20
        await world.run(5)
        assert users(world, bad) == 0
        assert "Advanced" not in reasons(world)
        since = datetime.fromisoformat(world.status["rollback"]["since"])
        assert world.clock.now() - since > timedelta(minutes=9)


async def test_a_good_candidate_goes_on_after_ten_minutes_without_an_operator() -> None:
    async with World().operator() as world:
        good = await in_canary(world)
        world.freeze(600)
        assert users(world, good) == 20
        await world.until_phase("Full", most=30)
        assert "RolledBack" not in reasons(world)
        assert "PausedWithoutData" not in reasons(world)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_no_phase_ends_early_when_the_wall_clock_jumps(jump: timedelta) -> None:
    async with World().operator() as world:
        good = await in_canary(world)
        world.own.wrong_by = jump
        await world.run(120)
        assert world.status["phase"] == "Canary"
        assert users(world, good) == 20
        world.own.wrong_by = timedelta(0)
        await world.run(60)
        assert world.status["phase"] == "Canary"
        await world.until_phase("Full", most=120)
        assert "RolledBack" not in reasons(world)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_after_a_clock_was_wrong_a_breach_of_that_time_is_found_at_once(
    jump: timedelta,
) -> None:
    async with World().operator() as world:
        bad = await in_canary(world)
        world.own.wrong_by = jump
        await world.run(30)
        world.error_rate[bad] = 0.3
        await world.run(90)
        world.own.wrong_by = timedelta(0)
        await world.run(3)
        assert users(world, bad) == 0
