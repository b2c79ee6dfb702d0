"""People: who has to agree to what, and what is kept of what they decided."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from phasegate.api.base import (
    Cel,
    Digest,
    Message,
    Name,
    Notation,
    Person,
    ShortText,
    SpecModel,
    StatusModel,
    list_map,
)

Group = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""A group, as the API server knows it."""
Overridable = Literal["Calendar"]
"""What a person may go past, with a reason."""


class Evidence(SpecModel):
    """What a decision rests on: where it can be read, and what it said then."""

    url: Annotated[
        str,
        StringConstraints(max_length=1024),
        Notation(r"https?://[^\s]+", "must be an address that starts with https:// or http://"),
    ]
    digest: Digest | None = None
    """Of what was found there."""


class GroupApprovals(SpecModel):
    """How many members of a group have to agree."""

    group: Group
    count: Annotated[int, Field(ge=1, le=10)] = 1


class Approvals(SpecModel):
    """Who has to agree before a phase that needs an approval begins."""

    count: Annotated[int, Field(ge=1, le=10)] = 1
    """People in all; at least as many as the groups need together."""
    groups: Annotated[tuple[GroupApprovals, ...], Field(max_length=10), list_map("group")] = ()
    """Of them, from these groups. Nobody stands for two groups."""
    author: Literal["MayApprove", "MayNot"] | None = None
    """Whether who wrote the revision may agree to it; if left out MayNot for a CustomerFacing agent,
    MayApprove for an Internal one."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!has(self.groups) || self.groups.map(g, g.count).sum() <= 10",
            "ask for 10 approvals at most",
            ".groups",
        ),
    )


class Approval(StatusModel):
    """One person's agreement to one phase."""

    by: Person
    groups: Annotated[tuple[Group, ...], Field(max_length=64)] = ()
    """Groups of theirs, as far as the approval names them."""
    at: AwareDatetime


class Override(StatusModel):
    """One person's word to go past something that holds, for one phase of one attempt."""

    what: Overridable
    by: Person
    reason: Message
    at: AwareDatetime
    rollout: ShortText | None = None
    """The attempt, or the one before if it is for a start."""
    phase: Name | None = None
    """None: for the start of an attempt."""
    revision: ShortText
