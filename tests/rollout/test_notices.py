"""Alerts and early warnings: told once, seen in the conditions, and never a reason to take back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from phasegate.engine.verdict import Verdict
from phasegate.rollout.notices import QUIET

from tests.rollout.world import World, make_revision

B = make_revision("b")


def rolling_out(phase: str) -> World:
    """Revision b has reached `phase` and its traffic is in place."""
    world = World()
    world.until("Stable")
    world.edit(B)
    world.until(phase)
    world.step()
    world.step()
    return world


def condition(world: World, name: str) -> tuple[str, str, str]:
    found = next(c for c in world.status.conditions if c.type == name)
    return found.status, found.reason, found.message


def said(world: World, reason: str) -> list[str]:
    return [a.message for a in world.said if a.reason == reason]


@pytest.mark.parametrize("phase", ["Dark", "Shadow", "Canary", "Full"])
def test_an_alert_holds_its_phase_says_which_and_takes_nothing_back(phase: str) -> None:
    world = rolling_out(phase)
    world.alerts = {"error-rate"}
    route, step = world.route, world.status.step
    world.run(60)
    assert world.route == route
    assert world.status.step == step
    assert condition(world, "Progressing")[1] == "AlertBreached"
    assert "error-rate-alert: candidate 2%" in condition(world, "Ready")[2]
    assert len(said(world, "AlertBreached")) == 1
    assert world.status.rollback is None


def test_an_alert_that_is_over_is_announced_once_and_the_phase_goes_on() -> None:
    world = rolling_out("Canary")
    world.alerts = {"error-rate"}
    world.run(10)
    world.alerts = set()
    world.run(1)
    assert not said(world, "AlertOver")
    world.run(60)
    assert len(said(world, "AlertOver")) == 1
    assert world.status.stable_revision == B.hash


def test_an_alert_that_comes_and_goes_is_told_once() -> None:
    world = rolling_out("Canary")
    for _ in range(10):
        world.alerts = {"error-rate"}
        world.run(2)
        world.alerts, world.verdict = set(), Verdict.INCONCLUSIVE
        world.run(2)
    assert len(said(world, "AlertBreached")) == 1
    assert not said(world, "AlertOver")


def test_every_alert_is_told_for_itself() -> None:
    world = rolling_out("Canary")
    world.alerts = {"error-rate"}
    world.run(3)
    world.alerts = {"error-rate", "latency-p95"}
    world.run(3)
    assert [text.split(":")[0] for text in said(world, "AlertBreached")] == [
        "error-rate-alert",
        "latency-p95-alert",
    ]
    assert "error-rate-alert" in world.status.message
    assert "latency-p95-alert" in world.status.message


def test_an_alert_is_seen_also_while_a_person_holds_the_phase() -> None:
    world = rolling_out("Canary")
    world.act("Pause")
    world.alerts = {"error-rate"}
    world.run(3)
    assert "paused by alice" in world.status.message
    assert "error-rate-alert" in world.status.message
    assert len(said(world, "AlertBreached")) == 1


def test_an_operator_that_dies_after_the_status_tells_an_alert_at_most_once() -> None:
    world = rolling_out("Canary")
    world.alerts = {"error-rate"}
    world.step(survive=1)
    world.run(5)
    assert len(said(world, "AlertBreached")) <= 1
    assert [n.check for n in world.status.notices] == ["error-rate-alert"]


def test_a_trend_is_a_condition_with_its_numbers_and_stops_nothing() -> None:
    world = rolling_out("Canary")
    assert condition(world, "EarlyWarning")[:2] == ("False", "NothingWorsens")
    world.warning = "18.0% (54/300) vs baseline 12.1% over the last 40 min, 1.5x"
    world.step()
    assert condition(world, "EarlyWarning")[:2] == ("True", "Worsening")
    assert "18.0% (54/300)" in condition(world, "EarlyWarning")[2]
    assert "early warning: error-rate: 18.0%" in condition(world, "Ready")[2]
    assert len(said(world, "EarlyWarning")) == 1
    world.run(60)
    assert world.status.stable_revision == B.hash


def test_a_trend_that_ends_is_told_and_the_condition_is_false_again() -> None:
    world = rolling_out("Canary")
    world.verdict, world.warning = Verdict.INCONCLUSIVE, "18% vs 12%"
    world.run(3)
    world.warning = ""
    world.run(2)
    assert condition(world, "EarlyWarning")[0] == "True"
    world.run(1, QUIET)
    world.step()
    assert condition(world, "EarlyWarning")[0] == "False"
    assert "early warning" not in world.status.message
    assert len(said(world, "EarlyWarningOver")) == 1


def test_a_trend_shortens_the_next_look() -> None:
    world = rolling_out("Canary")
    world.verdict = Verdict.INCONCLUSIVE
    world.now += timedelta(minutes=1)
    calm = world.step().requeue_at
    world.warning = "18% vs 12%"
    alarmed = world.step().requeue_at
    assert calm is not None
    assert alarmed is not None
    assert alarmed - world.now <= (calm - world.now) / 2


def test_without_data_nothing_begins_and_nothing_ends() -> None:
    world = rolling_out("Canary")
    world.alerts, world.warning = {"error-rate"}, "18% vs 12%"
    world.run(3)
    before = world.status.notices
    world.verdict = None
    world.run(20, timedelta(minutes=1))
    assert world.status.notices == before
    assert not said(world, "AlertOver")


def test_the_attempts_record_keeps_what_was_told_and_when_it_was_over() -> None:
    world = rolling_out("Canary")
    world.warning = "18% vs 12%"
    world.run(3)
    world.warning, world.verdict = "", Verdict.INCONCLUSIVE
    world.run(5, QUIET)
    first = world.records["bot-1"].notices
    assert [(n.kind, n.check) for n in first] == [("EarlyWarning", "error-rate")] * 2
    assert [n.until is not None for n in first] == [False, True]
    world.verdict = Verdict.FAIL
    world.run(5)
    assert world.records["bot-1"].notices == first


def test_a_rollback_ends_what_was_told_before_it() -> None:
    world = rolling_out("Canary")
    world.alerts, world.warning = {"error-rate"}, "18% vs 12%"
    world.run(3)
    world.verdict = Verdict.FAIL
    world.run(3)
    assert world.status.notices == ()
    assert condition(world, "EarlyWarning")[0] == "False"
    told = world.records["bot-1"].notices
    over = {(n.kind, n.check, n.since) for n in told if n.until is not None}
    assert over == {(n.kind, n.check, n.since) for n in told}
    assert not said(world, "AlertOver")


def test_a_reading_with_newer_numbers_writes_no_record() -> None:
    world = rolling_out("Canary")
    world.verdict, world.warning = Verdict.INCONCLUSIVE, "18% (54/300) vs 12%"
    world.run(3)
    world.warning = "19% (60/310) vs 12%"
    assert world.step().rollouts == ()
    assert "60/310" in condition(world, "EarlyWarning")[2]
