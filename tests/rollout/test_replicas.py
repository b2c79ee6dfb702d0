"""How many pods: whoever writes ``spec.replicas``, an autoscaler included, is obeyed and endangers nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from phasegate.engine.verdict import Verdict

from tests.rollout.world import PHASES, World, make_revision, make_spec

A, B = make_revision("a"), make_revision("b")


@pytest.fixture
def canary() -> World:
    """Four pods of revision a; b has half of the users."""
    world = World(spec=make_spec((PHASES[3], PHASES[4]), replicas=4))
    world.until("Stable")
    world.edit(B)
    world.until("Canary")
    world.verdict = Verdict.INCONCLUSIVE
    world.run(3)
    assert (world.share(B.hash), pods(world, A.hash), pods(world, B.hash)) == (50, 4, 2)
    return world


def scale(world: World, replicas: int) -> None:
    """What an autoscaler does: the number, and nothing else."""
    world.spec = world.spec.model_copy(update={"replicas": replicas})
    world.generation += 1


def pods(world: World, revision: str) -> int:
    workload = world.workloads.get((revision, "live"))
    return workload.desired if workload is not None else 0


def test_a_scale_down_during_an_attempt_leaves_stable_room_for_all_users(canary: World) -> None:
    scale(canary, 1)
    canary.run(10)
    assert (pods(canary, A.hash), pods(canary, B.hash)) == (4, 2)
    canary.verdict = Verdict.PASS
    canary.until("Full")
    canary.verdict = Verdict.INCONCLUSIVE
    canary.run(5)
    assert canary.share(B.hash) == 100
    assert (pods(canary, A.hash), pods(canary, B.hash)) == (4, 4)


def test_a_scale_up_during_an_attempt_reaches_both_in_proportion(canary: World) -> None:
    scale(canary, 10)
    canary.run(5)
    assert (pods(canary, A.hash), pods(canary, B.hash)) == (10, 5)
    scale(canary, 6)
    canary.run(5)
    assert (pods(canary, A.hash), pods(canary, B.hash)) == (6, 3)


def test_the_floor_outlasts_a_rollback_by_what_is_in_flight_and_no_longer(canary: World) -> None:
    scale(canary, 1)
    canary.verdict = Verdict.FAIL
    canary.step()
    assert (canary.share(A.hash), pods(canary, A.hash)) == (100, 4)
    canary.run(2, canary.settings.linger / 4)
    assert pods(canary, A.hash) == 4
    canary.run(5, canary.settings.linger)
    assert pods(canary, A.hash) == 1


def test_the_number_counts_from_success_on(canary: World) -> None:
    scale(canary, 3)
    canary.verdict = Verdict.PASS
    canary.run(30)
    assert canary.status.stable_revision == B.hash
    assert pods(canary, B.hash) == 3


@pytest.mark.parametrize("replicas", [0, 1, 9])
def test_scaling_never_undoes_a_rollback(canary: World, replicas: int) -> None:
    canary.verdict = Verdict.FAIL
    canary.step()
    canary.verdict = Verdict.PASS
    scale(canary, replicas)
    canary.run(60)
    assert canary.share(B.hash) == 0
    assert canary.status.phase == "RolledBack"
    assert canary.status.rollouts == 1


def test_the_revision_that_is_kept_warm_is_in_a_slot_and_at_full_size(canary: World) -> None:
    canary.verdict = Verdict.PASS
    canary.run(30)
    assert canary.status.previous_revision == A.hash
    scale(canary, 7)
    canary.run(30, timedelta(minutes=5))
    assert canary.route is not None
    assert {slot.revision for slot in canary.route.slots} == {A.hash, B.hash}
    assert (pods(canary, A.hash), pods(canary, B.hash)) == (7, 7)


def test_autoscalers_are_told_of_the_pods_that_users_reach(canary: World) -> None:
    assert canary.status.selector == "phasegate.dev/agent=bot,phasegate.dev/mode=live"
    assert canary.status.replicas == 4


def test_an_attempt_of_an_older_operator_goes_on_with_the_number_of_the_spec(canary: World) -> None:
    canary.status = canary.status.model_copy(update={"base_replicas": None})
    scale(canary, 6)
    canary.run(5)
    assert (pods(canary, A.hash), pods(canary, B.hash)) == (6, 3)


def test_traffic_goes_back_to_a_stable_revision_that_is_not_ready(canary: World) -> None:
    canary.unready.add(A.hash)
    canary.step()
    canary.verdict = Verdict.FAIL
    canary.step()
    assert (canary.share(A.hash), canary.share(B.hash)) == (100, 0)


def test_attempts_in_a_row_do_not_pass_the_floor_on(canary: World) -> None:
    scale(canary, 1)
    for letter in "cde":
        canary.edit(make_revision(letter))
        canary.run(2, canary.settings.poll)
        assert canary.status.candidate_revision == letter * 10
        assert pods(canary, A.hash) == 4  # requests of the first attempt are in flight
    canary.run(8)
    assert canary.status.progress is not None
    assert pods(canary, A.hash) == 1
    assert canary.status.base_replicas_until is None


def test_the_floor_goes_although_the_candidate_was_stripped_from_the_status(canary: World) -> None:
    scale(canary, 1)
    canary.verdict = Verdict.FAIL
    canary.step()
    canary.status = canary.status.model_copy(
        update={"candidate_revision": None, "candidate_digest": None}
    )
    canary.run(20)
    assert canary.status.base_replicas is None
    assert pods(canary, A.hash) == 1
