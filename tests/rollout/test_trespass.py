"""What is told, and decided, when somebody else writes the route."""

from __future__ import annotations

from dataclasses import replace

import pytest
from phasegate.engine.verdict import Verdict
from phasegate.rollout.decide import decide
from phasegate.rollout.decision import Decision

from tests.rollout.world import World, make_revision

A, B = make_revision("a"), make_revision("b")
WORDS = "gitops changes HTTPRoute team/bot again and again"


@pytest.fixture
def canary() -> World:
    world = World()
    world.until("Stable")
    world.edit(B)
    world.until("Canary")
    world.run(2)
    return world


def look(world: World, *, edited: str = "", contested: str = "") -> Decision:
    """One pass in which the router has seen what others did."""
    seen = world.observe()
    seen = replace(seen, route=replace(seen.route, edited=edited, contested=contested))
    decision = decide(seen, world.now, world.settings)
    for write in world._writes(decision):
        write()
    world._pods()
    return decision


def reasons(decision: Decision) -> list[str]:
    return [announcement.reason for announcement in decision.announcements]


def test_one_change_is_an_event_that_names_who_made_it(canary: World) -> None:
    canary.verdict = Verdict.INCONCLUSIVE
    decision = look(canary, edited="kubectl-edit")
    assert reasons(decision) == ["RouteRestored"]
    assert "changed by kubectl-edit" in decision.announcements[0].message
    assert canary.status.phase == "Canary"


def test_a_fight_is_told_once_and_the_status_does_not_change_while_it_lasts(canary: World) -> None:
    canary.verdict = Verdict.INCONCLUSIVE
    assert reasons(look(canary, edited="gitops", contested=WORDS)) == ["RouteContested"]
    canary.step()  # it was put right meanwhile
    look(canary, edited="gitops", contested=WORDS)
    before = canary.status
    for edited in ("gitops", "", "gitops"):
        decision = look(canary, edited=edited, contested=WORDS)
        assert decision.announcements == ()
        assert decision.status == before
    traffic = {c.type: c for c in before.conditions}["TrafficProgrammed"]
    assert (traffic.status, traffic.reason, traffic.message) == ("False", "RouteContested", WORDS)
    assert before.message == WORDS


def test_no_step_is_taken_in_a_fight_and_the_next_one_after_it(canary: World) -> None:
    step, canary.verdict = canary.status.step, Verdict.PASS
    for _ in range(20):
        look(canary, contested=WORDS)
        canary.now += canary.settings.refresh
    assert canary.status.step == step
    canary.run(5)
    assert canary.status.step != step


def test_a_rollback_in_a_fight_is_a_rollback(canary: World) -> None:
    canary.verdict = Verdict.FAIL
    look(canary, edited="gitops", contested=WORDS)
    assert canary.share(B.hash) == 0
    canary.verdict = None
    for _ in range(10):
        look(canary, contested=WORDS)
        canary.now += canary.settings.refresh
    assert canary.status.phase == "RolledBack"
    assert canary.status.message.endswith(WORDS)
