"""What the whole loop does with evidence: outages, shared causes, budgets, trends, late labels."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.control import kinds, rhythm, sampler

from tests.control.world import KEY, PHASES, World

NEW = {"systemPrompt": "Be brief.", "sideEffects": "DryRun"}
FOUR = [
    {"name": "dark", "type": "Dark", "mirrorPercent": 100, "minDuration": "60s"},
    {"name": "shadow", "type": "Shadow", "mirrorPercent": 100, "minDuration": "60s"},
    {"name": "canary-20", "type": "Canary", "weight": 20, "minDuration": "60s"},
    {"name": "full", "type": "Full", "minDuration": "60s"},
]


def policy(*metrics: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "RollbackPolicy",
        "metadata": {"name": "strict", "namespace": KEY.namespace},
        "spec": {"metrics": list(metrics), **spec},
    }


def said(world: World, reason: str) -> list[str]:
    return [a.message for a in world.recorder.announced if a.reason == reason]


async def rolling_out(world: World, phase: str, **spec: Any) -> str:
    """The candidate, some seconds into `phase`."""
    await world.stable()
    world.apply(agent=NEW, **spec)
    await world.until_phase(phase)
    await world.run(20)
    assert world.status["phase"] == phase
    candidate: str = world.status["candidateRevision"]
    return candidate


OUTAGES = [(phase, phase in ("Shadow", "Full")) for phase in ("Dark", "Shadow", "Canary", "Full")]


@pytest.mark.parametrize(("phase", "empty"), OUTAGES)
async def test_an_hour_without_prometheus_moves_nothing_and_is_told_once(
    phase: str, empty: bool
) -> None:
    async with World(every=5.0).operator() as world:
        await rolling_out(world, phase, strategy={"phases": FOUR})
        routes, step = len(world.router.history), world.status["step"]
        world.provider.broken = True
        await world.run(540)
        assert not said(world, "PausedWithoutData")
        await world.run(3060)
        assert len(world.router.history) == routes
        assert world.status["step"] == step
        assert len(said(world, "PausedWithoutData")) == 1
        assert world.condition("Progressing")["reason"] == "PausedWithoutData"
        assert "metrics provider default: not reachable" in world.status["message"]
        world.provider.broken = False
        if empty:
            world.provider.lose_everything()
        await world.until_phase("Stable")
        assert len(said(world, "PausedWithoutData")) == 1
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[0]
        assert record["status"]["phase"] == "Succeeded"
        assert "bug" not in world.results


async def test_a_candidate_that_broke_during_an_outage_is_taken_back_when_it_is_over() -> None:
    async with World(every=5.0).operator() as world:
        candidate = await rolling_out(world, "Canary", strategy={"phases": FOUR})
        world.provider.broken = True
        world.error_rate[candidate] = 1.0
        await world.run(900)
        assert world.share(candidate) == 20
        world.provider.broken = False
        await world.run(15)
        assert world.share(candidate) == 0
        assert world.status["rollback"]["trigger"] == "error-rate"


async def test_an_operator_that_starts_while_prometheus_is_away_moves_nothing() -> None:
    world = World(every=5.0)
    async with world.operator():
        candidate = await rolling_out(world, "Canary", strategy={"phases": FOUR})
    world.provider.broken = True
    async with world.operator():
        await world.run(1200)
        assert world.share(candidate) == 20
        world.provider.broken = False
        await world.until_phase("Full")
        await world.until_phase("Stable")


async def test_an_outage_that_both_revisions_share_holds_and_says_so() -> None:
    async with World().operator() as world:
        candidate = await rolling_out(world, "Canary")
        stable = world.status["stableRevision"]
        world.error_rate[candidate] = world.error_rate[stable] = 0.9
        await world.run(120)
        assert world.status["phase"] == "Canary"
        assert world.share(candidate) == 20
        assert world.condition("Progressing")["reason"] == "Holding"
        assert "shared cause" in world.status["message"]
        assert not said(world, "RolledBack")
        world.error_rate[candidate] = world.error_rate[stable] = 0.01
        await world.run(120)
        assert world.share(candidate) == 20


async def test_the_same_fault_in_the_candidate_alone_takes_it_back() -> None:
    async with World().operator() as world:
        candidate = await rolling_out(world, "Canary")
        world.error_rate[candidate] = 0.9
        await world.run(20)
        assert world.status["phase"] == "RolledBack"
        assert world.share(candidate) == 0


async def test_an_alert_holds_is_told_once_and_goes() -> None:
    async with World().operator() as world:
        alert = {"name": "error-rate", "alert": {"above": "2%"}, "rollback": {"above": "50%"}}
        world.cluster.put(policy(alert))
        candidate = await rolling_out(world, "Canary", policyRef={"name": "strict"})
        world.error_rate[candidate] = 0.1
        await world.run(120)
        assert world.status["phase"] == "Canary"
        assert world.condition("Progressing")["reason"] == "AlertBreached"
        assert "error-rate-alert" in world.status["message"]
        assert len(said(world, "AlertBreached")) == 1
        standing = [n["check"] for n in world.status["notices"] if n["kind"] == "Alert"]
        assert standing == ["error-rate-alert"]


COST = {"name": "cost-per-call", "baseline": {"worseBy": "2", "tolerate": "1.1"}}


async def dearer(world: World, times: float) -> str:
    """A Canary whose calls cost so many times what the stable revision's do."""
    world.cluster.put(policy(ERRORS, COST))
    await world.stable()
    world.counting[world.status["stableRevision"], "agent_cost_usd_total"] = 0.4
    canary = PHASES[1] | {"minDuration": "30m"}
    world.apply(agent=NEW, policyRef={"name": "strict"}, strategy={"phases": [canary, PHASES[2]]})
    await world.run(3)
    candidate: str = world.status["candidateRevision"]
    world.counting[candidate, "agent_cost_usd_total"] = 0.1 * times
    return candidate


