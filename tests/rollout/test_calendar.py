"""Windows and freezes: what they cover, and the exact instant at which everything is open again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phasegate.adapters.zones import IanaZones
from phasegate.api.calendar import Freeze, Window
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.schedule import calendar_of

ZONES = IanaZones()
MINUTE = timedelta(minutes=1)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NIGHTS = (
    ("Europe/Berlin", datetime(2027, 3, 28, 1, tzinfo=UTC)),  # 02:00 to 03:00
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),  # 03:00 to 02:00
    ("America/New_York", datetime(2027, 3, 14, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2027, 4, 29, 22, tzinfo=UTC)),  # midnight to 01:00
    ("Africa/Cairo", datetime(2026, 10, 29, 21, tzinfo=UTC)),  # midnight to 23:00
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),  # half an hour
    ("Asia/Kolkata", datetime(2026, 10, 4, tzinfo=UTC)),  # never
)
"""Places, and when clocks are changed there."""


def window(name: str = "office", zone: str = "Europe/Berlin", /, **more: Any) -> Window:
    return Window.model_validate({"name": name, "timeZone": zone, **more})


def freeze(name: str = "freeze", zone: str = "Europe/Berlin", /, **more: Any) -> Freeze:
    given = {"name": name, "timeZone": zone, "reason": "stock-taking", **more}
    return Freeze.model_validate(given)


def calendar(*entries: Window | Freeze) -> Calendar:
    windows = [entry for entry in entries if isinstance(entry, Window)]
    freezes = [entry for entry in entries if isinstance(entry, Freeze)]
    made = calendar_of(windows, freezes, ZONES, "agent", "spec")
    assert made.problem is None, made.problem
    return made


def at(text: str, zone: str = "UTC") -> datetime:
    """A local time that clocks show once."""
    clock = ZONES(zone)
    assert clock is not None
    return datetime.fromisoformat(text).replace(tzinfo=clock).astimezone(UTC)


def opening(made: Calendar, now: datetime) -> datetime | None:
    return made.opening(now).at


# --- what they mean --------------------------------------------------------------------------

OFFICE = window(days=["Mon", "Tue", "Wed", "Thu", "Fri"], **{"from": "09:00", "to": "17:00"})
NO_FRIDAYS = freeze(days=["Fri"], **{"from": "12:00"})


def test_without_any_it_is_always_open() -> None:
    assert Calendar().shut(at("2026-12-25T03:00")) is None


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-11-20T08:59", "2026-11-20T09:00"),
        ("2026-11-20T09:00", "2026-11-20T09:00"),
        ("2026-11-20T16:59", "2026-11-20T16:59"),
        ("2026-11-20T17:00", "2026-11-23T09:00"),
        ("2026-11-21T12:00", "2026-11-23T09:00"),
    ],
)
def test_outside_of_a_window_it_waits_for_the_next_one(now: str, opens: str) -> None:
    made = calendar(OFFICE)
    assert opening(made, at(now, "Europe/Berlin")) == at(opens, "Europe/Berlin")
    assert (made.shut(at(now, "Europe/Berlin")) is None) == (now == opens)


def test_a_freeze_counts_inside_of_a_window() -> None:
    made = calendar(OFFICE, NO_FRIDAYS)
    friday = at("2026-11-20T12:00", "Europe/Berlin")
    shut = made.shut(friday)
    assert shut is not None
    assert shut.frozen
    assert shut.why == "frozen by freeze of the agent (stock-taking)"
    assert opening(made, friday) == at("2026-11-23T09:00", "Europe/Berlin")
    assert made.shut(friday - MINUTE) is None


def test_the_agents_and_the_administrators_both_count() -> None:
    theirs = calendar_of(
        [window("release", "UTC", days=["Tue"])], [], ZONES, "administrator", "calendar"
    )
    made = calendar(OFFICE) + theirs
    monday = at("2026-11-23T10:00", "Europe/Berlin")
    shut = made.shut(monday)
    assert shut is not None
    assert shut.why == "outside of the window release of the administrator"
    assert opening(made, monday) == at("2026-11-24T09:00", "Europe/Berlin")


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    made = calendar(window(days=["Fri"], **{"from": "22:00", "to": "02:00"}))
    assert made.shut(at("2026-11-21T01:59", "Europe/Berlin")) is None
    assert made.shut(at("2026-11-20T01:59", "Europe/Berlin")) is not None
    assert made.shut(at("2026-11-21T02:00", "Europe/Berlin")) is not None


def test_dates_that_are_left_out_begin_nothing() -> None:
    made = calendar(window(days=["Thu"], **{"except": ["2026-12-24", "2026-12-31"]}))
    assert opening(made, at("2026-12-20T00:00")) == at("2027-01-07T00:00", "Europe/Berlin")
    frozen = calendar(freeze(days=["Fri"], **{"except": ["2026-11-20"]}))
    assert frozen.shut(at("2026-11-20T12:00")) is None
    assert frozen.shut(at("2026-11-27T12:00")) is not None


def test_single_dates_instead_of_days() -> None:
    made = calendar(window(dates=["2026-12-01", "2027-05-01"], **{"from": "20:00"}))
    assert opening(made, at("2026-12-02T00:00")) == at("2027-05-01T20:00", "Europe/Berlin")


def test_the_last_day_of_a_freeze_belongs_to_it() -> None:
    made = calendar(
        freeze(**{"from": "2026-12-20", "until": "2027-01-03", "except": ["2026-12-28"]})
    )
    assert made.shut(at("2026-12-19T23:59", "Europe/Berlin")) is None
    assert opening(made, at("2026-12-20T00:00", "Europe/Berlin")) == at(
        "2026-12-28T00:00", "Europe/Berlin"
    )
    assert made.shut(at("2026-12-28T23:59", "Europe/Berlin")) is None
    assert opening(made, at("2026-12-29T00:00", "Europe/Berlin")) == at(
        "2027-01-04T00:00", "Europe/Berlin"
    )


def test_a_freeze_may_end_at_a_time() -> None:
    made = calendar(freeze(**{"from": "2026-12-20T18:00", "until": "2026-12-21T06:30"}))
    assert made.shut(at("2026-12-20T17:59", "Europe/Berlin")) is None
    ends = at("2026-12-21T06:30", "Europe/Berlin")
    assert opening(made, at("2026-12-20T18:00", "Europe/Berlin")) == ends


def test_a_far_opening_is_found_without_walking_there() -> None:
    made = calendar(OFFICE, freeze(**{"from": "2026-01-01", "until": "2098-12-31"}))
    assert opening(made, at("2026-11-20T12:00")) == at("2099-01-01T09:00", "Europe/Berlin")


@pytest.mark.parametrize("days", [1, 13, 29, 40, 400])
@pytest.mark.parametrize("others", [0, 30])
def test_a_far_day_that_is_left_free_ends_a_freeze_that_is_always_on(
    days: int, others: int
) -> None:
    free = [date(2026, 11, 20) + timedelta(days=days + 2 * n) for n in range(others + 1)]
    made = calendar(freeze(**{"except": [str(day) for day in free]}))
    assert opening(made, at("2026-11-20T12:00")) == at(f"{free[0]}T00:00", "Europe/Berlin")


def test_a_weekly_window_opens_after_all_the_weeks_that_are_left_out() -> None:
    mondays = [date(2026, 11, 23) + timedelta(weeks=n) for n in range(64)]
    made = calendar(window(days=["Mon"], **{"except": [str(day) for day in mondays]}))
    opens = mondays[-1] + timedelta(weeks=1)
    assert opening(made, at("2026-11-20T12:00")) == at(f"{opens}T00:00", "Europe/Berlin")


def test_an_opening_is_looked_for_once_while_it_is_the_next() -> None:
    made, friday = calendar(OFFICE), at("2026-11-20T18:00", "Europe/Berlin")
    monday = at("2026-11-23T09:00", "Europe/Berlin")
    found = made.opening(friday)
    assert found.at == monday
    assert made.opening(monday - MINUTE) is found
    assert opening(made, monday) == monday
    assert opening(made, monday + timedelta(hours=9)) == at("2026-11-24T09:00", "Europe/Berlin")
    assert opening(made, friday) == monday


@pytest.mark.parametrize(
    "entries",
    [
        (freeze(),),
        (window(dates=["2026-01-01"]),),
        (window(days=["Fri"]), freeze(days=["Fri"])),
        (window(days=["Fri"], **{"from": "22:00", "to": "02:00"}), freeze(days=["Fri", "Sat"])),
    ],
)
def test_what_never_opens_again_says_so(entries: tuple[Window | Freeze, ...]) -> None:
    found = calendar(*entries).opening(at("2026-11-20T12:00"))
    assert found.at is None
    assert "never ends" in found.words or "no end of that is found before" in found.words


def test_an_opening_is_told_in_local_time_and_in_utc() -> None:
    words = calendar(OFFICE).opening(at("2026-11-20T20:00")).words
    assert words == "Mon 2026-11-23 09:00 Europe/Berlin (Mon 2026-11-23 08:00 UTC)"


# --- the nights in which clocks are changed --------------------------------------------------


def test_what_begins_in_the_hour_that_spring_skips_begins_when_clocks_have_jumped() -> None:
    made = calendar(window(**{"from": "02:30", "to": "04:00"}))
    jump = datetime(2027, 3, 28, 1, 0, tzinfo=UTC)  # 02:00 becomes 03:00
    assert opening(made, jump - timedelta(hours=1)) == jump
    assert made.shut(jump - timedelta(seconds=1)) is not None
    assert made.shut(at("2027-03-28T04:00", "Europe/Berlin")) is not None


def test_a_window_that_spring_skips_does_not_open_that_night() -> None:
    made = calendar(window(**{"from": "02:15", "to": "02:45"}))
    assert opening(made, at("2027-03-28T00:00")) == at("2027-03-29T02:15", "Europe/Berlin")


def test_a_freeze_that_ends_in_the_skipped_hour_ends_when_clocks_have_jumped() -> None:
    made = calendar(freeze(**{"from": "22:00", "to": "02:30"}))
    assert opening(made, at("2027-03-27T23:00")) == datetime(2027, 3, 28, 1, 0, tzinfo=UTC)


def test_what_autumn_shows_twice_counts_twice() -> None:
    made = calendar(freeze(**{"from": "02:00", "to": "02:30"}))
    first = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    for begin in (first, first + timedelta(hours=1)):
        assert made.shut(begin - MINUTE) is None
        assert made.shut(begin) is not None
        assert opening(made, begin) == begin + timedelta(minutes=30)


def test_a_window_closes_when_autumn_takes_the_clock_back_before_it() -> None:
    made = calendar(window(**{"from": "02:30", "to": "03:30"}))
    back = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # 03:00 becomes 02:00
    assert made.shut(back - MINUTE) is None
    assert made.shut(back) is not None
    assert opening(made, back) == back + timedelta(minutes=30)


def test_a_window_opens_when_autumn_takes_the_clock_back_into_it() -> None:
    made = calendar(window(**{"from": "01:30", "to": "02:30"}))
    back = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # 03:00 becomes 02:00
    assert made.shut(back - 15 * MINUTE) is not None
    assert opening(made, back - 15 * MINUTE) == back


# --- against clocks that are read every minute -----------------------------------------------

CLOCK = st.builds(
    lambda hour, minute: f"{hour:02}:{minute:02}",
    st.one_of(st.integers(0, 3), st.integers(0, 23)),
    st.sampled_from([0, 15, 30, 59]),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Window], list[Freeze], datetime]:
    """A calendar around a change of the clocks, and an instant near it."""
    zone, changed = draw(st.sampled_from(NIGHTS))
    near = [str(changed.date() + timedelta(days=days)) for days in (-1, 0, 1, 2)]

    def times() -> dict[str, Any]:
        begin, end = draw(st.lists(CLOCK, min_size=2, max_size=2, unique=True))
        which = draw(st.sampled_from(["days", "dates", "every day"]))
        picked = {
            "days": {"days": draw(st.lists(st.sampled_from(DAYS), min_size=1, unique=True))},
            "dates": {"dates": draw(st.lists(st.sampled_from(near), min_size=1, unique=True))},
            "every day": {},
        }[which]
        left_out = draw(st.lists(st.sampled_from(near), max_size=2, unique=True))
        return {"from": begin, "to": end, "except": left_out, **picked}

    windows = [window(f"w{n}", zone, **times()) for n in range(draw(st.integers(0, 2)))]
    freezes = [freeze(f"f{n}", zone, **times()) for n in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        ends = sorted(draw(st.tuples(st.sampled_from(near), st.sampled_from(near))))
        begin, until = (f"{day}T{draw(CLOCK)}" if draw(st.booleans()) else day for day in ends)
        if begin[:10] < until[:10]:
            freezes.append(freeze("span", zone, **{"from": begin, "until": until}))
    quarters = draw(st.one_of(st.integers(-8, 8), st.integers(-120, 160)))
    return windows, freezes, changed + 15 * quarters * MINUTE


def shown(entry: Window | Freeze, now: datetime) -> datetime:
    """What a clock at the place shows."""
    return now.astimezone(ZONES(entry.time_zone)).replace(tzinfo=None)


def by_hand(entry: Window | Freeze, now: datetime) -> bool:
    """Whether an entry covers an instant, by reading a clock and a leaf of a calendar."""
    wall = shown(entry, now)
    if isinstance(entry, Freeze) and entry.until is not None:
        assert entry.from_ is not None
        text = wall.isoformat(timespec="minutes")
        until = entry.until if "T" in entry.until else f"{entry.until}T24:00"
        return entry.from_ <= text < until and str(wall.date()) not in entry.except_
    for day, since in ((wall.date(), 0), (wall.date() - timedelta(days=1), 24)):
        listed = str(day) in entry.dates if entry.dates else True
        weekday = DAYS[day.weekday()] in entry.days if entry.days else True
        if not (listed and weekday) or str(day) in entry.except_:
            continue
        text = f"{wall.hour + since:02}:{wall.minute:02}"
        begin, end = entry.from_ or "00:00", entry.to or "24:00"
        if end <= begin:
            end = f"{int(end[:2]) + 24:02}{end[2:]}"
        if begin <= text < end:
            return True
    return False


def open_by_hand(windows: list[Window], freezes: list[Freeze], now: datetime) -> bool:
    inside = not windows or any(by_hand(entry, now) for entry in windows)
    return inside and not any(by_hand(entry, now) for entry in freezes)


@settings(max_examples=250, deadline=None)
@given(worlds())
def test_the_opening_is_the_first_minute_at_which_clocks_say_so(
    world: tuple[list[Window], list[Freeze], datetime],
) -> None:
    windows, freezes, now = world
    made = calendar(*windows, *freezes)
    minutes = [now + n * MINUTE for n in range(3 * 24 * 60)]
    first = next((m for m in minutes if open_by_hand(windows, freezes, m)), None)
    assert (made.shut(now) is None) == (first == now)
    found = opening(made, now)
    if first is not None:
        assert found == first
    else:
        assert found is None or found > minutes[-1]


@pytest.mark.parametrize(("zone", "changed"), NIGHTS)
@pytest.mark.parametrize("kind", [window, freeze])
def test_around_a_change_of_clocks_every_quarter_of_an_hour_is_right(
    kind: Callable[..., Window | Freeze], zone: str, changed: datetime
) -> None:
    local = changed.astimezone(ZONES(zone))
    near = [local.replace(minute=0) + n * 30 * MINUTE for n in range(-5, 6)]
    times = [f"{wall:%H:%M}" for wall in near]
    quarters = [changed + n * 15 * MINUTE for n in range(-16, 4 * 30)]
    for begin, end in permutations(dict.fromkeys(times), 2):
        entry = kind("entry", zone, **{"from": begin, "to": end})
        entries = ([entry], []) if isinstance(entry, Window) else ([], [entry])
        made, is_open = calendar(entry), [open_by_hand(*entries, at) for at in quarters]
        for n, now in enumerate(quarters[:32]):
            first = next(at for at, there in zip(quarters[n:], is_open[n:], strict=True) if there)
            assert opening(made, now) == first, (begin, end)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_at_every_minute_it_is_open_when_clocks_say_so(
    world: tuple[list[Window], list[Freeze], datetime],
) -> None:
    windows, freezes, now = world
    made = calendar(*windows, *freezes)
    for minute in (now + n * MINUTE for n in range(0, 2 * 24 * 60, 7)):
        assert (made.shut(minute) is None) == open_by_hand(windows, freezes, minute)


# --- mistakes that no schema sees ------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            window("office", "Europe/Atlantis"),
            "spec.windows[0].timeZone: Europe/Atlantis is no time",
        ),
        (window("office", "Europe"), "spec.windows[0].timeZone: Europe is no time zone"),
        (window(dates=["2027-02-29"]), "spec.windows[0].dates: 2027-02-29 does not exist"),
        (window(**{"except": ["2026-11-31"]}), "spec.windows[0].except: 2026-11-31 does not"),
        (window(**{"to": "00:00"}), "spec.windows[0].to: from and to are the same time"),
        (freeze(**{"from": "2026-12-24"}), "spec.freezes[0].from: 2026-12-24: without until"),
        (freeze(until="2026-12-24"), "spec.freezes[0].from: with until it must be a date"),
        (freeze(until="2026-12-24", **{"from": "12:00"}), "from: with until it must be a date"),
        (freeze(until="2026-12-23", **{"from": "2026-12-24"}), "until: must not be before from"),
        (freeze(until="2026-12-24", days=["Fri"]), "spec.freezes[0].until: cannot be together"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_field(entry: Window | Freeze, words: str) -> None:
    windows = [entry] if isinstance(entry, Window) else []
    freezes = [entry] if isinstance(entry, Freeze) else []
    problem = calendar_of(windows, freezes, ZONES, "agent", "spec").problem
    assert problem is not None
    assert words in problem


def test_a_name_is_there_once() -> None:
    made = calendar_of([OFFICE, OFFICE], [], ZONES, "agent", "spec")
    assert made.problem == "spec.windows[1].name: office is there twice"


def test_zones_are_those_of_the_database_and_no_files() -> None:
    for name in ("../../etc/passwd", "/etc/localtime", "localtime", "", "Europe/", "europe/berlin"):
        assert ZONES(name) is None
    assert ZONES("Europe/Berlin") is ZONES("Europe/Berlin")
