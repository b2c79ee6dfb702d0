"""Windows and freezes: whether a rollout may go forward now, and when it may again.

The agent's and the administrator's both count. They stop what starts or advances; nothing that
takes traffic back ever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal, get_args

from phasegate.api.calendar import Day
from phasegate.rollout.recurrence import Times, covers, next_change

Whose = Literal["agent", "administrator"]
Zones = Callable[[str], tzinfo | None]
"""A time zone by its name in the IANA database; None if there is none."""

STEPS: Final = 64
"""Openings and closings that are looked through for one in which nothing else stands against it."""
_AGAIN: Final = timedelta(hours=1)
"""How long no end being found holds: from later on, later ones are found."""
_DAYS: Final[tuple[str, ...]] = get_args(Day)
_SHOWN: Final = 3
"""Windows and freezes that a sentence names."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A window or a freeze."""

    name: str
    whose: Whose
    zone: str
    clock: tzinfo
    """The zone itself."""
    times: Times
    reason: str = ""

    def covers(self, at: datetime) -> bool:
        """Whether this instant is in it."""
        return covers(self.times, self.clock, at)

    def next_change(self, after: datetime) -> datetime | None:
        """When it begins or ends next; None if it never does."""
        return next_change(self.times, self.clock, after)

    def shown(self, at: datetime) -> str:
        """An instant in the local time of the rule, and in UTC."""
        local = at.astimezone(self.clock)
        text = f"{_told(local)} {self.zone}"
        return text if self.zone == "UTC" else f"{text} ({_told(at.astimezone(UTC))} UTC)"


@dataclass(frozen=True, slots=True)
class Shut:
    """Why nothing goes forward now."""

    frozen: bool
    """By a freeze; else it is outside of the windows."""
    why: str


@dataclass(frozen=True, slots=True)
class Opening:
    """When nothing stands against going forward any more."""

    at: datetime | None
    """None: not as far as one can see; a person has to change something."""
    words: str
    """The same in local time and UTC; or how far was looked."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """All that says when an agent may go forward."""

    windows: tuple[tuple[Rule, ...], ...] = ()
    """One of each group must be open: the agent's, and the administrator's."""
    freezes: tuple[Rule, ...] = ()
    problem: str | None = None
    """Why a part of it cannot be used, with the field; nothing goes forward then."""
    _found: dict[str, tuple[datetime, datetime, Opening]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The last opening, and from when until when it is the next: to look for one can take long."""

    def __add__(self, other: Calendar) -> Calendar:
        """Both count."""
        return Calendar(
            (*self.windows, *other.windows),
            (*self.freezes, *other.freezes),
            self.problem or other.problem,
        )

    def shut(self, now: datetime) -> Shut | None:
        """Why nothing goes forward now; None if nothing stands against it."""
        freezes, closed = self._against(now)
        if freezes:
            return Shut(True, _frozen(freezes))
        return Shut(False, _outside(closed)) if closed else None

    def opening(self, now: datetime) -> Opening:
        """The first instant from `now` on at which nothing stands against it.

        Until then it stays the first, and is not looked for again.
        """
        since, until, found = self._found.get("next", (now, now, Opening(now, "")))
        if not since <= now < until:
            found = self._search(now)
            until = now + _AGAIN if found.at is None else found.at
            self._found["next"] = now, until, found
        return found

    def _search(self, now: datetime) -> Opening:
        """A freeze is over when it ends; a closed group when the first of its windows opens.

        From there it is looked again, `STEPS` times at most.
        """
        at, last = now, ""
        for _ in range(STEPS):
            freezes, closed = self._against(at)
            if not freezes and not closed:
                return Opening(at, last)
            begins = [(_first(group, at), group[0]) for group in closed]
            ends = [(rule.next_change(at), rule) for rule in freezes]
            later = [(when, rule) for when, rule in (*ends, *begins) if when is not None]
            if len(later) < len(ends) + len(begins):
                return Opening(None, "that never ends by itself")
            at, rule = max(later, key=lambda entry: entry[0])
            last = rule.shown(at)
        return Opening(None, f"no end of that is found before {last}")

    def _against(self, at: datetime) -> tuple[list[Rule], list[tuple[Rule, ...]]]:
        """Freezes in force, and groups of windows none of which is open."""
        freezes = [freeze for freeze in self.freezes if freeze.covers(at)]
        closed = [group for group in self.windows if not any(rule.covers(at) for rule in group)]
        return freezes, closed


def _first(group: tuple[Rule, ...], after: datetime) -> datetime | None:
    """When the first window of a closed group opens."""
    times = (rule.next_change(after) for rule in group)
    return min((at for at in times if at is not None), default=None)


def _frozen(freezes: list[Rule]) -> str:
    told = (f"{rule.name} of the {rule.whose} ({rule.reason})" for rule in freezes[:_SHOWN])
    return f"frozen by {_listed(told, len(freezes))}"


def _outside(closed: list[tuple[Rule, ...]]) -> str:
    rules = [rule for group in closed for rule in group]
    word = "window" if len(rules) == 1 else "windows"
    told = (f"{rule.name} of the {rule.whose}" for rule in rules[:_SHOWN])
    return f"outside of the {word} {_listed(told, len(rules))}"


def _listed(told: Iterable[str], count: int) -> str:
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return ", ".join(told) + more


def _told(local: datetime) -> str:
    return f"{_DAYS[local.weekday()]} {local:%Y-%m-%d %H:%M}"
