"""``RolloutAction``: one human decision, immutable, its author enforced by the API server."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from phasegate.api.base import (
    Cel,
    Message,
    Name,
    Notation,
    Person,
    ShortText,
    SpecModel,
    StatusModel,
    list_set,
)
from phasegate.api.cel import immutable

Verb = Literal["Approve", "Reject", "Pause", "Resume", "Rollback", "Retry"]


class RolloutActionSpec(SpecModel):
    """Who decides what about which revision, and why."""

    agent: Name
    """The AgentDeployment, in this namespace."""
    verb: Verb
    revision: Annotated[
        str,
        StringConstraints(max_length=71),
        Notation(
            r"[a-z0-9]{10}|sha256:[a-f0-9]{64}",
            "must be the hash of a revision, 10 characters as the agent's status shows it, "
            "or its sha256 digest",
        ),
    ]
    """Hash or digest of the revision the decision is about: it does not carry over to another."""
    reason: Annotated[
        str,
        StringConstraints(max_length=1024),
        Notation(r"[\s\S]*\S[\s\S]*", "must say why, for those who read the record later"),
    ]
    actor: Person
    """Who decides: the user name with which this object is created."""
    actor_groups: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...],
        Field(max_length=64),
        list_set(),
    ] = ()
    """Groups of the actor, as far as they matter to the decision."""

    cel: ClassVar[tuple[Cel, ...]] = (
        immutable("a decision that was taken is a record; create another RolloutAction"),
    )


class RolloutActionStatus(StatusModel):
    """What became of it."""

    outcome: Literal["Accepted", "Refused"] | None = None
    message: Message = ""
    rollout: ShortText | None = None
    at: AwareDatetime | None = None
