"""Invariants of `decide` under arbitrary histories: evidence, pods, gateway, people, edits and crashes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.api.agentdeployment import Budget
from phasegate.api.calendar import Freeze
from phasegate.engine.verdict import Verdict
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.decide import decide
from phasegate.rollout.giving import gives_more
from phasegate.rollout.phases import position
from phasegate.rollout.schedule import calendar_of

from tests.rollout.world import PHASES as WORLD_PHASES
from tests.rollout.world import World, judged, make_revision, make_spec

VERDICTS = st.sampled_from([Verdict.PASS, Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL, None])
EVENTS = st.one_of(
    st.tuples(st.just("verdict"), VERDICTS),
    st.tuples(st.just("edit"), st.sampled_from("abc")),
    st.tuples(st.just("ready"), st.sampled_from("abc")),
    st.tuples(st.just("unready"), st.sampled_from("abc")),
    st.tuples(st.just("programmed"), st.booleans()),
    st.tuples(
        st.just("act"),
        st.sampled_from(
            [
                *("Approve", "Promote", "Reject", "Pause", "Resume", "Rollback", "Retry"),
                *("Acknowledge", "KillSwitch"),
            ]
        ),
    ),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("wait"), st.just(12)),
    st.tuples(st.just("crash"), st.integers(0, 5)),
    st.tuples(st.just("alert"), st.booleans()),
    st.tuples(st.just("warning"), st.booleans()),
    st.tuples(st.just("calls"), st.integers(0, 400)),
    st.tuples(st.just("frozen"), st.booleans()),
)
PHASES = st.sampled_from(["Stable", "Dark", "Shadow", "Canary", "Full"])
BUDGET = Budget(calls=200)
WITH_BUDGETS = tuple(
    phase.model_copy(update={"budget": None if phase.type == "Full" else BUDGET})
    for phase in WORLD_PHASES
)
FREEZE = Freeze(name="all", reason="stock-taking", time_zone="UTC")
FROZEN = calendar_of([], [FREEZE], lambda name: UTC, "administrator", "calendar")
HISTORIES = st.tuples(PHASES, st.lists(EVENTS, max_size=40))
History = tuple[str, list[tuple[str, Any]]]


def begin(phase: str) -> World:
    """A world in which revision a is stable and b, unless `phase` is Stable, has come as far as `phase`."""
    world = World(spec=make_spec(WITH_BUDGETS))
    world.until("Stable")
    if phase != "Stable":
        world.edit(make_revision("b"))
        world.until(phase)
    return world


def happen(world: World, event: tuple[str, Any]) -> int | None:
    """Apply an event; the number of writes the next pass survives, if it dies."""
    kind, value = event
    match kind:
        case "verdict" | "programmed" | "calls":
            setattr(world, kind, value)
        case "edit":
            world.edit(make_revision(value))
        case "ready":
            world.unready.discard(value * 10)
        case "unready":
            world.unready.add(value * 10)
        case "act":
            world.act(value)
        case "alert":
            world.alerts = {"error-rate"} if value else set()
        case "warning":
            world.warning = "18% vs 12%" if value else ""
        case "frozen":
            world.calendar = FROZEN if value else Calendar()
        case "wait":
            world.now += timedelta(seconds=value)
    return int(value) if kind == "crash" else None


def after(history: History) -> World:
    """The world after a history."""
    world = begin(history[0])
    for event in history[1]:
        world.step(happen(world, event))
        world.now += timedelta(seconds=1)
    return world


@settings(max_examples=300, deadline=None)
@given(HISTORIES)
def test_no_weight_ever_rises_without_a_pass(history: History) -> None:
    world = begin(history[0])
    for event in history[1]:
        survive = happen(world, event)
        candidate = world.status.candidate_revision
        before = world.share(candidate) if candidate else 0
        allowed = world.status.progress.phase if world.status.progress is not None else None
        gate = world.status.last_gate
        world.step(survive)
        world.now += timedelta(seconds=1)
        if candidate is None or candidate == world.status.stable_revision:
            continue
        share = world.share(candidate)
        if share > before:
            assert allowed is not None
            assert share <= {"Full": 100}.get(allowed.type, allowed.weight or 0)
            assert gate is not None
            assert gate.decision in ("Started", "Advanced")
            assert gate.decision == "Started" or all(c.verdict == "Pass" for c in gate.checks)


@settings(max_examples=300, deadline=None)
@given(HISTORIES)
def test_a_rollback_is_one_pass_away_from_every_state(history: History) -> None:
    world = after(history)
    seen = world.observe()
    if seen.status.progress is None or seen.status.candidate_revision is None:
        return
    decision = decide(replace(seen, judgement=judged(Verdict.FAIL)), world.now, world.settings)
    plan = decision.route or world.route
    assert plan is None or plan.percent(seen.status.candidate_revision) == 0
    assert plan is None or plan.mirror is None
    assert decision.status.progress is None


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
def test_the_same_observation_gives_the_same_decision(history: History) -> None:
    world = after(history)
    seen = world.observe()
    assert decide(seen, world.now, world.settings) == decide(seen, world.now, world.settings)


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
def test_all_users_always_have_a_revision_that_exists(history: History) -> None:
    world = after(history)
    if world.route is None:
        return
    for slot in world.route.slots:
        assert (
            slot.revision,
            "live",
        ) in world.workloads or slot.revision == world.status.stable_revision


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
def test_the_machine_ends_once_the_world_is_quiet(history: History) -> None:
    world = after(history)
    world.unready.clear()
    world.programmed = True
    world.verdict, world.alerts, world.warning, world.calls = Verdict.PASS, set(), "", 100
    world.calendar = Calendar()
    for _ in range(2):  # a pause, and a budget that was reached
        world.act("Resume")
        world.step()
    if world.status.deactivated is not None:
        world.act("Resume", world.status.stable_revision)
    world.run(120, timedelta(seconds=5))
    assert world.status.phase in ("Stable", "RolledBack")
    assert world.share(world.status.stable_revision or "") == 100
    assert not world.finalizers
    quiet = world.status
    world.step()
    assert world.status == quiet


@settings(max_examples=200, deadline=None)
@given(HISTORIES, st.integers(0, 6))
def test_a_crash_between_any_two_writes_of_a_rollback_ends_in_the_same_state(
    history: History, survive: int
) -> None:
    world = after(history)
    if world.status.progress is None:
        return
    candidate = world.status.candidate_revision
    world.verdict = Verdict.FAIL
    world.step(survive)
    if survive > 0:
        world.verdict = None  # whatever the evidence says after the restart, the decision stands
    else:
        assert world.status.progress is not None
    for _ in range(3):
        world.step()
    assert world.status.rollback is not None or survive == 0
    assert candidate is not None
    assert world.share(candidate) == 0


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
def test_nothing_is_copied_while_a_budget_is_used_up(history: History) -> None:
    world = begin(history[0])
    for event in history[1]:
        world.step(happen(world, event))
        world.now += timedelta(seconds=1)
        before = world.status.progress
        world.step()
        progress = world.status.progress
        if progress is None or before is None or progress.phase != before.phase:
            continue
        if progress.spent is not None:
            assert world.route is None or world.route.mirror is None
        elif world.route is not None and world.route.mirror is not None and world.verdict:
            granted = progress.granted.calls if progress.granted is not None else 0
            assert world.calls < granted + 200


@settings(max_examples=300, deadline=None)
@given(HISTORIES)
def test_nothing_goes_forward_while_it_is_frozen(history: History) -> None:
    world = begin(history[0])
    for event in history[1]:
        survive = happen(world, event)
        before, route = world.status, world.route
        world.step(survive)
        world.now += timedelta(seconds=1)
        if world.calendar is not FROZEN:
            continue
        was, now = before.progress, world.status.progress
        assert world.status.rollouts == before.rollouts
        assert now is None or (was is not None and position(now.phase) == position(was.phase))
        if was is not None and world.status.last_gate != before.last_gate:
            assert world.status.last_gate is not None
            assert world.status.last_gate.decision in ("RolledBack", "Cancelled", "Superseded")
        if was is not None and was.started_at is None and world.route is not None:
            assert not gives_more(route, world.route, before.stable_revision)


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
def test_an_alert_or_a_trend_moves_no_traffic(history: History) -> None:
    world = after(history)
    seen = world.observe()
    if seen.judgement is None or seen.judgement.verdict is not Verdict.INCONCLUSIVE:
        return
    told = judged(
        Verdict.INCONCLUSIVE, alerts=["error-rate"], warning="18% vs 12%", calls=world.calls
    )
    calm = judged(Verdict.INCONCLUSIVE, calls=world.calls)
    one = decide(replace(seen, judgement=told), world.now, world.settings)
    other = decide(replace(seen, judgement=calm), world.now, world.settings)
    assert one.route == other.route
    assert one.status.progress == other.status.progress
    assert one.children == other.children
