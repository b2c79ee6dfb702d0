"""When an agent may go forward: windows in which it may, freezes in which it may not."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from phasegate.api.base import Cel, Name, Notation, SpecModel, list_map, list_set

Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_DATE: Final = r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"

TIME = Notation(
    _TIME, 'must be a time of day in quotes, from "00:00" to "23:59", such as "09:00"', numeric=True
)
END = Notation(
    rf"{_TIME}|24:00",
    'must be a time of day in quotes, such as "17:00"; "24:00" is the end of the day',
    numeric=True,
)
DATE = Notation(_DATE, "must be a date, such as 2026-12-24")
MOMENT = Notation(
    rf"{_DATE}(T{_TIME})?",
    "must be a date or a local date and time without an offset, such as 2026-12-24 or "
    "2026-12-24T18:00",
)
BEGIN = Notation(
    rf"{_TIME}|{MOMENT.pattern}",
    'must be a time of day in quotes such as "12:00"; with until, a date such as 2026-12-24 or a '
    "date and time such as 2026-12-24T18:00",
    numeric=True,
)

# A little longer than what is right: what is wrong then gets its own sentence, not "too long".
TimeOfDay = Annotated[str, StringConstraints(max_length=8), TIME]
EndOfDay = Annotated[str, StringConstraints(max_length=8), END]
Date = Annotated[str, StringConstraints(max_length=16), DATE]
Moment = Annotated[str, StringConstraints(max_length=32), MOMENT]
Begin = Annotated[str, StringConstraints(max_length=32), BEGIN]
TimeZone = Annotated[
    str,
    StringConstraints(max_length=64),
    Notation(
        r"[A-Za-z][-+A-Za-z0-9_/]*",
        "must be the name of a time zone in the IANA database, such as Europe/Berlin or UTC",
    ),
]
Days = Annotated[tuple[Day, ...], Field(max_length=7), list_set()]
Dates = Annotated[tuple[Date, ...], Field(max_length=64), list_set()]

_DAYS_OR_DATES: Final = Cel(
    "!(has(self.days) && self.days.size() > 0 && has(self.dates) && self.dates.size() > 0)",
    "set days or dates, not both",
)
_SAME: Final = (
    "from and to are the same time: leave both out for the whole day; a to that comes before from "
    "means the next day"
)


class Window(SpecModel):
    """A time in which a rollout may start and advance. Times are what clocks show in `timeZone`."""

    name: Name
    time_zone: TimeZone
    """Name in the IANA time zone database, such as Europe/Berlin; daylight saving follows from it."""
    days: Days = ()
    """Days of the week on which it begins; every day if left out."""
    dates: Dates = ()
    """Single dates on which it begins, instead of days."""
    from_: TimeOfDay = Field(default="00:00", alias="from")
    """When it opens, in quotes."""
    to: EndOfDay = "24:00"
    """When it closes, in quotes. Not after `from`: on the next day."""
    except_: Dates = Field(default=(), alias="except")
    """Dates on which it does not open."""

    cel: ClassVar[tuple[Cel, ...]] = (
        _DAYS_OR_DATES,
        Cel("self.from != self.to", _SAME, ".to"),
    )


class Freeze(SpecModel):
    """A time in which no rollout starts or advances; a rollback always may.

    With `until` it is one stretch of time; without, it comes again on its days.
    """

    name: Name
    reason: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """Why, for those who wait."""
    time_zone: TimeZone
    """Name in the IANA time zone database, such as Europe/Berlin; daylight saving follows from it."""
    from_: Annotated[Begin | None, Field(alias="from")] = None
    """With until: the date, or date and time, at which it begins. Without: the time of day."""
    until: Moment | None = None
    """The last day, which belongs to it, or the date and time at which it ends."""
    days: Days = ()
    """Days of the week on which it begins; every day if left out."""
    dates: Dates = ()
    """Single dates on which it begins, instead of days."""
    to: EndOfDay | None = None
    """When it ends each time; the end of the day if left out. Not after `from`: on the next day."""
    except_: Dates = Field(default=(), alias="except")
    """Dates that it leaves free."""

    cel: ClassVar[tuple[Cel, ...]] = (
        _DAYS_OR_DATES,
        Cel(
            "!has(self.until) || !has(self.to) && (!has(self.days) || self.days.size() == 0)"
            " && (!has(self.dates) || self.dates.size() == 0)",
            "until ends one stretch of time: remove days, dates and to, or remove until from a "
            "freeze that comes again",
            ".until",
        ),
        Cel(
            f"!has(self.until) || has(self.from) && ({MOMENT.matches('string(self.from)')})",
            "with until, from must be a date or a date and time, such as 2026-12-24 or "
            "2026-12-24T18:00",
            ".from",
        ),
        Cel(
            f"has(self.until) || !has(self.from) || ({TIME.matches('self.from')})",
            'without until, from must be a time of day in quotes, such as "12:00"; a freeze from a '
            "date on needs its until",
            ".from",
        ),
        Cel("!has(self.from) || !has(self.to) || self.from != self.to", _SAME, ".to"),
        Cel(
            "!has(self.until) || !has(self.from) || !(type(self.from) == string)"
            " || !self.from.matches('^20[0-9][0-9]-') || (self.from.size() == 16"
            " && self.until.size() == 16 ? self.from < self.until"
            " : self.from.substring(0, 10) <= self.until.substring(0, 10))",
            "must not be before from",
            ".until",
        ),
    )


Windows = Annotated[tuple[Window, ...], Field(max_length=8), list_map("name")]
Freezes = Annotated[tuple[Freeze, ...], Field(max_length=16), list_map("name")]
