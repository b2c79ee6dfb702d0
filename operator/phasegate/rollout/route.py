"""The split of an agent's traffic, as a value.

A route has exactly two slots, always. A backendRef that appears, disappears or goes to or from
weight 0 costs user requests on Envoy Gateway; one whose Service changes at a weight of one in a
million, or whose weight changes, costs none. So a revision takes over the idle slot, both slots
may name the same revision, and a rollback is one write that changes two numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

Mode = Literal["live", "dark", "shadow"]

FULL = 1_000_000
"""Weight of a slot that has everything, beside an idle one."""
IDLE = 1
"""Weight of an idle slot: never 0."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One backendRef of the route's main rule."""

    revision: str
    weight: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """Copies of requests to a revision; its answers go nowhere."""

    revision: str
    mode: Mode
    percent: int


@dataclass(frozen=True, slots=True)
class HeaderRoute:
    """Requests with ``x-agent-variant: candidate`` go to this revision."""

    revision: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class RollbackIntent:
    """Why traffic was taken back: written with the weights, in the same write, so that no crash loses it."""

    rollout: str
    revision: str
    phase: str
    trigger: str
    message: str
    decided_at: datetime
    by: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service of the agent's namespace that is no revision's."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Deactivation:
    """Nobody reaches the agent: by whose word, and who answers; written with it, in the same write."""

    by: str
    reason: str
    decided_at: datetime
    fallback: Backend | None = None
    """None: every request is refused."""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """What the route should say, or says."""

    slots: tuple[Slot, Slot]
    mirror: Mirror | None = None
    header: HeaderRoute | None = None
    intent: RollbackIntent | None = None
    closed: bool = False
    """No request is taken any more: the agent is about to go."""
    off: Deactivation | None = None
    """Set while somebody else, or nobody, answers. The slots stay: going back is one write, too."""

    @property
    def takes_back(self) -> bool:
        """Whether this is the route of a rollback, or of an agent that is deactivated."""
        return self.intent is not None or self.off is not None

    def percent(self, revision: str) -> int:
        """Share of user requests that `revision` is meant to get, 0…100; an idle slot counts as 0."""
        if self.off is not None:
            return 0
        mine = sum(s.weight for s in self.slots if s.revision == revision and s.weight > IDLE)
        total = sum(s.weight for s in self.slots if s.weight > IDLE) or 1
        return round(100 * mine / total)

    def revisions(self) -> frozenset[tuple[str, Mode]]:
        """Every (revision, mode) that this route sends anything to."""
        used: set[tuple[str, Mode]] = {(slot.revision, "live") for slot in self.slots}
        if self.mirror is not None:
            used.add((self.mirror.revision, self.mirror.mode))
        if self.header is not None:
            used.add((self.header.revision, self.header.mode))
        return frozenset(used)


def only(revision: str, current: RoutePlan | None) -> RoutePlan:
    """Everything to `revision`, in both slots; it keeps the slot in which it already has the weight."""
    index = _slot_of(revision, current)
    first, second = (FULL, IDLE) if index == 0 else (IDLE, FULL)
    return RoutePlan((Slot(revision, first), Slot(revision, second)))


def split(stable: str, other: str, percent: int, current: RoutePlan | None) -> RoutePlan:
    """`percent` (0…100) of the requests to `other`, the rest to `stable`; slots keep their places."""
    index = _slot_of(stable, current)
    if percent <= 0:
        shares = (FULL, IDLE)
    elif percent >= 100:
        shares = (IDLE, FULL)
    else:
        shares = (100 - percent, percent)
        if IDLE in shares:  # 1 of 100 must not read as an idle slot
            shares = (shares[0] * 10, shares[1] * 10)
    slots = (Slot(stable, shares[0]), Slot(other, shares[1]))
    return RoutePlan(slots if index == 0 else (slots[1], slots[0]))


def with_intent(plan: RoutePlan, intent: RollbackIntent) -> RoutePlan:
    """The same split, carrying the reason of a rollback."""
    return replace(plan, intent=intent)


def _slot_of(revision: str, current: RoutePlan | None) -> int:
    """The slot in which `revision` has most weight now; 0 if it has none."""
    if current is None:
        return 0
    weights = [slot.weight if slot.revision == revision else -1 for slot in current.slots]
    return 1 if weights[1] > weights[0] else 0
