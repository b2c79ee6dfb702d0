"""Records of what happened: transitions and incidents, shared by several kinds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from phasegate.api.base import (
    Digest,
    Hash,
    KeptModel,
    Message,
    Name,
    Person,
    ShortText,
    StatusModel,
)
from phasegate.api.verdicts import CheckSummary

GateDecision = Literal["Started", "Advanced", "RolledBack", "Superseded", "Cancelled", "Stable"]

NoticeKind = Literal["Alert", "EarlyWarning", "LateEvidence"]

RecordList = Literal["gates", "actions", "incidents", "notices"]
"""The lists of an attempt's record; each is a chain of its own."""

ChainHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
"""SHA-256 in hexadecimal digits."""


class Entry(KeptModel):
    """One entry of a list of an attempt's record: appended once, never edited."""

    seq: Annotated[int, Field(ge=1)] | None = None
    """Its number in its list; absent in what was written before records were chained."""
    hash: ChainHash | None = None
    """SHA-256 of the hash of the entry before it and of this one (docs/records.md)."""


class Calls(KeptModel):
    """Calls of users, or copies of them, that were answered in a phase."""

    candidate: int
    stable: int


class GateRecord(Entry):
    """One transition: from which phase to which, on what evidence, by whose decision, when."""

    from_phase: ShortText
    to_phase: ShortText
    decision: GateDecision
    reason: ShortText
    message: Message
    at: AwareDatetime
    evidence_at: AwareDatetime | None = None
    """Scrape time of the newest sample that the decision rests on."""
    by: Person | None = None
    checks: Annotated[tuple[CheckSummary, ...], Field(max_length=64)] = ()
    seconds: Annotated[int, Field(ge=0)] | None = None
    """How long the phase that ends here had its traffic; absent where it never had."""
    calls: Calls | None = None
    """What both revisions had answered in the phase when this was decided."""


class Notice(Entry):
    """What people should know although no traffic was taken back: an alert, a trend, late evidence.

    In an attempt's record its end is an entry of its own, with the same kind, check and since.
    """

    kind: NoticeKind
    check: ShortText
    message: Message
    since: AwareDatetime
    """When it was first said."""
    quiet_since: AwareDatetime | None = None
    """Since when nothing speaks for it any more; after a while it is over."""
    until: AwareDatetime | None = None
    """When it was over; in an attempt's record."""
    acknowledged_by: Person | None = None
    acknowledged_at: AwareDatetime | None = None


class EvidenceLink(KeptModel):
    """What a decision rests on: where it can be read, and the digest of what it said then."""

    url: Annotated[str, StringConstraints(max_length=1024)]
    digest: ShortText | None = None


class ActionRecord(Entry):
    """A person's decision about the attempt that was accepted: the RolloutAction, kept."""

    uid: ShortText
    """Of the RolloutAction: it is recorded once."""
    name: ShortText
    verb: ShortText
    by: Person
    groups: Annotated[tuple[ShortText, ...], Field(max_length=64)] = ()
    """Groups of the actor, as the action names them and admission has proven them."""
    reason: Message
    evidence: Annotated[tuple[EvidenceLink, ...], Field(max_length=16)] = ()
    at: AwareDatetime
    """When the operator took it in."""
    message: Message = ""
    """What it did."""


class Pointer(KeptModel):
    """Where to look for the inputs that failed."""

    selector: Message
    """Series of the candidate that the check reads, as the metrics provider has them."""
    start: AwareDatetime
    end: AwareDatetime


class IncidentRecord(Entry):
    """A rollback in two entries: when it was decided, and when no user was with the revision any more."""

    what: Literal["TakenBack", "Safe"]
    decided_at: AwareDatetime
    revision: Hash | None = None
    digest: Digest | None = None
    to: Hash | None = None
    rollout: Name | None = None
    phase: ShortText | None = None
    trigger: ShortText | None = None
    message: Message | None = None
    by: Person | None = None
    since: AwareDatetime | None = None
    """Onset: since when it was worse, as far as the evidence tells."""
    calls_per_second: ShortText | None = None
    look: Annotated[tuple[Pointer, ...], Field(max_length=8)] = ()
    safe_at: AwareDatetime | None = None
    seconds_to_safe: ShortText | None = None
    affected_calls: Annotated[int, Field(ge=0)] | None = None


class Fold(StatusModel):
    """The oldest entries of a list, folded into one: how many they were, and the hash they ended with."""

    list: RecordList
    entries: Annotated[int, Field(ge=1)]
    hash: ChainHash


class RecordHead(StatusModel):
    """How far an attempt's record was seen written: ``number:hash`` of the newest entry of each list."""

    name: Name
    gates: ShortText | None = None
    actions: ShortText | None = None
    incidents: ShortText | None = None
    notices: ShortText | None = None


class Told(StatusModel):
    """An announcement, as it was made: a crash between the status and its Event loses nothing."""

    type: Literal["Normal", "Warning"]
    reason: ShortText
    message: Message
    at: AwareDatetime
    revision: Hash | None = None
    """The revision that it is about."""
    begins: ShortText | None = None
    """What stands from now on until it is over, as reason/check."""
    ends: Annotated[tuple[ShortText, ...], Field(max_length=64)] = ()
    """What is over with it."""


class RollbackRecord(StatusModel):
    """A rollback: what tripped, with which numbers, and how long users were exposed."""

    revision: Hash
    digest: Digest
    to: Hash
    rollout: Name
    phase: ShortText
    trigger: ShortText
    message: Message
    by: Person | None = None
    since: AwareDatetime | None = None
    decided_at: AwareDatetime
    safe_at: AwareDatetime | None = None
    seconds_to_safe: ShortText | None = None
    acknowledged_by: Person | None = None
    acknowledged_at: AwareDatetime | None = None
    calls_per_second: ShortText | None = None
    """Users' calls that the revision answered per second of its phase; absent while not known."""
    affected_calls: Annotated[int, Field(ge=0)] | None = None
    """Once safe, an estimate: calls per second, times the seconds from `since`, or else from the
    decision, to safety."""
