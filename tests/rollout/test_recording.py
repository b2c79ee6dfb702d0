"""An attempt's record: nothing of it is unsaid by an older look, and it stays small."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from phasegate.api.agentrollout import MAX_KEPT, AgentRolloutStatus, EvidenceCheckpoint, JudgedBy
from phasegate.api.records import GateDecision, GateRecord, Notice
from phasegate.api.verdicts import CheckSummary
from phasegate.rollout.recording import MAX_BYTES, bounded, merged

AT = datetime(2026, 11, 1, tzinfo=UTC)
CHECK = CheckSummary(
    name="c", level="gate", verdict="Pass", reason="Within", message="\N{SNOWMAN}" * 2048
)


def gate(number: int, decision: GateDecision = "Advanced") -> GateRecord:
    return GateRecord(
        from_phase=f"p{number}",
        to_phase=f"p{number + 1}",
        decision=decision,
        reason="Advanced",
        message=f"gate {number}",
        at=AT + timedelta(minutes=number),
    )


def test_what_an_older_look_does_not_know_stays() -> None:
    known = AgentRolloutStatus(started_at=AT, gates=(gate(1), gate(2)))
    late = AgentRolloutStatus(
        phase="RolledBack", message="bad", gates=(gate(1), gate(3, "RolledBack"))
    )
    both = merged(known, late)
    assert both.gates == (gate(1), gate(2), gate(3, "RolledBack"))
    assert (both.phase, both.message, both.started_at) == ("RolledBack", "bad", AT)


def test_a_record_that_has_ended_is_not_opened_again_by_an_older_look() -> None:
    ended = AgentRolloutStatus(
        phase="RolledBack", ended_at=AT, message="bad", gates=(gate(1), gate(2, "RolledBack"))
    )
    assert merged(ended, AgentRolloutStatus(gates=(gate(1),))) == ended


def test_a_notice_that_is_over_stays_over() -> None:
    begun = Notice(kind="Alert", check="c", message="m", since=AT)
    over = begun.model_copy(update={"until": AT})
    other = Notice(kind="Alert", check="d", message="m", since=AT)
    both = merged(AgentRolloutStatus(notices=(over,)), AgentRolloutStatus(notices=(begun, other)))
    assert both.notices == (over, other)


def test_a_record_of_everything_at_its_longest_can_be_stored() -> None:
    gates = tuple(
        gate(n).model_copy(update={"message": "\N{SNOWMAN}" * 2048, "checks": (CHECK,) * 64})
        for n in range(64)
    )
    text = "\N{SNOWMAN}" * MAX_KEPT
    notice = Notice(kind="Alert", check="c", message="\N{SNOWMAN}" * 2048, since=AT)
    full = AgentRolloutStatus(
        gates=gates,
        notices=(notice,) * 64,
        judged_by=JudgedBy(spec=text, prices=text),
        evidence=EvidenceCheckpoint(phase="canary", at=AT, state="x" * MAX_KEPT),
    )
    small = bounded(full)
    size = len(small.model_dump_json(by_alias=True, exclude_none=True).encode())
    assert size <= MAX_BYTES
    assert [g.message for g in small.gates] == [g.message for g in gates]
    kept = bounded(full.model_copy(update={"gates": (gate(1),), "notices": ()}))
    assert kept.evidence == full.evidence
    assert kept.judged_by == JudgedBy(spec=text)
