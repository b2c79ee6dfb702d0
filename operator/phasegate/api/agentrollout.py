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
)
from phasegate.api.cel import immutable
from phasegate.api.records import GateRecord, Notice, RollbackRecord

MAX_KEPT = 131_072
"""Characters of a policy, or of a price table, that are kept."""

RolloutPhase = Literal["Progressing", "Succeeded", "RolledBack", "Superseded", "Cancelled"]


class AgentRolloutSpec(SpecModel):
    """What is tried: immutable."""

    agent: Name
    number: Annotated[int, Field(ge=1)]
    revision: Hash
    digest: Digest
    from_revision: Hash
    from_digest: Digest

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
    """What happened: append-only."""

    phase: RolloutPhase = "Progressing"
    message: Message = ""
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    gates: Annotated[tuple[GateRecord, ...], Field(max_length=64)] = ()
    incident: RollbackRecord | None = None
    notices: Annotated[tuple[Notice, ...], Field(max_length=64)] = ()
    """Alerts and early warnings, the oldest first."""
    judged_by: JudgedBy | None = None
    evidence: EvidenceCheckpoint | None = None
