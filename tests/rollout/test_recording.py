"""An attempt's record: nothing of it is unsaid by an older look, and it stays small."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from phasegate.api.agentrollout import MAX_KEPT, AgentRolloutStatus, EvidenceCheckpoint, JudgedBy
from phasegate.api.records import (
    ActionRecord,
    EvidenceLink,
    GateDecision,
    GateRecord,
    Notice,
)
from phasegate.api.verdicts import CheckSummary
from phasegate.rollout import notices as standing
from phasegate.rollout.chain import KEPT, Origin, furthest, head_of
from phasegate.rollout.recording import MAX_BYTES, MOST, ROOM, added, bounded, key_of, merged
from phasegate.rollout.verifying import Evidence, verify_record

AT = datetime(2026, 11, 1, tzinfo=UTC)
SNOW = "\N{SNOWMAN}" * 2048
CHECK = CheckSummary(name="c", level="gate", verdict="Pass", reason="Within", message=SNOW)
ORIGIN = Origin("team", "bot-1", {"agent": "bot", "number": 1, "chain": "sha256-1"})


def gate(number: int, decision: GateDecision = "Advanced") -> GateRecord:
    return GateRecord(
        from_phase=f"p{number}",
        to_phase=f"p{number + 1}",
        decision=decision,
        reason="Advanced",
        message=f"gate {number}",
        at=AT + timedelta(minutes=number),
    )


def alert(number: int, message: str = "2% is above 1%") -> Notice:
    return Notice(
        kind="Alert", check=f"c{number}", message=message, since=AT + timedelta(0, number)
    )


def action(number: int, reason: str = "because") -> ActionRecord:
    at = AT + timedelta(0, number)
    return ActionRecord(uid=f"u{number}", name="a", verb="Pause", by="alice", reason=reason, at=at)


def recorded(known: AgentRolloutStatus, wanted: AgentRolloutStatus) -> AgentRolloutStatus:
    return merged(known, wanted, ORIGIN)


def problems(status: AgentRolloutStatus) -> list[str]:
    record = {
        "metadata": {"namespace": ORIGIN.namespace, "name": ORIGIN.name},
        "spec": ORIGIN.spec,
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return verify_record(record, Evidence()).altered


def size(status: AgentRolloutStatus) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def test_what_an_older_look_does_not_know_stays() -> None:
    known = recorded(AgentRolloutStatus(), AgentRolloutStatus(gates=(gate(1), gate(2))))
    late = added(
        AgentRolloutStatus(gates=known.gates[:1]), {"gates": [gate(3, "RolledBack")], "actions": []}
    )
    both = recorded(known, late)
    assert both.gates[:2] == known.gates
    assert [key_of(g) for g in both.gates] == [
        key_of(g) for g in (gate(1), gate(2), gate(3, "RolledBack"))
    ]
    assert (both.phase, both.message, both.started_at) == ("RolledBack", "gate 3", gate(1).at)
    assert problems(both) == []


def test_a_record_that_has_ended_is_not_opened_again_by_an_older_look() -> None:
    ended = recorded(
        AgentRolloutStatus(), AgentRolloutStatus(gates=(gate(1), gate(2, "RolledBack")))
    )
    assert ended.phase == "RolledBack"
    assert recorded(ended, AgentRolloutStatus(gates=(gate(1),))) == ended


def test_the_same_thing_is_recorded_once_however_often_it_is_told() -> None:
    news = AgentRolloutStatus(gates=(gate(1),), actions=(action(1),), notices=(alert(1),))
    once = recorded(AgentRolloutStatus(), news)
    again = news.model_copy(update={"actions": (action(1, "told again"),)})
    assert recorded(recorded(once, again), once) == once


def test_the_end_of_a_notice_is_an_entry_of_its_own() -> None:
    begun = recorded(AgentRolloutStatus(gates=(gate(1),)), AgentRolloutStatus(notices=(alert(1),)))
    over = alert(1).model_copy(update={"until": AT + timedelta(1)})
    both = recorded(begun, AgentRolloutStatus(notices=(alert(1), over)))
    assert both.notices[0] == begun.notices[0]
    assert [(n.seq, n.until is not None) for n in both.notices] == [(1, False), (2, True)]


def test_a_record_of_an_earlier_version_goes_on_and_is_proven_from_then_on() -> None:
    before = AgentRolloutStatus(gates=(gate(1), gate(2)), started_at=AT)
    after = recorded(before, AgentRolloutStatus(gates=(gate(1), gate(2), gate(3))))
    assert after.gates[:2] == before.gates
    assert [g.seq for g in after.gates] == [None, None, 1]
    old = ORIGIN._replace(spec={"agent": "bot", "number": 1})
    after = merged(before, AgentRolloutStatus(gates=(gate(3),)), old)
    stored = after.model_dump(mode="json", by_alias=True, exclude_none=True)
    record = {"metadata": {"namespace": "team", "name": "bot-1"}, "spec": old.spec}
    report = verify_record({**record, "status": stored}, Evidence())
    assert report.altered == []
    assert "not proven before" in report.notes[0]
    stored["gates"][0]["message"] = "something else"
    assert verify_record({**record, "status": stored}, Evidence()).altered != []


def test_alerts_that_come_and_go_for_ever_are_folded_and_the_rest_still_verifies() -> None:
    status = recorded(AgentRolloutStatus(), AgentRolloutStatus(gates=(gate(0, "Started"),)))
    for n in range(300):
        status = recorded(status, AgentRolloutStatus(notices=(alert(n),)))
    assert len(status.notices) == MOST
    assert [(f.list, f.entries) for f in status.folded] == [("notices", 300 - MOST)]
    assert problems(status) == []
    assert recorded(status, AgentRolloutStatus(notices=(alert(3),))) == status  # it does not return


def test_fourteen_days_of_many_phases_and_restless_alerts_keep_every_number_of_every_gate() -> None:
    check = CHECK.model_copy(update={"message": "candidate 1.2% (24/2000), limit 5%" * 4})
    status = AgentRolloutStatus()
    for n in range(26):
        gates = (gate(n * 600).model_copy(update={"checks": (check,) * 20}),)
        status = recorded(status, AgentRolloutStatus(gates=gates))
        for m in range(20):
            began = alert(n * 100 + m)
            over = began.model_copy(update={"until": began.since + timedelta(minutes=2)})
            status = recorded(status, AgentRolloutStatus(notices=(began, over)))
        status = recorded(status, AgentRolloutStatus(actions=(action(n), action(n + 100))))
    assert size(status) <= 256 * 1024
    assert all(len(g.checks) == 20 for g in status.gates)
    assert len(status.actions) == 52
    assert problems(status) == []


def test_a_list_cannot_be_said_to_be_folded_where_nothing_had_to_be() -> None:
    status = recorded(
        AgentRolloutStatus(), AgentRolloutStatus(gates=tuple(gate(n) for n in range(4)))
    )
    stored = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    fold = {"list": "gates", "entries": 1, "hash": stored["gates"][0]["hash"]}
    forged = stored | {"gates": stored["gates"][1:], "folded": [fold]}
    assert problems(AgentRolloutStatus.model_validate(forged)) != []


def test_gates_cannot_be_said_to_be_folded_before_there_are_very_many() -> None:
    status = AgentRolloutStatus()
    for n in range(MOST + 3):
        status = recorded(status, AgentRolloutStatus(gates=(gate(n),)))
    assert [(f.list, f.entries) for f in status.folded] == [("gates", 3)]
    assert problems(status) == []
    stored = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    fold = {"list": "gates", "entries": 13, "hash": stored["gates"][9]["hash"]}
    forged = stored | {"gates": stored["gates"][10:], "folded": [fold]}
    assert problems(AgentRolloutStatus.model_validate(forged)) != []


def test_what_began_together_and_is_folded_by_now_is_not_told_again_while_it_stands() -> None:
    together = tuple(alert(0).model_copy(update={"check": f"x{n}"}) for n in range(30))
    status = recorded(AgentRolloutStatus(), AgentRolloutStatus(gates=(gate(0),)))
    for n in range(MOST):
        now = AT + timedelta(minutes=n)
        other = alert(n * 60 + 1).model_copy(update={"check": "other"})
        news = standing.recorded(status.notices, (*together, other), now)
        status = recorded(status, added(status, {"notices": news}))
    assert status.notices[-1].seq == 30 + 2 * MOST - 1  # the other one's begins and ends


def test_a_cut_end_stays_known_however_much_is_written_after_it() -> None:
    status = recorded(AgentRolloutStatus(), AgentRolloutStatus(gates=tuple(map(gate, range(4)))))
    head = furthest(None, "bot-1", status)
    assert head == head_of("bot-1", status)
    longer = recorded(status, AgentRolloutStatus(gates=(gate(9),)))
    assert furthest(head, "bot-1", longer) == head_of("bot-1", longer)
    assert furthest(head_of("bot-1", longer), "bot-1", status) == head_of("bot-1", longer)
    cut = status.model_copy(update={"gates": status.gates[:2]})
    for n in range(4, 9):
        cut = recorded(cut, AgentRolloutStatus(gates=(gate(n),)))
        assert furthest(head, "bot-1", cut) == head


def test_a_head_whose_entry_is_folded_by_now_goes_on() -> None:
    status = recorded(AgentRolloutStatus(), AgentRolloutStatus(notices=(alert(0),)))
    head = head_of("bot-1", status)
    for n in range(1, MOST + 9):
        status = recorded(status, AgentRolloutStatus(notices=(alert(n),)))
    assert furthest(head, "bot-1", status) == head_of("bot-1", status)


def test_links_of_many_decisions_do_not_keep_the_next_from_being_stored() -> None:
    links = (EvidenceLink(url="\N{SNOWMAN}" * 1024, digest="d" * 71),) * 16
    status = recorded(AgentRolloutStatus(), AgentRolloutStatus(gates=(gate(0),)))
    for n in range(2 * KEPT):
        new = action(n, SNOW).model_copy(update={"evidence": links, "message": SNOW})
        status = recorded(status, AgentRolloutStatus(actions=(new,)))
        assert status.actions[-1].uid == new.uid
        assert size(status) <= 2 * ROOM
    assert problems(status) == []


def test_a_record_of_everything_at_its_longest_can_be_stored() -> None:
    status = AgentRolloutStatus()
    for n in range(MOST):
        wide = gate(n).model_copy(update={"message": SNOW, "checks": (CHECK,) * 8})
        news = AgentRolloutStatus(
            gates=(wide,), notices=(alert(n, SNOW),), actions=(action(n, SNOW),)
        )
        status = recorded(status, news)
        assert size(status) <= 2 * ROOM
    assert len(status.gates) == MOST  # what was decided is never folded for want of room
    assert len(status.notices) >= KEPT
    assert problems(status) == []
    text = "\N{SNOWMAN}" * MAX_KEPT
    full = status.model_copy(
        update={
            "judged_by": JudgedBy(spec=text, prices=text),
            "evidence": EvidenceCheckpoint(phase="canary", at=AT, state="x" * MAX_KEPT),
        }
    )
    small = bounded(full)
    assert size(small) <= MAX_BYTES
    assert small.gates == full.gates
    kept = bounded(full.model_copy(update={"gates": (), "notices": (), "actions": ()}))
    assert kept.evidence == full.evidence
    assert kept.judged_by == JudgedBy(spec=text)