async def test_a_trend_is_told_with_its_numbers_stops_nothing_and_goes_by_itself() -> None:
    async with World().operator() as world:
        candidate = await dearer(world, 1.7)
        await world.run(240)
        told = world.condition("EarlyWarning")
        assert (told["status"], told["reason"]) == ("True", "Worsening")
        assert told["message"].startswith("cost-per-call: ")
        assert "early warning: cost-per-call" in world.status["message"]
        assert len(said(world, "EarlyWarning")) == 1
        assert world.status["phase"] == "Canary"
        world.counting[candidate, "agent_cost_usd_total"] = 0.1
        await world.run(1200)
        assert world.condition("EarlyWarning")["status"] == "False"
        assert len(said(world, "EarlyWarningOver")) == 1
        await world.until_phase("Full", most=900)
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[0]["status"]
        began, over = record["notices"]
        assert began["kind"] == over["kind"] == "EarlyWarning"
        assert ("until" in began, "until" in over) == (False, True)


async def test_what_gets_worse_is_looked_at_as_often_as_in_a_small_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with World().operator() as world:
        await dearer(world, 1.7)
        await world.run(60)
        monkeypatch.setattr(rhythm, "PER_ATTEMPT", 20.0)  # one agent weighs like four thousand
        await world.run(240)
        assert world.condition("EarlyWarning")["status"] == "True"
        world.provider.queries.clear()
        await world.run(60)
        assert len(world.provider.queries) >= 50
        monkeypatch.setattr(sampler, "CLOSELY", 0)
        world.provider.queries.clear()
        await world.run(60)
        assert len(world.provider.queries) <= 4


async def test_a_mirror_stops_soon_after_its_budget_and_goes_on_with_a_larger_one() -> None:
    async with World().operator() as world:
        dark = PHASES[0] | {"budget": {"calls": 2000}, "minDuration": "10m"}
        await world.stable()
        world.apply(agent=NEW, strategy={"phases": [dark, *PHASES[1:]]})
        await world.run(120)
        assert world.router.plan is not None
        assert world.router.plan.mirror is None
        assert world.condition("Stalled")["reason"] == "BudgetReached"
        assert world.status["progress"]["spent"]["calls"] < 2200
        assert len(said(world, "BudgetReached")) == 1
        await world.run(900)
        assert world.condition("Stalled")["reason"] == "BudgetReached"
        assert not said(world, "PausedWithoutData")
        more = dark | {"budget": {"calls": 200_000}}
        world.apply(agent=NEW, strategy={"phases": [more, *PHASES[1:]]})
        await world.until_phase("Canary", most=60)


async def test_a_budget_of_money_stops_the_mirror() -> None:
    async with World().operator() as world:
        dark = PHASES[0] | {"budget": {"cost": "1"}, "minDuration": "10m"}
        await world.stable()
        world.apply(agent={**NEW, "sideEffects": "None"}, strategy={"phases": [dark, *PHASES[1:]]})
        await world.run(3)
        world.counting[world.status["candidateRevision"], "agent_cost_usd_total"] = 1.0
        await world.run(30)
        assert world.router.plan is not None
        assert world.router.plan.mirror is None
        assert "1.00 USD" in world.status["message"]


ACCURACY = {"name": "accuracy", "gate": {"above": "80%"}, "rollback": {"below": "70%"}}
ERRORS = {"name": "error-rate", "rollback": {"above": "50%"}}


