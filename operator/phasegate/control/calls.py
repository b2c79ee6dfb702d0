"""How many calls each arm really answered: what is compared with the split that was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from phasegate.engine.samples import Arm, Series, usable
from phasegate.engine.selectors import Selector
from phasegate.rollout.observed import Measured


class CallCounter:
    """Increments of the calls counter since `begin`, by arm; before, values are only remembered.

    Per raw series: a value below the last is a reset. A series that appears later began at 0; what
    the series of the first reading had counted before is not known, so they begin with what they
    show. So do `lasting` ones, which outlive revisions, of a process that was not seen before.
    """

    def __init__(self, counted: Selector, *, lasting: bool = False) -> None:
        self._counted = counted
        self._since: float | None = None
        self._lasting = lasting
        self._targets: set[str] = set()
        self._last: dict[str, tuple[float, float]] = {}
        self._calls: dict[Arm, float] = {"candidate": 0.0, "baseline": 0.0}
        self._first_reading = True

    def begin(self, since: float) -> None:
        """Count from this time on (unix seconds), from 0; nothing happens if that is so already."""
        if self._since != since:
            self._since = since
            self._calls = dict.fromkeys(self._calls, 0.0)

    def measured(self) -> Measured | None:
        """Calls so far; None before `begin`."""
        if self._since is None:
            return None
        return Measured(candidate=self._calls["candidate"], stable=self._calls["baseline"])

    def add(self, reading: Iterable[Series]) -> None:
        """One reading of all series; samples that were counted before do not count again."""
        mine = [s for s in reading if self._counted.accepts(s.name, dict(s.labels))]
        for series in mine:
            self._add(series)
        self._targets |= {series.target for series in mine}
        self._first_reading = self._first_reading and not mine

    def _add(self, series: Series) -> None:
        key = series.key
        for at, value in sorted(series.samples):
            last = self._last.get(key)
            if not usable(at, value, counter=True) or (last is not None and at <= last[0]):
                continue
            self._last[key] = (at, value)
            if self._since is None or at <= self._since:
                continue
            if last is None:
                self._calls[series.arm] += value if self._born(series) else 0.0
            else:
                self._calls[series.arm] += value - last[1] if value >= last[1] else value

    def _born(self, series: Series) -> bool:
        """Whether a series that is seen for the first time began at 0 since then."""
        if self._lasting:
            return series.target in self._targets
        return not self._first_reading
