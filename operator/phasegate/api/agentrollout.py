"""``AgentRollout``: one attempt to take one revision through the phases; the operator writes it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from phasegate.api.base import (
    Cel,
    Digest,
    Hash,
    Message,
    Name,
    ShortText,
    SpecModel,
    StatusModel,
    list_map,
)
from phasegate.api.cel import immutable
from phasegate.api.records import (
    ActionRecord,
    Fold,
    GateRecord,
    IncidentRecord,
    Notice,
    RecordHead,
    RollbackRecord,
)

MAX_KEPT = 131_072
"""Characters of a policy, or of a price table, that are kept."""

RolloutPhase = Literal["Progressing", "Succeeded", "RolledBack", "Superseded", "Cancelled"]


class AgentRolloutSpec(SpecModel):
    """What is tried: immutable. Every chain of the record starts from it: it has no defaults."""

    agent: Name
    number: Annotated[int, Field(ge=1)]
    revision: Hash
    digest: Digest
    from_revision: Hash
    from_digest: Digest
    chain: Literal["sha256-1"] | None = None
    """How the entries of this record are chained; absent in records from before that."""
    previous: RecordHead | None = None
    """How far the record of the attempt before was written when this one began."""

    cel: ClassVar[tuple[Cel, ...]] = (
        immutable("an attempt is a record; a new attempt is a new AgentRollout"),
    )


class EvidenceCheckpoint(StatusModel):
    """The evidence engine's state at one sample time, so that a new leader need not start over."""

    phase: ShortText
    at: AwareDatetime
    state: Annotated[str, StringConstraints(max_length=131_072)]


class JudgedBy(StatusModel):
    """The policy of an attempt as it could last be read, so that its loss does not end the judgement."""

    spec: Annotated[str, StringConstraints(max_length=MAX_KEPT)]
    """The RollbackPolicy's spec, as JSON."""
    prices: Annotated[str, StringConstraints(max_length=MAX_KEPT)] | None = None
    """The price table, as JSON: model, type of tokens, US dollars for a million, valid from."""


class AgentRolloutStatus(StatusModel):
    """What happened: append-only. Each list is a chain; what is not a list follows from them."""

    phase: RolloutPhase = "Progressing"
    message: Message = ""
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    gates: Annotated[tuple[GateRecord, ...], Field(max_length=128)] = ()
    actions: Annotated[tuple[ActionRecord, ...], Field(max_length=128)] = ()
    """Decisions of people that were accepted, overrides among them."""
    incidents: Annotated[tuple[IncidentRecord, ...], Field(max_length=128)] = ()
    incident: RollbackRecord | None = None
    """The newest of `incidents`, in one piece."""
    notices: Annotated[tuple[Notice, ...], Field(max_length=128)] = ()
    """Alerts and early warnings, the oldest first: that they began, and that they were over."""
    folded: Annotated[tuple[Fold, ...], Field(max_length=4), list_map("list")] = ()
    """What was too much to keep, a list each."""
    judged_by: JudgedBy | None = None
    evidence: EvidenceCheckpoint | None = None
