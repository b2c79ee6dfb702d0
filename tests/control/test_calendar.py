"""Windows and freezes through the whole control loop, on virtual days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from phasegate.adapters.zones import IanaZones
from phasegate.api.calendar import Freeze
from phasegate.rollout.schedule import calendar_of

from tests.control.people import act, enforce_identity, outcome
from tests.control.world import World

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}
CANARY = [
    {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "30m"},
    {"name": "full", "type": "Full", "minDuration": "30m"},
]
OFFICE = {
    **{"name": "office", "timeZone": "Europe/Berlin", "from": "09:00", "to": "17:00"},
    "days": ["Mon", "Tue", "Wed", "Thu", "Fri"],
}
FROZEN = {"name": "sale", "timeZone": "Europe/Berlin", "reason": "the sale", "from": "00:00"}
SCRAPES = 60.0
"""Seconds: virtual days are long."""
FRIDAY = "2026-11-20T15:45+00:00"
"""16:45 in Berlin."""


def world_at(time: str) -> World:
    """A world in which it is this time."""
    world = World(every=SCRAPES)
    world.clock.freeze((datetime.fromisoformat(time) - world.clock.now()).total_seconds())
    return world


async def until(world: World, time: datetime) -> None:
    await world.run((time - world.clock.now()).total_seconds())


async def in_canary(world: World) -> str:
    """A candidate has its users when the office closes; which one."""
    world.apply(windows=[OFFICE])
    await world.run(3 * SCRAPES)
    world.apply(windows=[OFFICE], agent=NEW, strategy={"phases": CANARY})
    await world.until_phase("Canary")
    await world.run(3 * SCRAPES)
    return str(world.status["candidateRevision"])


@pytest.mark.parametrize(
    ("friday", "monday"),
    [
        (FRIDAY, "2026-11-23T08:00+00:00"),
        ("2027-03-26T15:45+00:00", "2027-03-29T07:00+00:00"),
        ("2027-10-29T14:45+00:00", "2027-11-01T08:00+00:00"),
    ],
    ids=["winter", "spring's night lacks an hour", "autumn's has one more"],
)
async def test_a_gate_reached_on_friday_evening_goes_on_on_monday_morning(
    friday: str, monday: str
) -> None:
    world, opens = world_at(friday), datetime.fromisoformat(monday)
    async with world.operator():
        candidate = await in_canary(world)
        await world.run(3600)
        assert world.condition("Ready")["reason"] == "OutsideWindow"
        assert world.status["message"].startswith(
            "canary-20 passed: outside of the window office of the agent; it goes on at Mon "
        )
        told = datetime.fromisoformat(world.status["nextDecisionAt"])
        assert told == opens
    world.clock.freeze((opens - world.clock.now()).total_seconds() - 3600)  # nobody leads meanwhile
    async with world.operator():
        await until(world, opens - timedelta(seconds=1))
        assert world.share(candidate) == 20
        assert world.condition("Ready")["reason"] == "OutsideWindow"
        await world.until_phase("Full", most=30)
        advanced = datetime.fromisoformat(world.status["lastGate"]["at"])
        assert timedelta(0) <= advanced - opens < timedelta(seconds=5)


async def test_a_rollback_on_saturday_night_happens_at_once() -> None:
    world = world_at(FRIDAY)
    async with world.operator():
        candidate = await in_canary(world)
    world.clock.freeze(30 * 3600)
    async with world.operator():
        await world.run(20 * SCRAPES)
        assert world.condition("Ready")["reason"] == "OutsideWindow"
        assert world.clock.now() > datetime(2026, 11, 21, 22, tzinfo=UTC)
        world.error_rate[candidate] = 0.5
        await world.until_phase("RolledBack", most=10 * int(SCRAPES))
        assert world.share(candidate) == 0


async def test_the_administrators_freeze_holds_every_agent_and_a_persons_rollback_does_not_wait() -> (
    None
):
    world = world_at("2026-11-18T10:00+00:00")
    everybody = calendar_of(
        [], [Freeze.model_validate(FROZEN)], IanaZones(), "administrator", "calendar"
    )
    async with world.operator():
        candidate = await in_canary(world)
    world.everybody = everybody
    enforce_identity(world.cluster)
    async with world.operator():
        await world.run(3600)
        assert world.condition("Ready")["reason"] == "Frozen"
        assert "frozen by sale of the administrator (the sale)" in world.status["message"]
        act(world, "Rollback", candidate)
        await world.run(5)
        assert outcome(world)["outcome"] == "Accepted"
        assert world.share(candidate) == 0


async def test_a_time_zone_that_does_not_exist_is_told_with_its_field() -> None:
    world = world_at(FRIDAY)
    async with world.operator():
        world.apply(windows=[{**OFFICE, "timeZone": "Europe/Berlln"}])
        await world.run(3 * SCRAPES)
        stalled = world.condition("Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
        assert stalled["message"].startswith("spec.windows[0].timeZone: Europe/Berlln is no time")
        world.apply(windows=[OFFICE])
        await world.run(5)
        assert world.condition("Ready")["status"] == "True"
