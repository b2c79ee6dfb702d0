"""Enough people? How many approvals a rule still misses, and from which groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from phasegate.api.people import Approval, Approvals


@dataclass(frozen=True, slots=True)
class Missing:
    """People who still have to agree."""

    people: int
    groups: tuple[tuple[str, int], ...] = ()
    """Of them, how many from which group."""

    def __str__(self) -> str:
        """As it stands in a sentence: ``1 from group legal, 1 more``."""
        parts = [f"{count} from group {group}" for group, count in self.groups]
        rest = self.people - sum(count for _, count in self.groups)
        if rest:
            parts.append(f"{rest} more")
        return ", ".join(parts)


class _Seat(NamedTuple):
    group: str
    number: int


def needed(rule: Approvals) -> int:
    """People that a rule asks for."""
    return max(rule.count, sum(group.count for group in rule.groups))


def missing(rule: Approvals, given: Sequence[Approval]) -> Missing:
    """What `given`, one approval a person, leaves open.

    Nobody stands for two groups: groups have seats, and people are seated so that as many seats as
    possible are taken (a maximum matching). Who has no seat in a group counts towards the rest.
    """
    seats = [_Seat(g.group, number) for g in rule.groups for number in range(g.count)]
    taken = _seated(seats, given)
    unseated = len(given) - len(taken)
    rest = max(0, needed(rule) - len(seats) - unseated)
    free: dict[str, int] = {}
    for seat in seats:
        if seat not in taken:
            free[seat.group] = free.get(seat.group, 0) + 1
    return Missing(sum(free.values()) + rest, tuple(free.items()))


def missing_without_any(rule: Approvals, given: Sequence[Approval]) -> Missing:
    """What is open when one of them, nobody knows which, does not count."""
    if not given:
        none = missing(rule, ())
        return Missing(none.people + 1, none.groups)
    return max((missing(rule, others) for others in _all_but_one(given)), key=_people)


def helps(rule: Approvals, given: Sequence[Approval], more: Approval) -> bool:
    """True when `more` brings the rule nearer: now, or if one of the others should not count.

    Who does not help now never will: others who come later cannot make a seat for them.
    """
    return any(
        missing(rule, (*some, more)).people < missing(rule, some).people
        for some in (tuple(given), *_all_but_one(given))
    )


def _all_but_one(given: Sequence[Approval]) -> list[tuple[Approval, ...]]:
    return [(*given[:at], *given[at + 1 :]) for at in range(len(given))]


def _people(missing_: Missing) -> int:
    return missing_.people


def _seated(seats: Sequence[_Seat], given: Sequence[Approval]) -> Mapping[_Seat, Approval]:
    taken: dict[_Seat, Approval] = {}
    for approval in given:
        _seat(approval, seats, taken, set())
    return taken


def _seat(
    approval: Approval, seats: Sequence[_Seat], taken: dict[_Seat, Approval], tried: set[_Seat]
) -> bool:
    """Seat one more, moving others where that helps; False if there is no way."""
    for seat in seats:
        if seat.group not in approval.groups or seat in tried:
            continue
        tried.add(seat)
        sitting = taken.get(seat)
        if sitting is None or _seat(sitting, seats, taken, tried):
            taken[seat] = approval
            return True
    return False
