"""From windows and freezes as people write them to a calendar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import get_args

from phasegate.api.calendar import Day, Freeze, Window
from phasegate.api.errors import InvalidSpec
from phasegate.rollout.calendar import Calendar, Rule, Whose, Zones
from phasegate.rollout.recurrence import DAY, Recurring, Span, Times, midnight

_WEEKDAYS = {day: number for number, day in enumerate(get_args(Day))}


def calendar_of(
    windows: Sequence[Window], freezes: Sequence[Freeze], zones: Zones, whose: Whose, root: str
) -> Calendar:
    """The calendar that these make. What cannot be used is its `problem`: a field, and a sentence.

    `root`: where they are written, for the fields' names.
    """
    problems: list[str] = []
    group = tuple(_rules(windows, zones, whose, f"{root}.windows", problems))
    frozen = tuple(_rules(freezes, zones, whose, f"{root}.freezes", problems))
    calendar = Calendar((group,) if group else (), frozen)
    return replace(calendar, problem="; ".join(problems[:3])) if problems else calendar


def _rules(
    written: Sequence[Window | Freeze], zones: Zones, whose: Whose, root: str, problems: list[str]
) -> Iterator[Rule]:
    names: set[str] = set()
    for index, entry in enumerate(written):
        at = f"{root}[{index}]"
        try:
            if entry.name in names:
                raise InvalidSpec(f".name: {entry.name} is there twice")
            names.add(entry.name)
            yield _rule(entry, zones, whose)
        except InvalidSpec as error:
            problems.append(f"{at}{error}")


def _rule(entry: Window | Freeze, zones: Zones, whose: Whose) -> Rule:
    clock = zones(entry.time_zone)
    if clock is None:
        raise InvalidSpec(
            f".timeZone: {entry.time_zone} is no time zone of the IANA database; write for example "
            "Europe/Berlin or UTC"
        )
    dated = isinstance(entry, Freeze) and entry.until is not None
    times: Times = _span(entry) if isinstance(entry, Freeze) and dated else _recurring(entry)
    reason = entry.reason if isinstance(entry, Freeze) else ""
    return Rule(entry.name, whose, entry.time_zone, clock, times, reason)


def _recurring(entry: Window | Freeze) -> Recurring:
    if entry.days and entry.dates:
        raise InvalidSpec(": set days or dates, not both")
    begin, end = _since_midnight(entry.from_ or "00:00"), _since_midnight(entry.to or "24:00")
    if begin == end:
        raise InvalidSpec(".to: from and to are the same time")
    return Recurring(
        begin,
        end if end > begin else end + DAY,
        frozenset(_WEEKDAYS[day] for day in entry.days or _WEEKDAYS),
        _dates(entry.dates, "dates"),
        _dates(entry.except_, "except"),
    )


def _span(entry: Freeze) -> Span:
    if entry.until is None or entry.days or entry.dates or entry.to:
        raise InvalidSpec(".until: cannot be together with days, dates or to")
    if entry.from_ is None or entry.from_[2:3] == ":":
        raise InvalidSpec(".from: with until it must be a date, or a date and time")
    begin, end = _moment(entry.from_, "from"), _moment(entry.until, "until")
    if "T" not in entry.until:
        end += DAY  # the last day belongs to it
    if end <= begin:
        raise InvalidSpec(".until: must not be before from")
    return Span(begin, end, _dates(entry.except_, "except"))


def _dates(written: Iterable[str], field: str) -> frozenset[date]:
    return frozenset(_moment(text, field).date() for text in written)


def _moment(text: str, field: str) -> datetime:
    try:
        return datetime.fromisoformat(text) if "T" in text else midnight(date.fromisoformat(text))
    except ValueError:
        raise InvalidSpec(f".{field}: {text} does not exist") from None


def _since_midnight(text: str) -> timedelta:
    if text[2:3] != ":":
        raise InvalidSpec(f'.from: {text}: without until it must be a time of day such as "12:00"')
    return timedelta(hours=int(text[:2]), minutes=int(text[3:5]))
