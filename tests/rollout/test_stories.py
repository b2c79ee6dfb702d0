"""The stories of a rollout, told to `decide` through a small simulated cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from phasegate.api.agentdeployment import Phase
from phasegate.api.rolloutaction import RolloutActionSpec, Verb
from phasegate.engine.verdict import Verdict
from phasegate.rollout.decide import DRAIN, decide
from phasegate.rollout.decision import Decision
from phasegate.rollout.observed import ActionSeen, Capabilities, Measured, PolicySeen
from phasegate.rollout.route import FULL, IDLE, Mode, split

from tests.rollout.world import PHASES, World, make_revision, make_spec

A, B, C = make_revision("a"), make_revision("b"), make_revision("c")


@pytest.fixture
def stable() -> World:
    """A world in which revision a is stable and nothing happens."""
    world = World()
    world.until("Stable")
    return world


def rolling_out(world: World, phase: str = "Canary") -> World:
    """Revision b is on its way and has reached `phase`."""
    world.edit(B)
    world.until(phase)
    world.step()
    world.step()
    return world


def condition(world: World, name: str) -> str:
    return next((c.status for c in world.status.conditions if c.type == name), "absent")


def test_first_creation_goes_to_full_at_once(stable: World) -> None:
    assert stable.status.stable_revision == A.hash
    assert stable.share(A.hash) == 100
    assert not stable.records
    assert condition(stable, "Ready") == "True"
    assert condition(stable, "Reconciling") == condition(stable, "Stalled") == "absent"


def test_a_first_revision_that_never_served_is_replaced_without_a_rollout() -> None:
    world = World(pods_start=False)
    world.run(3)
    world.edit(B)
    world.pods_start = True
    world.until("Stable")
    assert world.status.stable_revision == B.hash
    assert not world.records


def test_a_good_revision_goes_through_every_phase_in_order(stable: World) -> None:
    stable.edit(B)
    stable.run(80)
    assert stable.status.phase == "Stable"
    assert stable.status.stable_revision == B.hash
    gates = stable.records["bot-1"].gates
    assert [g.to_phase for g in gates] == [
        "dark",
        "shadow",
        "canary-5",
        "canary-50",
        "full",
        "stable",
    ]
    assert stable.records["bot-1"].phase == "Succeeded"


def test_users_see_nothing_of_dark_and_shadow(stable: World) -> None:
    for phase in ("Dark", "Shadow"):
        rolling_out(stable, phase)
        assert stable.share(B.hash) == 0
        assert stable.route is not None
        assert stable.route.mirror is not None
        assert (stable.route.header is not None) == (phase == "Shadow")


def test_both_slots_stay_in_the_route_and_only_weights_change_on_rollback(stable: World) -> None:
    rolling_out(stable)
    before = stable.route
    stable.verdict = Verdict.FAIL
    stable.step()
    assert before is not None
    assert stable.route is not None
    assert [s.revision for s in before.slots] == [s.revision for s in stable.route.slots]
    assert {s.revision: s.weight for s in stable.route.slots} == {A.hash: FULL, B.hash: IDLE}


@pytest.mark.parametrize("phase", ["Dark", "Shadow", "Canary", "Full"])
def test_a_breach_takes_the_traffic_back_in_the_pass_that_sees_it(
    stable: World, phase: str
) -> None:
    rolling_out(stable, phase)
    stable.verdict = Verdict.FAIL
    decision = stable.step()
    assert decision.route is not None
    assert stable.share(B.hash) == 0
    assert stable.route is not None
    assert stable.route.mirror is None
    assert stable.status.phase == "RolledBack"
    assert condition(stable, "Stalled") == "True"
    assert "candidate Fail" in stable.status.message
    stable.run(3)
    rollback = stable.status.rollback
    assert rollback is not None
    assert rollback.seconds_to_safe is not None
    assert stable.records["bot-1"].incident is not None
    assert stable.records["bot-1"].incident.safe_at is not None


def test_a_revision_that_was_rolled_back_is_not_tried_again_by_itself(stable: World) -> None:
    rolling_out(stable)
    stable.verdict = Verdict.FAIL
    stable.step()
    stable.verdict = Verdict.PASS
    stable.run(50)
    assert stable.status.phase == "RolledBack"
    assert list(stable.records) == ["bot-1"]


def test_retry_begins_with_the_first_phase(stable: World) -> None:
    rolling_out(stable)
    stable.verdict = Verdict.FAIL
    stable.step()
    stable.verdict = Verdict.PASS
    stable.run(2)
    name = stable.act("Retry", B.hash)
    stable.run(2)
    assert stable.outcomes[name] == "Accepted"
    assert stable.status.phase == "Dark"
    stable.run(80)
    assert stable.status.stable_revision == B.hash


def test_a_candidate_loses_its_pods_only_after_its_traffic(stable: World) -> None:
    rolling_out(stable)
    stable.verdict = Verdict.FAIL
    stable.step()
    assert (B.hash, "live") in stable.workloads
    stable.run(20)
    assert (B.hash, "live") not in stable.workloads
    assert {s.revision for s in stable.route.slots} == {A.hash}  # type: ignore[union-attr]


def test_an_edit_mid_rollout_starts_over_with_the_newest(stable: World) -> None:
    rolling_out(stable)
    stable.edit(C)
    stable.step()
    assert stable.share(A.hash) == 100
    stable.until("Dark")
    assert stable.status.candidate_revision == C.hash
    assert stable.records["bot-1"].phase == "Superseded"
    stable.run(80)
    assert stable.status.stable_revision == C.hash


def test_going_back_to_stable_mid_rollout_is_immediate(stable: World) -> None:
    rolling_out(stable, "Full")
    assert stable.share(B.hash) == 100
    stable.edit(A)
    stable.step()
    assert stable.share(A.hash) == 100
    stable.run(3)
    assert stable.status.phase == "Stable"
    assert stable.records["bot-1"].phase == "Cancelled"


def test_the_minimum_duration_binds_and_no_edit_shortens_the_running_phase(stable: World) -> None:
    stable.edit(B)
    stable.until("Dark")
    stable.spec = make_spec((PHASES[0].model_copy(update={"min_duration": "1s"}), *PHASES[1:]))
    entered = stable.now
    while stable.status.phase == "Dark":
        stable.step()
        stable.now += timedelta(seconds=1)
        if stable.status.phase == "Dark":
            assert "applies from the next phase on" in stable.status.message
    assert stable.now - entered >= timedelta(seconds=10)


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, None])
def test_without_a_pass_nothing_advances(stable: World, verdict: Verdict | None) -> None:
    rolling_out(stable)
    stable.verdict = verdict
    weight = stable.share(B.hash)
    stable.run(100)
    assert stable.share(B.hash) == weight
    assert stable.status.phase == "Canary"


def test_after_the_maximum_duration_a_person_is_asked_once() -> None:
    phases = (PHASES[2].model_copy(update={"max_duration": "30s"}), PHASES[4])
    world = World(spec=make_spec(phases))
    world.until("Stable")
    world.edit(B)
    world.verdict = Verdict.INCONCLUSIVE
    world.run(40)
    assert "a person has to decide" in world.status.message
    assert [a.reason for a in world.said].count("MaxDurationExceeded") == 1


def test_weights_wait_for_pods_and_for_the_gateway(stable: World) -> None:
    stable.pods_start = False
    stable.edit(B)
    stable.unready.add(B.hash)
    stable.pods_start = True
    stable.run(10)
    assert stable.route is not None
    assert stable.route.mirror is None
    stable.unready.clear()
    stable.step()
    stable.programmed = False
    stable.run(20)
    assert stable.status.phase == "Dark"
    assert condition(stable, "TrafficProgrammed") == "False"
    stable.programmed = True
    stable.run(80)
    assert stable.status.stable_revision == B.hash


def test_the_next_weight_waits_for_all_pods_of_its_step() -> None:
    world = World(spec=make_spec(replicas=4))
    world.until("Stable")
    rolling_out(world)
    world.room = 1
    world.run(20)
    assert world.status.step.startswith("canary-50")
    assert world.share(B.hash) == 5
    world.room = 4
    world.run(3)
    assert world.share(B.hash) == 50


def test_a_foreign_edit_never_leaves_the_candidate_more_than_its_step(stable: World) -> None:
    rolling_out(stable)
    assert stable.route is not None
    stable.route = split(A.hash, B.hash, 90, stable.route)
    stable.step()
    assert stable.share(B.hash) == 5


def test_an_action_whose_outcome_was_lost_in_a_crash_is_not_done_twice(stable: World) -> None:
    rolling_out(stable)
    name = stable.act("Rollback")
    stable.step(survive=2)
    assert name not in stable.outcomes
    stable.step()
    assert stable.outcomes[name] == "Accepted"
    assert [g.decision for g in stable.records["bot-1"].gates].count("RolledBack") == 1


def test_a_candidate_without_any_ready_pod_loses_its_users_at_once(stable: World) -> None:
    rolling_out(stable)
    stable.unready.add(B.hash)
    stable.step()
    stable.step()
    assert stable.share(B.hash) == 0
    assert stable.status.rollback is not None
    assert stable.status.rollback.trigger == "availability"


def test_an_image_that_never_becomes_ready_stalls_with_the_reason(stable: World) -> None:
    stable.edit(B)
    stable.unready.add(B.hash)
    stable.run(3)
    key: tuple[str, Mode] = (B.hash, "dark")
    stable.workloads[key] = replace(
        stable.workloads[key], problem="ImagePullBackOff: no such image"
    )
    stable._pods = lambda: None  # type: ignore[method-assign]
    stable.step()
    assert condition(stable, "Stalled") == "True"
    assert "ImagePullBackOff" in stable.status.message
    assert stable.share(A.hash) == 100


def test_a_router_that_cannot_mirror_refuses_dark_with_a_reason(stable: World) -> None:
    stable.capabilities = Capabilities(mirror=False, source="built-in table")
    stable.edit(B)
    stable.run(20)
    assert stable.status.phase == "Stable"
    assert condition(stable, "Stalled") == "True"
    assert "cannot do" in stable.status.message
    assert not stable.records


def test_a_missing_policy_stalls_the_start_and_holds_a_running_rollout(stable: World) -> None:
    gone = PolicySeen(None, "RollbackPolicy x is not there")
    rolling_out(stable)
    stable.policy = gone
    stable.run(20)
    assert stable.status.phase == "Canary"
    assert "RollbackPolicy x" in stable.status.message
    stable.verdict = Verdict.FAIL
    stable.step()
    assert stable.share(B.hash) == 0


def test_a_split_that_is_not_real_holds_and_says_so(stable: World) -> None:
    rolling_out(stable)
    stable.measured = Measured(candidate=0, stable=10_000)
    stable.run(30)
    assert stable.status.phase == "Canary"
    assert "split is not real" in stable.status.message
    assert condition(stable, "TrafficProgrammed") == "False"


def test_a_phase_that_needs_an_approval_waits_for_it() -> None:
    phases = (*PHASES[:3], PHASES[3].model_copy(update={"approval": "Required"}), PHASES[4])
    world = World(spec=make_spec(phases))
    world.until("Stable")
    rolling_out(world)
    world.run(30)
    assert world.status.step.startswith("canary-5")
    assert condition(world, "AwaitingApproval") == "True"
    world.act("Approve")
    world.run(80)
    assert world.status.stable_revision == B.hash
    approved = [g for g in world.records["bot-1"].gates if g.to_phase == "canary-50"]
    assert approved[0].by == "alice"


def test_manual_approval_gives_no_traffic_before_the_approval() -> None:
    world = World(spec=make_spec((Phase(name="full", type="Full", approval="Required"),)))
    world.until("Stable")
    world.edit(B)
    world.run(20)
    assert world.share(B.hash) == 0
    assert condition(world, "AwaitingApproval") == "True"
    world.act("Approve")
    world.run(20)
    assert world.status.stable_revision == B.hash


def test_pause_holds_and_a_rollback_works_all_the_same(stable: World) -> None:
    rolling_out(stable)
    stable.act("Pause")
    stable.run(50)
    assert stable.status.phase == "Canary"
    assert "paused by alice" in stable.status.message
    stable.act("Rollback")
    stable.step()
    assert stable.share(B.hash) == 0
    assert stable.status.rollback is not None
    assert stable.status.rollback.by == "alice"


def test_what_comes_too_late_expires_and_what_was_never_right_is_refused(stable: World) -> None:
    verbs: tuple[Verb, ...] = ("Approve", "Resume", "Reject", "Retry")
    late = {verb: stable.act(verb) for verb in verbs}
    never = {verb: stable.act(verb, C.hash) for verb in verbs}
    stable.step()
    assert {verb: stable.outcomes[name] for verb, name in late.items()} == {
        "Approve": "Expired",
        "Resume": "Expired",
        "Reject": "Expired",
        "Retry": "Refused",
    }
    assert {stable.outcomes[name] for name in never.values()} == {"Refused"}
    rolling_out(stable)
    other = stable.act("Rollback", C.hash)
    stable.step()
    assert stable.outcomes[other] == "Refused"
    assert stable.share(B.hash) == 5


def test_without_enforced_identity_no_action_is_accepted(stable: World) -> None:
    rolling_out(stable)
    stable.identity_problem = "the policy is missing"
    name = stable.act("Rollback")
    stable.step()
    assert stable.outcomes[name] == "Refused"
    assert stable.share(B.hash) == 5


def test_deletion_mid_rollout_returns_all_traffic_before_anything_goes(stable: World) -> None:
    rolling_out(stable)
    assert stable.finalizers
    stable.deleted = stable.now
    decision = stable.step()
    assert decision.finalizer == "keep"
    assert stable.share(A.hash) == 100
    assert [share.percent for share in stable.status.traffic] == [100, 0]
    stable.step()
    assert stable.route is not None
    assert stable.route.closed
    assert stable.share(A.hash) == 100


def test_the_route_goes_once_nothing_came_for_a_moment_and_then_the_agent(stable: World) -> None:
    rolling_out(stable)
    stable.deleted = stable.now
    for _ in range(3):
        stable.step()
    stable.now += timedelta(seconds=1)
    stable.step()
    assert stable.share(A.hash) == 100
    stable.now += timedelta(seconds=1)
    stable.step()
    assert stable.route is None
    assert stable.finalizers
    stable.step()
    assert not stable.finalizers
    assert stable.workloads


def test_a_gateway_that_never_confirms_holds_a_deletion_for_half_a_minute(stable: World) -> None:
    rolling_out(stable)
    stable.deleted = stable.now
    stable.programmed = False
    stable.run(6)
    assert stable.share(A.hash) == 100
    stable.run(2)
    assert stable.route is None
    stable.run(1)
    assert not stable.finalizers


def test_the_previous_revision_stays_warm_and_then_goes(stable: World) -> None:
    stable.edit(B)
    stable.run(60)
    assert stable.status.stable_revision == B.hash
    assert (A.hash, "live") in stable.workloads
    stable.now += timedelta(hours=25)
    stable.run(5)
    assert (A.hash, "live") not in stable.workloads
    assert stable.share(B.hash) == 100


def test_a_lost_status_is_rebuilt_from_what_serves(stable: World) -> None:
    rolling_out(stable)
    stable.status = stable.status.__class__()
    stable.step()
    assert stable.status.stable_revision == A.hash
    assert stable.share(A.hash) == 100


def test_an_idle_agent_needs_no_write(stable: World) -> None:
    stable.run(10)
    stable.until("Stable")
    before = stable.status
    decision = stable.step()
    assert decision.route is None or decision.route == stable.route
    assert decision.status == before
    assert not decision.rollouts
    assert not decision.announcements


def test_missing_evidence_pauses_after_the_policys_patience_and_resumes_by_itself(
    stable: World,
) -> None:
    rolling_out(stable)
    stable.verdict = None
    stable.run(10, timedelta(minutes=2))
    assert "paused until data returns" in stable.status.message
    assert [a.reason for a in stable.said].count("PausedWithoutData") == 1
    assert stable.share(B.hash) == 5
    stable.verdict = Verdict.PASS
    stable.run(40)
    assert stable.status.stable_revision == B.hash


def required(*phases: Phase) -> tuple[Phase, ...]:
    return tuple(phase.model_copy(update={"approval": "Required"}) for phase in phases)


def test_an_approval_opens_the_phase_it_is_for_and_no_other() -> None:
    world = World(spec=make_spec(required(PHASES[2], PHASES[4])))
    world.until("Stable")
    world.edit(B)
    world.run(5)
    world.act("Approve")
    world.run(40)
    assert world.share(B.hash) == 5
    assert condition(world, "AwaitingApproval") == "True"
    world.act("Approve", actor="bob")
    world.run(40)
    assert world.status.stable_revision == B.hash


def test_a_late_approval_of_a_phase_does_not_open_the_next_one() -> None:
    phases = (PHASES[2], *required(PHASES[3], PHASES[4]))
    world = World(spec=make_spec(phases, replicas=4))
    world.until("Stable")
    rolling_out(world)
    world.act("Approve")
    world.room = 1
    world.run(10)
    assert world.status.step.startswith("canary-50")
    late = world.act("Approve", actor="bob")
    world.run(2)
    world.room = 100
    world.run(40)
    assert world.outcomes[late] == "Accepted"
    assert world.status.stable_revision == B.hash
    by = {gate.to_phase: gate.by for gate in world.records["bot-1"].gates}
    assert (by["canary-50"], by["full"]) == ("alice", "bob")


def test_a_pause_while_pods_start_keeps_the_weight_where_it_is(stable: World) -> None:
    stable.unready.add(B.hash)
    rolling_out(stable, "Dark")
    stable.act("Pause")
    stable.step()
    stable.unready.clear()
    stable.run(5)
    assert stable.route is not None
    assert stable.route.mirror is None
    assert "paused by alice" in stable.status.message
    stable.act("Resume")
    stable.run(80)
    assert stable.status.stable_revision == B.hash


def test_a_first_revision_that_serves_with_some_of_its_pods_is_not_replaced_unjudged() -> None:
    world = World(spec=make_spec(replicas=3), room=2)
    world.run(5)
    assert world.status.phase == "Creating"
    world.unready.add(B.hash)
    world.edit(B)
    world.run(5)
    assert world.share(A.hash) == 100
    assert (A.hash, "live") in world.workloads


def test_an_action_of_a_name_used_before_is_a_decision_of_its_own(stable: World) -> None:
    rolling_out(stable)
    stable.act("Pause")
    stable.step()
    stable.outcomes.clear()
    again = stable.act("Rollback")
    stable.actions[0] = replace(stable.actions[0], uid="another")
    stable.step()
    assert stable.outcomes[again] == "Accepted"
    assert stable.share(B.hash) == 0


def test_every_rollback_is_announced_also_one_that_a_crash_interrupted(stable: World) -> None:
    rolling_out(stable)
    stable.verdict = Verdict.FAIL
    stable.step(survive=1)
    stable.verdict = None
    stable.run(3)
    assert [a.reason for a in stable.said].count("RolledBack") == 1


def test_a_transition_whose_record_was_lost_is_recorded_with_the_next(stable: World) -> None:
    rolling_out(stable)
    stable.now += timedelta(seconds=30)
    decision = stable.step(survive=1)
    assert decision.status.last_gate is not None
    stable.verdict = Verdict.FAIL
    stable.run(2)
    decisions = [(g.decision, g.to_phase) for g in stable.records["bot-1"].gates]
    assert decisions[-2:] == [("Advanced", "canary-50"), ("RolledBack", "stable")]


def test_a_revision_that_lost_its_traffic_to_an_edit_keeps_its_pods_for_a_while(
    stable: World,
) -> None:
    rolling_out(stable)
    stable.edit(C)
    for _ in range(10):
        stable.step()
        stable.now += timedelta(seconds=2)
    assert stable.status.candidate_revision == C.hash
    assert (B.hash, "live") in stable.workloads
    stable.run(20)
    assert (B.hash, "live") not in stable.workloads


def test_a_gateway_that_takes_a_moment_after_slow_pods_is_not_stalled(stable: World) -> None:
    stable.unready.add(B.hash)
    stable.edit(B)
    stable.run(20)
    stable.unready.clear()
    stable.programmed = False
    stable.step()
    stable.step()
    assert condition(stable, "Stalled") == "absent"
    stable.run(10)
    assert condition(stable, "Stalled") == "True"


@pytest.mark.parametrize("verb", ["Rollback", "Pause"])
def test_what_a_person_writes_forges_no_line_and_steers_no_terminal(
    stable: World, verb: Verb
) -> None:
    stable.edit(B)
    stable.until("Canary")
    reason = "slow\n\x1b[2JNormal  Stable  fine\u202e\u2028" + "x" * 900
    spec = RolloutActionSpec(agent="bot", verb=verb, revision=B.hash, reason=reason, actor="alice")
    stable.actions.append(ActionSeen("act", "uid", stable.now, spec))
    stable.run(3)
    record = stable.records["bot-1"]
    rollback = stable.status.rollback
    written = [
        stable.status.message,
        *(condition.message for condition in stable.status.conditions),
        *(told.message for told in stable.said),
        *(gate.message for gate in record.gates),
        rollback.message if rollback is not None else "",
    ]
    assert any("slow" in words for words in written)
    assert all(words.isprintable() for words in written)


def test_no_traffic_is_given_while_a_deletion_would_not_wait_for_it(stable: World) -> None:
    stable.edit(B)
    for _ in range(60):
        stable.step()
        stable.finalizers = ()  # the write is refused, say
        stable.now += timedelta(seconds=2)
    assert stable.route is not None
    assert (stable.share(B.hash), stable.route.mirror) == (0, None)
    assert "finalizer" in stable.status.message
    stable.run(60)
    assert stable.status.stable_revision == B.hash


def test_a_rollback_needs_no_finalizer(stable: World) -> None:
    rolling_out(stable)
    stable.until("Canary")
    stable.run(2)
    assert stable.share(B.hash) == 5
    stable.finalizers, stable.verdict = (), Verdict.FAIL
    stable.step()
    assert stable.share(B.hash) == 0


def test_an_approval_is_for_the_share_that_was_approved() -> None:
    five = PHASES[2].model_copy(update={"approval": "Required"})
    world = World(spec=make_spec((PHASES[0], five, PHASES[4])))
    world.until("Stable")
    world.edit(B)
    world.until("Dark")
    world.act("Approve")
    world.step()
    ninety = five.model_copy(update={"weight": 90})
    world.spec = make_spec((PHASES[0], ninety, PHASES[4]))
    world.run(30)
    assert world.share(B.hash) == 0
    assert condition(world, "AwaitingApproval") == "True"
    world.act("Approve", actor="bob")
    world.run(3)
    assert world.share(B.hash) == 90


def test_a_status_that_was_not_written_does_not_shorten_the_drain(stable: World) -> None:
    rolling_out(stable)
    stable.now += timedelta(minutes=5)
    stable.deleted = stable.now
    for _ in range(2):  # the route is closed, and both writes of the status conflict
        before = stable.status
        stable.step()
        stable.status = before
    assert stable.route is not None
    assert stable.route.closed
    stable.step()
    assert stable.route is not None
    stable.now += DRAIN
    stable.step()
    assert stable.route is None


def test_a_glance_that_finds_nothing_to_take_back_says_nothing(stable: World) -> None:
    seen = replace(stable.observe(), partial=True, target=None, workloads=())
    decision = decide(seen, stable.now, stable.settings)
    assert decision == Decision(status=stable.status, requeue_at=stable.now)


def test_a_superseded_candidate_keeps_its_slot_while_requests_to_it_end(stable: World) -> None:
    """Also while the pods of the next one are starting: a slot that goes costs requests."""
    rolling_out(stable)
    stable.unready.add(C.hash)
    stable.edit(C)
    lost_at = stable.now
    while stable.now - lost_at < stable.settings.linger:
        stable.step()
        assert stable.route is not None
        assert {s.revision for s in stable.route.slots} == {A.hash, B.hash}
        assert stable.share(A.hash) == 100
        stable.now += timedelta(seconds=1)
    stable.run(3)
    assert stable.route is not None
    assert {s.revision for s in stable.route.slots} == {A.hash}
