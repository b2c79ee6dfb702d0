"""A rollout and the calendar: what waits, what it says, and what never waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from phasegate.adapters.zones import IanaZones
from phasegate.api.agentdeployment import Budget
from phasegate.api.calendar import Freeze, Window
from phasegate.engine.verdict import Verdict
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.schedule import calendar_of

from tests.rollout.world import PHASES, START, World, make_revision, make_spec

A, B, C = make_revision("a"), make_revision("b"), make_revision("c")
OPENS = START + timedelta(hours=1)
REASON = "the fix for the outage cannot wait"
OVERRIDE: dict[str, Any] = {"overrides": ["Calendar"], "reason": REASON}


def calendar(*entries: Window | Freeze) -> Calendar:
    windows = [entry for entry in entries if isinstance(entry, Window)]
    freezes = [entry for entry in entries if isinstance(entry, Freeze)]
    return calendar_of(windows, freezes, IanaZones(), "agent", "spec")


FREEZE = Freeze.model_validate(
    {
        **{"name": "new-year", "reason": "nobody is there", "timeZone": "UTC"},
        **{"from": "2026-01-01", "until": "2026-01-01T01:00"},
    }
)
FROZEN = calendar(FREEZE)
FOREVER = calendar(Freeze(name="closed", reason="moving house", time_zone="UTC"))


def reached(phase: str) -> World:
    """Revision b is in `phase` with its traffic, and then the freeze begins."""
    world = World()
    world.until("Stable")
    if phase != "Stable":
        world.edit(B)
        world.until(phase)
        world.run(2, timedelta(seconds=1))
        assert world.status.progress is not None
        assert world.status.progress.started_at is not None
    world.calendar = FROZEN
    return world


def ready(world: World) -> tuple[str, str]:
    return next((c.status, c.reason) for c in world.status.conditions if c.type == "Ready")


def stalled(world: World) -> bool:
    return any(c.type == "Stalled" for c in world.status.conditions)


def test_an_attempt_begins_when_the_freeze_is_over() -> None:
    world = reached("Stable")
    world.edit(B)
    world.run(10)
    assert world.status.progress is None
    assert ready(world) == ("False", "Frozen")
    assert not stalled(world)
    assert world.status.message == (
        f"{B.hash} is to begin: frozen by new-year of the agent (nobody is there); it goes on at "
        "Thu 2026-01-01 01:00 UTC, if nothing else is against it"
    )
    assert world.status.next_decision_at == OPENS
    world.now = OPENS - timedelta(seconds=1)
    assert world.step().requeue_at == OPENS
    assert world.status.progress is None
    world.now = OPENS
    world.step()
    assert world.status.phase == "Dark"


def test_a_phase_that_has_passed_waits_and_keeps_what_it_has() -> None:
    world = reached("Canary")
    world.run(100)
    assert world.status.step.startswith("canary-5")
    assert world.share(B.hash) == 5
    assert ready(world) == ("False", "Frozen")
    assert world.status.message.startswith("canary-5 passed: frozen by new-year")
    assert world.status.next_decision_at == OPENS
    world.now = OPENS
    world.run(3, timedelta(seconds=1))
    assert world.status.step.startswith("canary-50")


def test_its_evidence_must_still_say_so_when_it_opens() -> None:
    world = reached("Canary")
    world.run(20)
    world.verdict = Verdict.INCONCLUSIVE
    world.now = OPENS
    world.run(20)
    assert world.status.step.startswith("canary-5 ")
    assert world.share(B.hash) == 5


def test_a_phase_goes_on_collecting_in_a_freeze() -> None:
    world = reached("Canary")
    world.verdict = Verdict.INCONCLUSIVE
    world.run(20)
    assert ready(world)[1] == "CollectingEvidence"
    assert world.status.next_decision_at != OPENS


def test_the_last_step_waits_too() -> None:
    world = reached("Full")
    world.run(100)
    assert world.status.stable_revision == A.hash
    assert world.status.message.startswith("full passed: frozen")
    world.now = OPENS
    world.run(3)
    assert world.status.stable_revision == B.hash


def test_a_phase_decided_before_the_freeze_gets_its_traffic_after_it() -> None:
    world = reached("Canary")
    world.calendar = Calendar()
    while world.status.step.startswith("canary-5 "):
        world.step()
        world.now += timedelta(seconds=1)
    assert world.share(B.hash) == 5
    world.calendar = FROZEN
    world.run(20)
    assert world.share(B.hash) == 5
    assert world.status.message.startswith("canary-50 waits for its traffic: frozen")
    assert world.status.next_decision_at == OPENS
    world.now = OPENS
    world.run(2, timedelta(seconds=1))
    assert world.share(B.hash) == 50


def test_a_window_that_closes_takes_nothing_away() -> None:
    world = reached("Canary")
    world.programmed = False
    world.run(5)
    assert world.share(B.hash) == 5
    world.programmed = True
    world.run(5)
    assert world.share(B.hash) == 5


@pytest.mark.parametrize("phase", ["Dark", "Shadow", "Canary", "Full"])
@pytest.mark.parametrize(
    "happens",
    [
        lambda world: setattr(world, "verdict", Verdict.FAIL),
        lambda world: world.unready.add(B.hash),
        lambda world: world.act("Rollback"),
        lambda world: world.act("Reject"),
        lambda world: world.edit(A),
        lambda world: world.edit(C),
    ],
    ids=["breach", "no pods", "Rollback", "Reject", "spec restored", "spec superseded"],
)
def test_nothing_that_takes_traffic_back_waits(
    phase: str, happens: Callable[[World], object]
) -> None:
    world = reached(phase)
    world.calendar = FOREVER
    world.run(5)
    happens(world)
    world.step()
    world.step()  # pods that went are seen in the pass after
    assert world.share(A.hash) == 100
    assert world.status.progress is None or (world.unready and phase in ("Dark", "Shadow"))
    if world.status.progress is not None:
        return
    world.run(20)
    assert world.status.progress is None, "what comes next begins when it is open"


def test_a_mirror_stops_at_its_budget_in_a_freeze() -> None:
    world = reached("Dark")
    budget = PHASES[0].model_copy(update={"budget": Budget(calls=50)})
    world.spec = make_spec((budget, *PHASES[1:]))
    world.run(2)
    assert world.route is not None
    assert world.route.mirror is None


def test_the_first_revision_of_an_agent_does_not_wait() -> None:
    world = World(calendar=FOREVER)
    world.until("Stable")
    assert world.share(A.hash) == 100
    assert ready(world) == ("True", "Stable")


def test_a_calendar_that_never_opens_again_needs_a_person() -> None:
    world = reached("Canary")
    world.calendar = FOREVER
    world.run(20)
    assert ready(world) == ("False", "Frozen")
    assert stalled(world)
    assert "that never ends by itself" in world.status.message
    world.calendar = Calendar()
    world.until("Stable")


def test_a_calendar_that_cannot_be_read_opens_nothing() -> None:
    world = reached("Canary")
    world.calendar = calendar(Window(name="office", time_zone="Europe/Atlantis"))
    world.spec_problem = world.calendar.problem
    world.run(20)
    assert stalled(world)
    assert ready(world) == ("False", "InvalidSpec")
    assert "spec.windows[0].timeZone: Europe/Atlantis is no time zone" in world.status.message
    assert world.share(B.hash) == 5
    world.verdict = Verdict.FAIL
    world.step()
    assert world.share(A.hash) == 100


def test_an_approval_is_asked_for_in_a_freeze_and_counts_after_it() -> None:
    asks = PHASES[3].model_copy(update={"approval": "Required"})
    world = World(spec=make_spec((*PHASES[:3], asks, PHASES[4])))
    world.until("Stable")
    world.edit(B)
    world.until("Canary")
    world.run(2, timedelta(seconds=1))
    world.calendar = FROZEN
    world.run(10)
    assert ready(world)[1] == "AwaitingApproval"
    name = world.act("Approve")
    world.run(5)
    assert world.outcomes[name] == "Accepted"
    assert ready(world)[1] == "Frozen"
    world.now = OPENS
    world.run(3, timedelta(seconds=1))
    assert world.status.step.startswith("canary-50")


# --- past the calendar, by a person's word ----------------------------------------------------


def test_an_override_takes_the_step_that_waits_and_its_traffic_and_no_other() -> None:
    world = reached("Canary")
    world.run(20)
    name = world.act("Override", actor="carol", **OVERRIDE)
    world.run(4, timedelta(seconds=1))
    assert world.outcomes[name] == "Accepted"
    assert world.share(B.hash) == 50
    gate = world.status.last_gate
    assert gate is not None
    assert gate.by == "carol"
    assert gate.message.endswith(
        "past the calendar (frozen by new-year of the agent (nobody is there)) by carol: " + REASON
    )
    world.run(50)
    assert world.status.step.startswith("canary-50")
    assert ready(world)[1] == "Frozen"


def test_an_override_shortens_no_phase() -> None:
    world = reached("Canary")
    world.verdict = Verdict.INCONCLUSIVE
    world.act("Override", actor="carol", **OVERRIDE)
    world.run(50)
    assert world.share(B.hash) == 5


def test_an_override_begins_an_attempt_with_its_traffic() -> None:
    world = reached("Stable")
    world.edit(B)
    world.run(3)
    name = world.act("Override", B.hash, actor="carol", **OVERRIDE)
    world.run(4, timedelta(seconds=1))
    assert world.outcomes[name] == "Accepted"
    assert world.status.phase == "Dark"
    assert world.route is not None
    assert world.route.mirror is not None
    gate = world.status.last_gate
    assert gate is not None
    assert gate.by == "carol"
    assert "past the calendar" in gate.message
    world.run(50)
    assert world.status.phase == "Dark"
    assert ready(world)[1] == "Frozen"


def test_an_override_that_nothing_needed_is_in_no_gate_record() -> None:
    world = reached("Canary")
    world.act("Override", actor="carol", **OVERRIDE)
    world.step()
    world.now = OPENS
    world.run(4)
    gate = world.status.last_gate
    assert gate is not None
    assert gate.by is None
    assert "calendar" not in gate.message


# --- whole weekends ---------------------------------------------------------------------------

BERLIN = {"timeZone": "Europe/Berlin", "from": "09:00", "to": "17:00"}
OFFICE = Window.model_validate(
    {"name": "office", "days": ["Mon", "Tue", "Wed", "Thu", "Fri"], **BERLIN}
)


@pytest.mark.parametrize(
    ("friday", "monday"),
    [
        ("2026-11-20T16:30+00:00", "2026-11-23T08:00+00:00"),
        ("2027-03-26T16:30+00:00", "2027-03-29T07:00+00:00"),  # spring: the night lacks an hour
        ("2026-10-23T15:30+00:00", "2026-10-26T08:00+00:00"),  # autumn: it has one more
    ],
    ids=["winter", "spring", "autumn"],
)
def test_a_gate_passed_on_friday_evening_goes_on_on_monday_morning(
    friday: str, monday: str
) -> None:
    world = reached("Canary")
    world.calendar = calendar(OFFICE)
    world.now = datetime.fromisoformat(friday).astimezone(UTC)
    world.step()
    opens = datetime.fromisoformat(monday)
    assert ready(world)[1] == "OutsideWindow"
    assert world.status.next_decision_at == opens
    assert " 09:00 Europe/Berlin (Mon " in world.status.message
    while world.status.step.startswith("canary-5 "):
        world.step()
        assert world.now < opens + timedelta(minutes=20)
        world.now += timedelta(minutes=10)
    assert world.status.last_gate is not None
    assert world.status.last_gate.at == opens
