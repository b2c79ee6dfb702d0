"""Which channels an agent's announcements go to, and what is said of a wrong name."""

from __future__ import annotations

from phasegate.engine.verdict import Verdict
from phasegate.rollout.decision import Announcement
from phasegate.rollout.news import severity
from phasegate.rollout.notifiers import Known, chosen, problem
from phasegate.rollout.observed import Settings

from tests.rollout.world import PHASES, World, make_revision, make_spec

KNOWN = Known({"ops": frozenset(), "sales": frozenset({"sales"})}, ("ops",))


def test_names_are_taken_in_their_order_and_once() -> None:
    both = Known({"a": frozenset(), "b": frozenset()}, ("a",))
    assert chosen(("b", "a", "b"), "n", both) == ("b", "a")


def test_somebody_elses_channel_is_as_unknown_as_one_that_is_not_there() -> None:
    assert problem(("sales",), "sales", KNOWN) is None
    words = problem(("sales", "opps"), "support", KNOWN)
    assert words is not None
    assert "no notifier sales, opps" in words
    assert "it has: ops;" in words
    assert "go to: ops" in words


def test_without_any_channel_nobody_is_told_and_that_is_said() -> None:
    assert "it has: none; announcements go to: nobody" in str(problem(("ops",), "n", Known()))


def announced(world: World, reason: str) -> list[Announcement]:
    return [one for one in world.said if one.reason == reason]


def test_an_unknown_name_is_said_once_while_it_is_there_and_stops_nothing() -> None:
    world = World(settings=Settings(notifiers=KNOWN))
    world.spec = make_spec(notify=("opps",))
    world.until("Stable")
    world.edit(make_revision("b"))
    world.run(60)
    assert world.status.stable_revision == "b" * 10
    (condition,) = (c for c in world.status.conditions if c.type == "UnknownNotifier")
    assert (condition.status, condition.reason) == ("True", "UnknownNotifier")
    assert len(announced(world, "UnknownNotifier")) == 1
    world.spec = make_spec(notify=("ops",))
    world.step()
    assert not any(c.type == "UnknownNotifier" for c in world.status.conditions)


def test_waiting_for_an_approval_is_announced_once_a_phase() -> None:
    gated = tuple(p.model_copy(update={"approval": "Required"}) for p in PHASES[2:4])
    world = World(spec=make_spec((PHASES[0], *gated, PHASES[4])))
    world.until("Stable")
    world.edit(make_revision("b"))
    world.run(40)
    assert len(announced(world, "AwaitingApproval")) == 1
    world.act("Approve")
    world.run(40)
    first, second = announced(world, "AwaitingApproval")
    assert "canary-5" in first.message
    assert "canary-50" in second.message


def test_a_rollback_says_what_is_over_with_it_and_whom_it_is_about() -> None:
    world = World()
    world.until("Stable")
    world.edit(make_revision("b"))
    world.until("Canary")
    world.alerts = {"error-rate"}
    world.run(5)
    (begun,) = announced(world, "AlertBreached")
    world.verdict = Verdict.FAIL
    world.run(5)
    (rollback,) = announced(world, "RolledBack")
    assert begun.begins is not None
    assert begun.begins.startswith("AlertBreached/error-rate")
    assert begun.begins in rollback.ends
    assert rollback.revision == "b" * 10
    told = next(t for t in world.status.announced if t.reason == "RolledBack")
    assert Announcement.of(told) == rollback


def test_how_urgent_an_announcement_is() -> None:
    said = {
        "RolloutStarted": severity(Announcement("Normal", "RolloutStarted", "")),
        "AlertBreached": severity(Announcement("Warning", "AlertBreached", "")),
        "RolledBack": severity(Announcement("Warning", "RolledBack", "")),
    }
    assert said == {"RolloutStarted": "Info", "AlertBreached": "Warning", "RolledBack": "Critical"}
