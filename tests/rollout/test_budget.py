"""A phase's budget stops copies and holds the phase; it never ends one."""

from __future__ import annotations

import pytest
from phasegate.api.agentdeployment import Budget, Phase
from phasegate.engine.verdict import Verdict

from tests.rollout.world import PHASES, World, make_revision, make_spec

B = make_revision("b")


def with_budget(budget: Budget | None, *, of: str) -> tuple[Phase, ...]:
    """The usual phases; the first of type `of` has a budget."""
    name = next(p.name for p in PHASES if p.type == of)
    return tuple(p.model_copy(update={"budget": budget} if p.name == name else {}) for p in PHASES)


def spent_in(
    phase: str, budget: Budget, *, calls: float = 100, spent: float | None = None
) -> World:
    """Revision b is in `phase`, and its budget was reached a while ago."""
    world = World(spec=make_spec(with_budget(budget, of=phase)), spent=0.0)
    world.until("Stable")
    world.edit(B)
    world.calls = 0
    world.until(phase)
    world.step()
    world.step()
    assert "budget" not in world.status.message
    world.calls, world.spent = calls, spent
    world.run(20)
    return world


def mirrored(world: World) -> bool:
    return world.route is not None and world.route.mirror is not None


def reason(world: World) -> str:
    return next(c.reason for c in world.status.conditions if c.type == "Ready")


BUDGETS = [(Budget(calls=100), 100.0, 1.0), (Budget(cost="2.5"), 50.0, 2.5)]


@pytest.mark.parametrize(("budget", "calls", "cost"), BUDGETS)
@pytest.mark.parametrize("phase", ["Dark", "Shadow"])
def test_the_mirror_stops_and_the_phase_holds_and_says_so(
    phase: str, budget: Budget, calls: float, cost: float
) -> None:
    world = spent_in(phase, budget, calls=calls, spent=cost)
    assert not mirrored(world)
    assert world.status.phase == phase
    assert reason(world) == "BudgetReached"
    assert "reached the budget of" in world.status.message
    assert "Resume" in world.status.message
    assert [a.reason for a in world.said].count("BudgetReached") == 1
    assert world.share(B.hash) == 0


def test_below_the_budget_nothing_happens() -> None:
    world = spent_in("Dark", Budget(calls=100, cost="2.5"), calls=99, spent=2.49)
    assert world.status.phase != "Dark"
    assert not [a for a in world.said if a.reason == "BudgetReached"]


def test_a_canarys_users_stay_where_they_are() -> None:
    world = spent_in("Canary", Budget(calls=100))
    assert world.share(B.hash) == 5
    assert world.status.step.startswith("canary-5")
    assert "its users stay where they are (5%)" in world.status.message


def test_a_breach_takes_back_what_a_budget_holds() -> None:
    for phase in ("Dark", "Canary"):
        world = spent_in(phase, Budget(calls=100))
        world.verdict = Verdict.FAIL
        world.step()
        assert world.status.phase == "RolledBack"
        assert world.share(B.hash) == 0


def test_resume_grants_the_same_again_from_where_it_stands() -> None:
    world = spent_in("Dark", Budget(calls=100), calls=250)
    world.verdict = Verdict.INCONCLUSIVE
    name = world.act("Resume")
    world.run(3)
    assert world.outcomes[name] == "Accepted"
    assert mirrored(world)
    world.calls = 349
    world.run(3)
    assert mirrored(world)
    world.calls = 350
    world.run(3)
    assert not mirrored(world)
    assert "budget of 350" in world.status.message
    assert [a.reason for a in world.said].count("BudgetReached") == 2


def test_after_resume_the_phase_advances_by_its_gate() -> None:
    world = spent_in("Dark", Budget(calls=100))
    world.act("Resume")
    world.run(80)
    assert world.status.stable_revision == B.hash


def test_a_larger_budget_in_the_strategy_counts_at_once() -> None:
    world = spent_in("Dark", Budget(calls=100), calls=150)
    world.verdict = Verdict.INCONCLUSIVE
    world.spec = make_spec(with_budget(Budget(calls=1000), of="Dark"))
    world.run(3)
    assert mirrored(world)
    assert "strategy was edited" not in world.status.message


def test_a_budget_that_is_taken_away_holds_nothing() -> None:
    world = spent_in("Dark", Budget(calls=100))
    world.spec = make_spec(with_budget(None, of="Dark"))
    world.run(80)
    assert world.status.stable_revision == B.hash


def test_money_that_nobody_counts_is_not_spent() -> None:
    world = spent_in("Dark", Budget(cost="50"), calls=10, spent=None)
    assert not mirrored(world)
    assert "not known" in world.status.message


def test_resume_is_not_offered_where_it_would_stop_again_at_once() -> None:
    world = spent_in("Dark", Budget(cost="50"), calls=10, spent=None)
    assert "Resume" not in world.status.message
    assert "price table" in world.status.message
    name = world.act("Resume")
    world.run(3)
    assert world.outcomes[name] == "Refused"
    assert [a.reason for a in world.said].count("BudgetReached") == 1
    assert not mirrored(world)


def test_a_price_that_becomes_known_lets_the_phase_go_on_by_itself() -> None:
    world = spent_in("Dark", Budget(cost="50"), calls=10, spent=None)
    world.verdict, world.spent = Verdict.INCONCLUSIVE, 1.0
    world.run(3)
    assert mirrored(world)
    world.spent = 50.0
    world.run(3)
    assert not mirrored(world)
    name = world.act("Resume")
    world.run(3)
    assert world.outcomes[name] == "Accepted"


@pytest.mark.parametrize("verdict", [None, Verdict.PASS])
def test_evidence_that_is_read_anew_does_not_start_the_mirror_again(
    verdict: Verdict | None,
) -> None:
    world = spent_in("Dark", Budget(calls=100))
    world.verdict, world.calls = verdict, 0
    world.run(20)
    assert not mirrored(world)
    assert reason(world) == "BudgetReached"


def test_money_that_nobody_counts_stays_unspent_after_a_restart() -> None:
    world = spent_in("Dark", Budget(cost="50"), calls=10, spent=None)
    world.verdict = None  # a fresh process has no judgement yet
    world.run(3)
    assert not mirrored(world)
    assert reason(world) == "BudgetReached"
    world.spec = make_spec(with_budget(None, of="Dark"))
    world.run(3)
    assert mirrored(world)
