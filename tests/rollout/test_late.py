"""Labels that arrive after Stable: back while the previous revision is warm, told afterwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.engine.verdict import Verdict
from phasegate.rollout.late import LATE
from phasegate.rollout.route import only

from tests.rollout.world import World, make_revision

A, B, C = make_revision("a"), make_revision("b"), make_revision("c")


@pytest.fixture
def promoted() -> World:
    """Revision b is stable, a is warm, labels are waited for."""
    world = World()
    world.until("Stable")
    world.edit(B)
    world.run(80)
    assert world.status.stable_revision == B.hash
    world.late = Verdict.INCONCLUSIVE
    world.run(5)
    return world


def condition(world: World, name: str) -> tuple[str, str, str]:
    found = next(c for c in world.status.conditions if c.type == name)
    return found.status, found.reason, found.message


def test_a_proof_takes_the_stable_revision_back_while_the_one_before_is_warm(
    promoted: World,
) -> None:
    before = promoted.route
    promoted.late = Verdict.FAIL
    decision = promoted.step()
    assert decision.route is not None
    assert before is not None
    assert [s.revision for s in decision.route.slots] == [s.revision for s in before.slots]
    assert promoted.share(A.hash) == 100
    assert promoted.status.stable_revision == A.hash
    assert promoted.status.stable_digest == A.digest
    assert promoted.status.phase == "RolledBack"
    promoted.run(30)
    rollback = promoted.status.rollback
    assert rollback is not None
    assert (rollback.revision, rollback.to, rollback.trigger) == (B.hash, A.hash, "error-rate")
    assert rollback.safe_at is not None
    assert condition(promoted, "RolledBack")[:2] == ("True", "LateEvidence")
    assert condition(promoted, "EarlyWarning")[0] == "False"
    assert promoted.stable_service == A.hash
    assert (B.hash, "live") not in promoted.workloads
    assert [a.reason for a in promoted.said].count("RolledBack") == 1


def test_the_attempts_record_says_how_it_ended_after_all(promoted: World) -> None:
    promoted.late = Verdict.FAIL
    promoted.run(3)
    record = promoted.records["bot-1"]
    assert record.phase == "RolledBack"
    assert [g.decision for g in record.gates][-2:] == ["Stable", "RolledBack"]
    assert record.gates[-1].reason == "LateEvidence"
    assert record.incident is not None
    assert record.incident.trigger == "error-rate"


def test_what_was_taken_back_is_not_tried_again_by_itself(promoted: World) -> None:
    promoted.late = Verdict.FAIL
    promoted.step()
    promoted.late = None
    promoted.run(60)
    assert promoted.status.phase == "RolledBack"
    promoted.edit(C)
    promoted.run(80)
    assert promoted.status.stable_revision == C.hash


@pytest.mark.parametrize("survive", range(6))
def test_an_operator_that_dies_in_a_late_rollback_is_continued(
    promoted: World, survive: int
) -> None:
    promoted.late = Verdict.FAIL
    promoted.step(survive)
    if survive > 0:
        promoted.late = None
    promoted.run(5)
    assert promoted.share(A.hash) == 100
    assert promoted.status.stable_revision == A.hash
    assert promoted.records["bot-1"].phase == "RolledBack"


def test_a_spec_that_cannot_be_read_does_not_hold_it_up(promoted: World) -> None:
    promoted.spec_problem = "spec.typo: unknown"
    promoted.late = Verdict.FAIL
    promoted.step()
    assert promoted.share(A.hash) == 100


def test_a_previous_revision_without_ready_pods_gets_nobody(promoted: World) -> None:
    promoted.unready.add(A.hash)
    promoted.step()
    promoted.late = Verdict.FAIL
    promoted.run(3)
    assert promoted.share(B.hash) == 100
    promoted.unready.clear()
    promoted.run(3)
    assert promoted.share(A.hash) == 100


def test_a_previous_revision_with_fewer_pods_than_serve_now_gets_nobody_and_that_is_told(
    promoted: World,
) -> None:
    live = promoted.workloads[A.hash, "live"]
    promoted.workloads[A.hash, "live"] = replace(live, ready=1)
    promoted.late = Verdict.FAIL
    promoted.step()  # its second pod is ready after this pass
    assert promoted.share(B.hash) == 100
    told = next(a.message for a in promoted.said if a.reason == "LateEvidence")
    assert f"users go back to {A.hash} as soon as it can take them: 1 of 2 pods" in told
    promoted.step()
    assert promoted.share(A.hash) == 100


def test_users_go_back_only_to_a_revision_that_has_its_slot(promoted: World) -> None:
    promoted.route = only(B.hash, promoted.route)
    promoted.late, promoted.programmed = Verdict.FAIL, True
    decision = promoted.step()
    assert decision.route is not None
    assert {s.revision for s in decision.route.slots} == {A.hash, B.hash}
    assert promoted.share(B.hash) == 100
    promoted.programmed = False  # the gateway has not seen it yet
    promoted.step()
    assert promoted.share(B.hash) == 100
    promoted.programmed = True
    promoted.step()
    assert promoted.share(A.hash) == 100


def test_a_gateway_that_never_confirms_the_slot_does_not_keep_users_with_a_bad_revision(
    promoted: World,
) -> None:
    promoted.programmed = False
    promoted.run(2)
    promoted.late = Verdict.FAIL
    promoted.step()
    assert promoted.share(B.hash) == 100
    promoted.run(8)
    assert promoted.share(A.hash) == 100


@pytest.mark.parametrize("survive", [1, 2, 6])
def test_deletion_in_the_middle_of_a_late_rollback_does_not_send_users_back(
    promoted: World, survive: int
) -> None:
    promoted.late = Verdict.FAIL
    promoted.step(survive)
    assert promoted.share(A.hash) == 100
    promoted.deleted = promoted.now
    while promoted.route is not None:
        assert promoted.share(A.hash) == 100
        assert promoted.now < promoted.deleted + timedelta(minutes=5)
        promoted.step()
        promoted.now += timedelta(seconds=1)


def test_when_the_previous_revision_is_no_longer_warm_it_is_told_and_nothing_moves(
    promoted: World,
) -> None:
    promoted.now += timedelta(hours=25)
    promoted.run(3)
    promoted.late = Verdict.FAIL
    promoted.run(20)
    assert promoted.share(B.hash) == 100
    assert promoted.status.phase == "Stable"
    assert condition(promoted, "Ready")[0] == "True"
    status, reason, message = condition(promoted, "EarlyWarning")
    assert (status, reason) == ("True", "LateEvidence")
    assert "candidate Fail" in message
    told = [a for a in promoted.said if a.reason == "LateEvidence"]
    assert len(told) == 1
    assert told[0].type == "Warning"
    assert [n.kind for n in promoted.records["bot-1"].notices] == ["LateEvidence"]


def test_a_proof_stays_told_until_something_else_is_rolled_out(promoted: World) -> None:
    promoted.now += timedelta(hours=25)
    promoted.run(3)
    promoted.late = Verdict.FAIL
    promoted.run(3)
    promoted.now += LATE
    promoted.late = None
    promoted.run(3)
    assert condition(promoted, "EarlyWarning")[0] == "True"
    promoted.edit(C)
    promoted.run(3)
    assert condition(promoted, "EarlyWarning")[0] == "False"


def test_a_trend_in_late_labels_is_an_early_warning_and_ends_with_the_waiting(
    promoted: World,
) -> None:
    promoted.warning = "86% vs 92%"
    promoted.run(3)
    assert condition(promoted, "EarlyWarning")[:2] == ("True", "Worsening")
    assert condition(promoted, "Ready")[0] == "True"
    promoted.now += LATE
    promoted.run(2)
    assert condition(promoted, "EarlyWarning")[0] == "False"


def test_while_labels_say_nothing_a_stable_agent_writes_nothing(promoted: World) -> None:
    promoted.run(10)
    before = promoted.status
    decision = promoted.step()
    assert decision.status == before
    assert not decision.rollouts
    assert not decision.announcements


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("late"), st.sampled_from([*Verdict, None])),
        st.tuples(st.just("wait"), st.sampled_from([1, 60, 3600, 50_000])),
        st.tuples(st.just("unready"), st.sampled_from("ab")),
        st.tuples(st.just("ready"), st.sampled_from("ab")),
        st.tuples(st.just("crash"), st.integers(0, 5)),
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_users_move_after_stable_only_by_a_proof_to_pods_that_run(
    events: list[tuple[str, object]],
) -> None:
    world = World()
    world.until("Stable")
    world.edit(B)
    world.run(80)
    for kind, value in events:
        survive = None
        match kind, value:
            case "late", Verdict() | None:
                world.late = value
            case "wait", int():
                world.now += timedelta(seconds=value)
            case "ready", str():
                world.unready.discard(value * 10)
            case "unready", str():
                world.unready.add(value * 10)
            case "crash", int():
                survive = value
        moved = world.share(A.hash)
        seen = world.observe()
        world.step(survive)
        if world.share(A.hash) > moved:
            assert seen.late is not None
            assert seen.late.verdict is Verdict.FAIL
            standby = seen.workload(A.hash, "live")
            serving = seen.workload(B.hash, "live")
            assert standby is not None
            assert serving is not None
            assert standby.ready >= max(1, serving.ready)
    world.unready.clear()
    for _ in range(8):
        world.step()
        world.now += timedelta(seconds=10)
    assert world.share(world.status.stable_revision or "") == 100
