"""Levels of a metric: notation, side, and the order of gate, alert and rollback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from phasegate.api.errors import InvalidSpec
from phasegate.api.quantities import parse_duration, parse_percent, parse_seconds
from phasegate.api.rollbackpolicy import Level, Metric
from phasegate.engine.kinds.base import Bound

Side = Literal["above", "below"]
Read = Callable[[str], float]


@dataclass(frozen=True, slots=True)
class Levels:
    """The three levels of a metric, in its unit."""

    limit: Bound | None
    """The rollback level."""
    gate: Bound | None
    alert: Bound | None


def read_levels(metric: Metric, worse: Side, read: Read, *, windows: bool = True) -> Levels:
    """The levels as written; `worse` is the side that rollback and alert are on.

    Raises InvalidSpec for a wrong side, a wrong notation, and levels in the wrong order.
    """
    better: Side = "below" if worse == "above" else "above"
    limit = _bound(metric.rollback, "rollback", worse, read, windows=windows)
    gate = _bound(metric.gate, "gate", better, read, windows=windows)
    alert = _bound(metric.alert, "alert", worse, read, windows=windows)
    sign = 1 if worse == "above" else -1
    if limit is not None and gate is not None and sign * gate.value > sign * limit.value:
        raise InvalidSpec("the gate lets pass what is rolled back; make gate at least as strict")
    if limit is not None and alert is not None and sign * alert.value > sign * limit.value:
        raise InvalidSpec("alert lies beyond rollback and could never come first; make it stricter")
    return Levels(limit, gate, alert)


def _bound(
    level: Level | None, field: str, side: Side, read: Read, *, windows: bool
) -> Bound | None:
    if level is None:
        return None
    try:
        value = read(side_of(level, side))
    except InvalidSpec as error:
        raise InvalidSpec(f"{field}: {error}") from None
    if level.window is not None and not windows:
        raise InvalidSpec(f"{field}.window: its unit says over how long it counts; leave it out")
    return Bound(value, above=side == "above", window=_window(level, field))


def side_of(level: Level, side: Side) -> str:
    """The level's value, which must be on the given side."""
    other = "below" if side == "above" else "above"
    value, wrong = (level.above, level.below) if side == "above" else (level.below, level.above)
    if wrong is not None:
        raise InvalidSpec(f"{other} is the wrong side for this metric; write {side}")
    if value is None:
        raise InvalidSpec(f"needs {side}")
    return value


def _window(level: Level, field: str) -> float | None:
    if level.window is None:
        return None
    seconds = parse_duration(level.window).total_seconds()
    if seconds <= 0:
        raise InvalidSpec(f"{field}.window must be longer than zero; leave it out to use the onset")
    return seconds


def share(text: str) -> float:
    """``5%`` → 0.05."""
    if not text.endswith("%"):
        raise InvalidSpec(f"{text!r} is not a percentage; write a percentage such as 5%")
    value = parse_percent(text)
    if not 0 < value < 1:
        raise InvalidSpec(f"{text} cannot be tested; use event for what must never happen")
    return value


def seconds(text: str) -> float:
    """``800ms`` → 0.8."""
    value = parse_seconds(text)
    if value <= 0:
        raise InvalidSpec(f"{text} is no time an answer can take; write for example 3s")
    return value


def plain(unit: str) -> Read:
    """``0.5`` → 0.5, with the unit in the sentence."""
    words = f"a number, in {unit}," if unit else "a number"

    def read(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise InvalidSpec(f"{text!r} is not {words} such as '0.5'") from None

    return read
