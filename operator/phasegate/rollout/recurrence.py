"""Stretches of time as clocks on a wall show them, and the instants at which they begin and end.

What the clock shows decides. A time that a clock skips in spring is never shown: what would begin
or end in the gap does so when the clock has jumped. An hour that is shown twice in autumn counts
twice. So `covers` is true at exactly those instants whose local time lies in the stretch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Protocol

DAY: Final = timedelta(days=1)
_FORTNIGHT: Final = 14
_SECOND: Final = timedelta(seconds=1)
_NEAR: Final = timedelta(hours=3)
"""More than any clock is put forward or back, but by whole days."""


class Times(Protocol):
    """A set of local times: naive datetimes, as a clock shows them."""

    def covers(self, wall: datetime) -> bool:
        """Whether this local time is in the set."""

    def days(self, since: date) -> Iterator[date]:
        """In order, enough days from `since` on to meet the next change, if there is one at all."""

    def edges(self, day: date) -> tuple[datetime, ...]:
        """Local times at which something may begin or end that belongs to this day."""


@dataclass(frozen=True, slots=True)
class Recurring:
    """From a time of day to another, on days of the week or on single dates."""

    begin: timedelta
    end: timedelta
    """Since midnight of the day it began; longer than `begin`, up to two days."""
    weekdays: frozenset[int]
    """Monday is 0."""
    dates: frozenset[date] = frozenset()
    """If there are any, instead of the days of the week."""
    excluded: frozenset[date] = frozenset()

    def covers(self, wall: datetime) -> bool:
        """Whether it began on this day or on the one before, and has not ended."""
        today = wall.date()
        return any(
            self._on(day) and self.begin <= wall - midnight(day) < self.end
            for day in (today, today - DAY)
        )

    def days(self, since: date) -> Iterator[date]:
        """Every day until two weeks were seen that no exclusion touches, then what is excluded later.

        What changes nothing for so long always or never is: only an exclusion can change that. It
        shows where what began on the day before ends, and on the day after.
        """
        if self.dates:
            yield from _from(since, self.dates)
            return
        day, untouched = since, 0
        while untouched < _FORTNIGHT:
            yield day
            untouched = 0 if {day, day - DAY} & self.excluded else untouched + 1
            day += DAY
        around = {d + offset for d in self.excluded for offset in (-DAY, DAY * 0, DAY)}
        yield from sorted(d for d in around if d >= day)

    def edges(self, day: date) -> tuple[datetime, ...]:
        """Where it begins and ends that begins on this day."""
        if not self._on(day):
            return ()
        return midnight(day) + self.begin, midnight(day) + self.end

    def _on(self, day: date) -> bool:
        if day in self.excluded:
            return False
        return day in self.dates if self.dates else day.weekday() in self.weekdays


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of time, but for some days in it."""

    begin: datetime
    end: datetime
    """The first local time that is not in it any more."""
    excluded: frozenset[date] = frozenset()

    def covers(self, wall: datetime) -> bool:
        """Whether it is in the stretch and its day is not left out."""
        return self.begin <= wall < self.end and wall.date() not in self.excluded

    def days(self, since: date) -> Iterator[date]:
        """Where it begins, ends, or leaves a day out."""
        return _from(since, self.excluded | {self.begin.date(), self.end.date()})

    def edges(self, day: date) -> tuple[datetime, ...]:
        """Its ends, and both midnights of a day that is left out."""
        ends = tuple(wall for wall in (self.begin, self.end) if wall.date() == day)
        return (*ends, midnight(day)) if {day, day - DAY} & self.excluded else ends


def covers(times: Times, zone: tzinfo, at: datetime) -> bool:
    """Whether clocks in `zone` show one of these times at this instant."""
    return times.covers(_wall(at, zone))


def next_change(times: Times, zone: tzinfo, after: datetime) -> datetime | None:
    """The first instant after `after` at which `covers` is another; None if there is none.

    What is looked through is bounded by the number of dates that are named.
    """
    before, shown, found = covers(times, zone, after), _wall(after, zone), None
    for day in times.days(shown.date() - DAY):
        if found is not None and found <= _instants(midnight(day), zone)[0]:
            break
        for at in _edges(times, zone, day, shown - _NEAR):
            if at > after and (found is None or at < found) and covers(times, zone, at) != before:
                found = at
    return found


def midnight(day: date) -> datetime:
    """The beginning of a day, as a clock shows it."""
    return datetime(day.year, day.month, day.day)


def _edges(times: Times, zone: tzinfo, day: date, since: datetime) -> Iterator[datetime]:
    """Instants that belong to a day at which what clocks show may enter or leave the set.

    Those well before the local time `since` are left out.
    """
    for wall in times.edges(day):
        if wall >= since:
            yield from _instants(wall, zone)
    if midnight(day) + 2 * DAY < since:
        return
    first = midnight(day).replace(tzinfo=zone).astimezone(UTC) - _NEAR
    shift = _shift(first, first + DAY + 2 * _NEAR, zone)
    if shift is not None:
        yield shift


def _instants(wall: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """When clocks show this: once, twice, or, if they skip it, the instant at which they do."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return (first,) if first == second else (first, second)
    return (_shift(second - _SECOND, first, zone) or first,)


def _shift(low: datetime, high: datetime, zone: tzinfo) -> datetime | None:
    """The first second after `low` and up to `high` with another offset than at `low`."""
    before = _offset(low, zone)
    if _offset(high, zone) == before:
        return None
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // (2 * _SECOND))
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high


def _offset(at: datetime, zone: tzinfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()


def _wall(at: datetime, zone: tzinfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def _from(since: date, days: frozenset[date]) -> Iterator[date]:
    """These days and those after them, in order, from `since` on."""
    return iter(sorted(day for day in days | {d + DAY for d in days} if day >= since))
