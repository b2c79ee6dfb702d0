"""Amount per time of the whole agent: spend per day, calls per hour. Facts, not estimates."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from phasegate.engine.amounts import Amount
from phasegate.engine.kinds.base import Bound
from phasegate.engine.packing import Floats
from phasegate.engine.prices import Priced
from phasegate.engine.selectors import Selector
from phasegate.engine.verdict import CheckLevel, CheckVerdict
from phasegate.engine.windows import Counts


@dataclass(frozen=True, slots=True)
class AmountCheck:
    """What candidate and baseline together add in a window: a sum that has happened."""

    name: str
    metric: str
    amount: Amount | Priced
    per_seconds: float
    """Levels are amounts per this time: 86400 for a day, 3600 for an hour."""
    unit: str = ""
    limit: Bound | None = None
    """Breached when the trailing `per_seconds` have really added more."""
    gate: Bound | None = None
    alert: Bound | None = None
    """Breached already when the trailing hour, at this pace, would."""
    spike: float | None = None
    """Alert when the latest minutes add this many times what the phase added before (per time)."""
    calls: Selector | None = None
    """What counts calls: tells what the candidate would add if it answered all of them."""
    warm_up: float = 0.0
    late: bool = False

    @property
    def level(self) -> CheckLevel:
        """The most that a breach can do."""
        if self.limit is not None:
            return "rollback"
        if self.gate is not None:
            return "gate"
        return "alert" if self.alert is not None or self.spike is not None else "info"

    def selectors(self) -> tuple[Selector, ...]:
        """Series that must be fetched."""
        return self.amount.selectors() + (() if self.calls is None else (self.calls,))

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The parts a series belongs to."""
        found = self.amount.parts(name, labels)
        if self.calls is not None and self.calls.accepts(name, labels):
            return tuple(dict.fromkeys((*found, str(self.calls))))
        return found

    def tests(self, level: Literal["rollback", "alert"]) -> int:
        """None: a sum is not an estimate."""
        return 0


_NUMBERS: Final = 5
"""Of a bin: its number, and the four of Counts."""


@dataclass(slots=True)
class Bins:
    """Sums of both arms in bins of `width` seconds from `start` on: the latest `keep` of them.

    In Counts, `bad` holds amounts and `total` calls.
    """

    start: float
    width: float
    keep: int
    numbers: Floats = field(default_factory=list)

    def add(self, since: float, at: float, counts: Counts) -> list[Counts]:
        """Add what was added in (since, at], evenly; returns the bins that fell out.

        After a gap that is more than one bin's: what came in it must not look like a spike.
        """
        since, last = max(since, self.start), self._index(at)
        first = min(math.floor((since - self.start) / self.width), last)
        gone = []
        for index in range(first, last + 1):
            begin, end = max(since, self._edge(index)), min(at, self._edge(index + 1))
            share = (end - begin) / (at - since) if at > since else 1.0
            gone += self._put(index, Counts(*(share * count for count in counts)))
        return gone

    def _put(self, index: int, counts: Counts) -> list[Counts]:
        numbers = self.numbers
        if numbers and numbers[-_NUMBERS] == index:
            for offset, value in enumerate(counts, start=1 - _NUMBERS):
                numbers[offset] += value
        else:
            numbers.extend((float(index), *counts))
        gone = []
        while numbers[0] <= index - self.keep:
            gone.append(Counts(*numbers[1:_NUMBERS]))
            del numbers[:_NUMBERS]
        return gone

    def _edge(self, index: int) -> float:
        return self.start + index * self.width

    def _index(self, at: float) -> int:
        """The bin of a time; a bin contains its end."""
        return math.ceil((at - self.start) / self.width) - 1

    def since(self, at: float, bins: int) -> tuple[float, Counts]:
        """Seconds covered by the latest `bins` as of a time, and their sums."""
        first = max(0, self._index(at) - bins + 1)
        begin = bisect_left(self.numbers[::_NUMBERS], first) * _NUMBERS
        sums = (sum(self.numbers[begin + k :: _NUMBERS]) for k in range(1, _NUMBERS))
        return at - self._edge(first), Counts(*sums)

    def copy(self) -> Bins:
        """An independent copy."""
        return Bins(self.start, self.width, self.keep, self.numbers[:])


@dataclass(slots=True)
class AmountState:
    """All that a check of an amount remembers."""

    period: Bins
    """The trailing `per_seconds`."""
    recent: Bins
    """What a forecast rests on."""
    latest: Bins
    """What may be a spike."""
    before: float = 0.0
    """What both arms added before that, and the sum of its bins' squares."""
    before_squares: float = 0.0
    before_busy: float = 0.0
    """Bins with anything in them."""
    phase: Counts = field(default_factory=Counts)
    at: float = 0.0
    baseline_fresh: bool = False
    over_since: float | None = None
    """Since when the forecast has been beyond the alert level."""
    unpriced: tuple[str, ...] = ()
    failed: tuple[CheckVerdict, ...] = ()

    def copy(self) -> AmountState:
        """An independent copy."""
        return AmountState(
            self.period.copy(),
            self.recent.copy(),
            self.latest.copy(),
            self.before,
            self.before_squares,
            self.before_busy,
            self.phase,
            self.at,
            self.baseline_fresh,
            self.over_since,
            self.unpriced,
            self.failed,
        )
