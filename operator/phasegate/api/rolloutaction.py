"""``RolloutAction``: one human decision, immutable, its author enforced by the API server."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

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
    list_atomic,
    list_set,
)
from phasegate.api.cel import immutable
from phasegate.api.people import Evidence, Group, Overridable

Verb = Literal[
    "Approve",
    "Reject",
    "Promote",
    "Pause",
    "Resume",
    "Rollback",
    "KillSwitch",
    "Retry",
    "Acknowledge",
    "Override",
]
Outcome = Literal["Accepted", "Refused", "Expired"]
TAKES_BACK: Final[frozenset[Verb]] = frozenset({"Reject", "Rollback", "KillSwitch"})
"""What takes traffic from a revision: carried out before anything else."""


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
    actor_groups: Annotated[tuple[Group, ...], Field(max_length=64), list_set()] = ()
    """Groups of the actor, as far as they matter to the decision."""
    phase: Name | None = None
    """The phase it is about, Approve and Promote: the one to begin. When that is over, the decision
    expires."""
    evidence: Annotated[tuple[Evidence, ...], Field(max_length=16), list_atomic()] = ()
    """What it rests on."""
    overrides: Annotated[tuple[Overridable, ...], Field(max_length=8), list_set()] = ()
    """Override: what to go past, for this phase."""
    about: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """Acknowledge: the check whose notice was seen; the incident if left out."""

    cel: ClassVar[tuple[Cel, ...]] = (
        immutable("a decision that was taken is a record; create another RolloutAction"),
        Cel(
            "(self.verb == 'Override') == (has(self.overrides) && self.overrides.size() > 0)",
            "an Override says what it goes past (Calendar), and no other verb does",
            ".overrides",
        ),
        Cel(
            "self.verb != 'Override' || self.reason.trim().size() >= 20",
            "an Override needs a reason that can be read later: at least 20 characters",
            ".reason",
        ),
        Cel(
            "!has(self.about) || self.verb == 'Acknowledge'",
            "only Acknowledge is about a check: remove about",
            ".about",
        ),
    )


class RolloutActionStatus(StatusModel):
    """What became of it."""

    outcome: Outcome | None = None
    """Expired: what it was about is over."""
    message: Message = ""
    rollout: ShortText | None = None
    at: AwareDatetime | None = None
