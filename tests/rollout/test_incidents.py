"""A rollback's record tells whom it touched, and where to look for what failed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from phasegate.api.records import IncidentRecord
from phasegate.engine.verdict import Verdict
from phasegate.rollout.chain import stored
from phasegate.rollout.incidents import incidents
from phasegate.rollout.route import Mode

from tests.rollout.world import World, make_revision

B = make_revision("b")


def taken_back(phase: str) -> tuple[World, tuple[IncidentRecord, ...]]:
    """Twenty seconds into a phase it fails; it is safe two seconds after the decision."""
    world = World()
    world.until("Stable")
    world.edit(B)
    world.verdict = None
    world.until("Dark")
    while world.status.progress is None or world.status.progress.phase.type != phase:
        world.verdict = Verdict.PASS
        world.step()
        world.now += timedelta(seconds=2)
    progress = world.status.progress
    world.verdict = Verdict.INCONCLUSIVE
    while world.now < progress.entered_at + timedelta(seconds=20):
        world.step()
        world.now += timedelta(seconds=1)
    world.verdict, world.programmed, world.calls = Verdict.FAIL, False, 400
    world.step()
    world.now += timedelta(seconds=2)
    world.programmed = True
    world.run(4, timedelta(seconds=1))
    return world, world.records["bot-1"].incidents


def test_affected_calls_are_those_of_the_phase_from_the_onset_to_safety() -> None:
    world, (taken, safe) = taken_back("Canary")
    assert taken.calls_per_second == "20"  # 400 calls in 20 s
    assert taken.since is None  # so they are counted from the decision
    assert (safe.seconds_to_safe, safe.affected_calls) == ("2.00", 40)
    gate = world.records["bot-1"].gates[-1]
    assert gate.calls is not None
    assert (gate.calls.candidate, gate.calls.stable) == (400, 100)
    assert gate.seconds is not None
    assert 15 <= gate.seconds <= 20


@pytest.mark.parametrize("phase", ["Dark", "Shadow"])
def test_nobody_is_affected_by_copies(phase: str) -> None:
    _, (taken, safe) = taken_back(phase)
    assert (taken.calls_per_second, safe.affected_calls) == ("0", 0)


def test_the_incident_in_one_piece_is_the_statuss_own() -> None:
    world, _ = taken_back("Canary")
    assert world.records["bot-1"].incident == world.status.rollback


def test_the_record_names_the_series_that_tripped_and_when() -> None:
    _, (taken, _) = taken_back("Canary")
    assert len(taken.look) == 2
    assert 'outcome="error"' in "".join(look.selector for look in taken.look)
    for look in taken.look:
        assert look.selector.startswith("agent_requests_total{")
        assert 'revision="bbbbbbbbbb"' in look.selector
        assert 'namespace="team"' in look.selector
        assert look.start < look.end == taken.decided_at


def test_what_a_person_took_back_says_who_and_has_no_series() -> None:
    world = World()
    world.until("Stable")
    world.edit(B)
    world.until("Canary")
    world.act("Rollback", actor="alice")
    world.until("RolledBack")
    world.run(3)
    taken, safe = world.records["bot-1"].incidents
    assert (taken.by, taken.trigger, taken.look) == ("alice", "Rollback", ())
    assert safe.affected_calls is not None
    assert [act.verb for act in world.records["bot-1"].actions] == ["Rollback"]


def test_an_incident_that_was_acknowledged_before_it_was_recorded_can_be_stored_whole() -> None:
    """The API server drops what an entry does not have, and a hash of it would not fit."""
    world, _ = taken_back("Canary")
    rollback = world.status.rollback
    assert rollback is not None
    seen = rollback.model_copy(
        update={"acknowledged_by": "alice", "acknowledged_at": rollback.decided_at}
    )
    known = {field.alias for field in IncidentRecord.model_fields.values()}
    for entry in incidents(world.observe(), seen):
        assert set(stored(entry)) <= known


def test_modes_of_a_selector_are_all_there_are() -> None:
    _, (taken, _) = taken_back("Canary")
    modes: tuple[Mode, ...] = ("live", "dark", "shadow")
    assert f'mode=~"{"|".join(modes)}"' in taken.look[0].selector