def label(world: World, revision: str, passed: float) -> None:
    """Two reviews a second, of which a share of `passed` is good."""
    world.counting[revision, "agent_eval_total"] = 2.0
    world.counting[revision, "agent_eval_passed_total"] = 2.0 * passed


async def promoted(world: World, keep_warm: str = "1h") -> tuple[str, str]:
    """The stable revision whose labels are waited for, and the one before it."""
    world.cluster.put(policy(ERRORS, ACCURACY))
    await world.stable()
    before = world.status["stableRevision"]
    label(world, before, 0.95)
    standby = {"keepWarm": keep_warm}
    world.apply(agent=NEW, policyRef={"name": "strict"}, standby=standby)
    await world.run(3)
    candidate = world.status["candidateRevision"]
    label(world, candidate, 0.95)
    await world.until_phase("Stable", most=900)
    assert world.status["stableRevision"] == candidate
    return candidate, before


async def test_labels_that_arrive_after_stable_take_a_bad_revision_back_while_it_can_be() -> None:
    async with World().operator() as world:
        bad, before = await promoted(world)
        label(world, bad, 0.4)
        await world.run(900)
        assert world.share(before) == 100
        assert world.status["stableRevision"] == before
        assert world.status["rollback"]["trigger"] == "accuracy"
        assert world.condition("RolledBack")["reason"] == "LateEvidence"
        record = world.cluster.all(kinds.AGENT_ROLLOUT)[0]["status"]
        assert record["phase"] == "RolledBack"
        assert record["incident"]["to"] == before
        assert len(said(world, "RolledBack")) == 1


@pytest.mark.parametrize("what", ["policy", "spec"])
async def test_what_cannot_be_read_meanwhile_does_not_stand_before_a_late_rollback(
    what: str,
) -> None:
    async with World().operator() as world:
        bad, before = await promoted(world)
        more: dict[str, Any] = {"replicas": "many"} if what == "spec" else {}
        if what == "policy":
            world.cluster.put(policy({"name": "nonsense"}))
        world.apply(agent=NEW, policyRef={"name": "strict"}, standby={"keepWarm": "1h"}, **more)
        label(world, bad, 0.4)
        await world.run(900)
        assert world.share(before) == 100
        assert world.status["rollback"]["trigger"] == "accuracy"


async def test_labels_that_arrive_when_nothing_is_warm_are_told_and_move_nobody() -> None:
    async with World().operator() as world:
        bad, _ = await promoted(world, keep_warm="60s")
        await world.run(120)
        label(world, bad, 0.4)
        await world.run(900)
        assert world.share(bad) == 100
        assert world.condition("Ready")["status"] == "True"
        assert world.condition("EarlyWarning")["reason"] == "LateEvidence"
        assert len(said(world, "LateEvidence")) == 1


async def test_good_labels_after_stable_change_nothing() -> None:
    async with World().operator() as world:
        await promoted(world)
        await world.run(60)
        routes = len(world.router.history)
        world.cluster.writes.clear()
        await world.run(1800)
        assert len(world.router.history) == routes
        assert world.condition("Ready")["status"] == "True"
        written = [w for w in world.cluster.writes if w != "patch-status agentrollouts"]
        assert written == []


async def test_without_late_checks_a_stable_agent_is_not_looked_at() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.until_phase("Full")
        await world.until_phase("Stable")
        await world.run(5)
        world.provider.queries.clear()
        await world.run(120)
        assert world.provider.queries == []
        assert world.store.attempts() == []


async def test_the_plan_in_the_status_says_of_each_phase_what_it_takes_and_catches() -> None:
    async with World(every=5.0).operator() as world:
        world.provider.remembers = True
        await world.stable()
        await world.run(3600)
        world.apply(agent=NEW)
        await world.run(5)
        assert world.status["phase"] == "Dark"
        plan = world.status["plan"]
        assert [line.partition(":")[0] for line in plan] == ["dark", "canary-20", "full"]
        assert "passes after" in plan[0]
        assert "catches error-rate" in plan[1]


async def test_without_traffic_the_plan_says_why_there_is_none() -> None:
    async with World().operator() as world:
        await world.stable()
        world.apply(agent=NEW)
        await world.run(5)
        assert world.status["plan"][0].startswith("no plan: ")
        assert world.status["phase"] == "Dark"


async def test_a_plan_that_cannot_be_made_yet_holds_nothing_up() -> None:
    async with World().operator() as world:
        await world.stable()
        world.provider.broken = True
        world.apply(agent=NEW)
        await world.run(30)
        assert "plan" not in world.status
        assert world.status["phase"] == "Dark"
        world.provider.broken = False
        await world.run(120)
        assert world.status["plan"]
