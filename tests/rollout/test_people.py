"""What people may decide, and what it takes: approvals, Promote, Override, Acknowledge."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.api.agentdeployment import Phase
from phasegate.api.people import Approvals, GroupApprovals
from phasegate.api.rolloutaction import Verb
from phasegate.engine.verdict import Verdict
from phasegate.rollout.draft import Draft
from phasegate.rollout.overrides import overridden
from phasegate.rollout.phases import PRESETS, mirrors

from tests.rollout.world import PHASES, START, World, make_revision, make_spec

B = make_revision("b")
LEGAL = GroupApprovals(group="legal")
ASKED = PHASES[3].model_copy(update={"approval": "Required"})
STEPS = (PHASES[2], ASKED, PHASES[4])
"""Users from the first phase on, and an approval before half of them."""


def waiting(**more: Any) -> World:
    """An attempt that waits for approvals of canary-50."""
    world = World(spec=make_spec(STEPS, **more))
    world.until("Stable")
    world.edit(B)
    world.run(20)
    assert "canary-50 needs" in world.status.message
    return world


def answer(
    world: World,
    verb: Verb = "Approve",
    revision: str | None = None,
    *,
    actor: str = "alice",
    **more: object,
) -> str:
    """What an action is told, after its outcome."""
    name = world.act(verb, revision, actor, **more)
    world.step()
    return f"{world.outcomes[name]}: {world.answers[name]}"


# --- approvals -------------------------------------------------------------------------------


def test_a_phase_waits_for_everybody_and_says_who_is_missing() -> None:
    world = waiting(approvals=Approvals(count=3, groups=(LEGAL,)))
    assert "canary-50 needs 3 approvals: 0 of 3; missing: 1 from group legal, 2 more" in (
        world.status.message
    )
    assert answer(world, actor="bob") == (
        "Accepted: canary-50: 1 of 3; missing: 1 from group legal, 1 more"
    )
    answer(world, actor="carol", actor_groups=["legal"])
    world.run(3)
    assert "2 of 3 (bob, carol); missing: 1 more" in world.status.message
    assert world.share(B.hash) == 5
    assert answer(world, actor="dave") == "Accepted: canary-50 is approved"
    world.run(3)
    assert world.share(B.hash) == 50
    gate = next(g for g in world.records["bot-1"].gates if g.to_phase == "canary-50")
    assert gate.by == "bob, carol, dave"


def test_one_person_counts_once_however_often_they_say_so() -> None:
    world = waiting(approvals=Approvals(count=2))
    assert answer(world, actor="bob").startswith("Accepted")
    assert answer(world, actor="bob") == "Accepted: canary-50 was already approved by bob"
    world.run(20)
    assert world.share(B.hash) == 5
    answer(world, actor="carol")
    world.run(3)
    assert world.share(B.hash) == 50


def test_a_group_that_the_action_does_not_name_is_not_counted() -> None:
    world = waiting(approvals=Approvals(groups=(LEGAL,)))
    told = answer(world, actor="bob")
    assert told.startswith("Refused: ")
    assert "missing: 1 from group legal; an approval counts for a group only if" in told
    assert answer(world, actor="bob", actor_groups=["legal"]) == "Accepted: canary-50 is approved"


def test_who_approved_without_a_group_may_name_it_later() -> None:
    world = waiting(approvals=Approvals(count=2, groups=(LEGAL,)))
    answer(world, actor="bob")
    answer(world, actor="bob", actor_groups=["legal"])
    assert answer(world, actor="carol") == "Accepted: canary-50 is approved"


def test_the_phase_may_say_otherwise_than_the_agent() -> None:
    strict = ASKED.model_copy(update={"approvals": Approvals(count=2)})
    world = World(spec=make_spec((PHASES[2], strict, PHASES[4]), approvals=Approvals()))
    world.until("Stable")
    world.edit(B)
    world.run(20)
    assert "needs 2 approvals" in world.status.message


def test_an_approval_of_one_person_from_the_version_before_still_counts() -> None:
    world = waiting(exposure="CustomerFacing")
    progress = world.status.progress
    assert progress is not None
    given = {"approved_by": "bob", "approved_phase": "canary-50", "approved_type": "Canary"}
    old = progress.model_copy(update={**given, "approved_weight": 50})
    world.status = world.status.model_copy(update={"progress": old})
    world.run(3)
    assert world.share(B.hash) == 50


# --- author and approver ---------------------------------------------------------------------


def test_who_wrote_a_revision_for_customers_does_not_approve_it() -> None:
    world = waiting(exposure="CustomerFacing", author="alice")
    assert "needs an approval, not alice, who wrote the revision: create" in world.status.message
    told = answer(world, actor="alice")
    assert told.startswith(
        "Refused: you wrote this revision: canary-50 must be approved by somebody"
    )
    assert answer(world, actor="bob") == "Accepted: canary-50 is approved"


def test_who_wrote_a_revision_stays_its_author_whatever_the_spec_says_later() -> None:
    world = waiting(exposure="CustomerFacing", author="alice")
    world.spec = world.spec.model_copy(update={"author": "bob"})
    assert answer(world, actor="alice").startswith("Refused: you wrote this revision")
    assert world.records["bot-1"].gates[0].by == "alice"
    answer(world, actor="bob")
    world.run(3)
    assert world.share(B.hash) == 50


def test_an_internal_agent_may_be_approved_by_its_author_unless_it_says_otherwise() -> None:
    world = waiting(author="alice")
    assert answer(world, actor="alice") == "Accepted: canary-50 is approved"
    world = waiting(author="alice", approvals=Approvals(author="MayNot"))
    assert answer(world, actor="alice").startswith("Refused: you wrote")


def test_where_nobody_says_who_wrote_it_one_more_person_has_to_agree() -> None:
    """Of two people, one is not the author, whoever that is."""
    world = waiting(exposure="CustomerFacing")
    assert "canary-50 needs 2 approvals: 0 of 2; missing: 2 more; one more than else" in (
        world.status.message
    )
    assert answer(world, actor="alice").startswith("Accepted: canary-50: 1 of 2")
    world.run(10)
    assert world.share(B.hash) == 5
    assert answer(world, actor="bob") == "Accepted: canary-50 is approved"


def test_a_rule_that_needs_the_author_says_what_to_write_and_takes_it_when_written() -> None:
    world = waiting(approvals=Approvals(author="MayNot"))
    told = answer(world, actor="bob")
    assert told.startswith(
        "Refused: canary-50 must be approved by somebody else; write spec.author"
    )
    assert "write spec.author" in world.status.message
    world.spec = world.spec.model_copy(update={"author": "alice"})
    assert answer(world, actor="alice").startswith("Refused: you wrote")
    assert answer(world, actor="bob") == "Accepted: canary-50 is approved"


def test_what_comes_from_config_maps_has_no_known_author() -> None:
    world = World(spec=make_spec(STEPS, exposure="CustomerFacing", author="alice"))
    world.until("Stable")
    shared = make_revision("b")
    world.edit(type(shared)(shared.hash, shared.digest, {"configMaps": {"prompts": {"data": {}}}}))
    world.run(20)
    assert "0 of 2" in world.status.message
    assert "ConfigMaps, which name no author" in world.status.message


@pytest.mark.parametrize("preset", ["Phased", "BlueGreen", "Canary", "ManualApproval"])
def test_no_preset_gives_users_without_a_persons_word(preset: str) -> None:
    phases: tuple[Phase, ...] = next(p for name, p in PRESETS.items() if name == preset)
    first = next(phase for phase in phases if not mirrors(phase))
    assert first.approval == "Required"


# --- phases ----------------------------------------------------------------------------------


def test_a_decision_about_a_phase_expires_with_it() -> None:
    world = waiting()
    told = answer(world, "Approve", phase="canary-5")
    assert told == (
        "Expired: this is about canary-5, which has begun or is over: canary-50 it is now"
    )
    assert answer(world, "Approve", phase="full").startswith("Refused: this is about full, but")
    assert answer(world, "Approve", phase="canary-50").startswith("Accepted")
    world.run(2)
    assert answer(world, "Pause", phase="canary-5").startswith("Expired")
    assert answer(world, "Pause", phase="canary-50").startswith("Accepted")


# --- Promote ---------------------------------------------------------------------------------


def test_promote_takes_the_next_step_where_only_a_word_is_missing() -> None:
    world = waiting()
    assert answer(world, "Promote", actor="bob") == "Accepted: canary-50 is approved"
    world.run(2)
    assert world.share(B.hash) == 50


def test_promote_counts_as_one_approval_and_never_as_more() -> None:
    world = waiting(approvals=Approvals(count=2), author="alice")
    assert answer(world, "Promote", actor="bob") == "Accepted: canary-50: 1 of 2; missing: 1 more"
    assert answer(world, "Promote", actor="bob").startswith("Accepted: canary-50 was already")
    world.run(20)
    assert world.share(B.hash) == 5


def test_promote_does_not_make_an_approver_of_the_author() -> None:
    world = waiting(exposure="CustomerFacing", author="alice")
    assert answer(world, "Promote", actor="alice").startswith("Refused: you wrote this revision")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": Verdict.INCONCLUSIVE}, "candidate Inconclusive"),
        ({"verdict": None}, "no evidence yet"),
        ({"programmed": False}, "waiting for the gateway"),
    ],
)
def test_promote_shortens_no_phase(change: dict[str, object], words: str) -> None:
    world = waiting()
    for name, value in change.items():
        setattr(world, name, value)
    told = answer(world, "Promote")
    assert told.startswith("Refused: no phase is shortened: canary-5")
    assert words in told
    assert world.share(B.hash) == 5


def test_promote_waits_for_the_minimum_duration_like_everything_else() -> None:
    world = World(spec=make_spec(STEPS))
    world.until("Stable")
    world.edit(B)
    world.until("Canary")
    world.step()
    assert "to go" in answer(world, "Promote")


def test_promote_goes_past_no_pause() -> None:
    world = waiting()
    answer(world, "Pause")
    assert answer(world, "Promote") == ("Refused: no phase is shortened: paused by alice: because")


# --- Override --------------------------------------------------------------------------------


def going_past(world: World) -> bool:
    draft = Draft(world.observe(), world.now, world.settings, world.status)
    return overridden(draft, "Calendar") is not None


def test_an_override_is_for_its_phase_and_no_other() -> None:
    world = waiting()
    assert not going_past(world)
    reason = "the fix cannot wait until Monday"
    told = answer(world, "Override", overrides=["Calendar"], reason=reason)
    assert told.startswith("Accepted: Calendar overridden for canary-5")
    assert going_past(world)
    (kept,) = world.status.overrides
    assert (kept.by, kept.reason, kept.phase) == ("alice", reason, "canary-5")
    answer(world, "Approve")
    world.run(3)
    assert world.share(B.hash) == 50
    assert not going_past(world)


def test_an_override_of_the_start_is_for_that_start_only() -> None:
    world = World(spec=make_spec(STEPS), pods_start=True)
    world.until("Stable")
    assert answer(world, "Override", overrides=["Calendar"]).startswith("Refused: no rollout is")
    world.policy = type(world.policy)(None, problem="missing")  # nothing starts
    world.edit(B)
    assert "for the start" in answer(world, "Override", B.hash, overrides=["Calendar"])
    assert going_past(world)
    world.policy = type(world.policy)(None)
    world.run(2)
    assert world.status.progress is not None
    assert not going_past(world)
    world.act("Rollback")
    world.run(2)
    assert not going_past(world)


# --- Acknowledge -----------------------------------------------------------------------------


def test_an_acknowledged_notice_names_who_has_seen_it_and_changes_nothing_else() -> None:
    world = waiting()
    world.warning = "it gets worse"
    world.step()
    before = world.status.phase, world.status.message
    assert answer(world, "Acknowledge", about="error-rate") == (
        "Accepted: error-rate is acknowledged"
    )
    world.run(3)
    (notice,) = world.status.notices
    assert (notice.acknowledged_by, notice.acknowledged_at is not None) == ("alice", True)
    assert (world.status.phase, world.status.message) == before
    assert answer(world, "Acknowledge", actor="bob", about="error-rate") == (
        "Accepted: alice has acknowledged it already"
    )
    told = answer(world, "Acknowledge", about="latency-p95")
    assert told == "Expired: nothing is said of latency-p95 now, but of error-rate"


def test_an_acknowledged_incident_names_who_has_seen_it() -> None:
    world = waiting()
    assert answer(world, "Acknowledge").startswith("Expired: there is no incident")
    world.verdict = Verdict.FAIL
    world.run(3)
    assert answer(world, "Acknowledge", B.hash, actor="bob").startswith("Accepted: the rollback of")
    world.run(3)
    assert world.status.rollback is not None
    assert world.status.rollback.acknowledged_by == "bob"
    assert world.status.rollback.acknowledged_at is not None
    assert world.status.rollback.acknowledged_at > START
