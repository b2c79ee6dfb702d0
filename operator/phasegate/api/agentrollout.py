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
    evidence: EvidenceCheckpoint | None = None
