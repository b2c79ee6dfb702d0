"""How many calls each arm really answered: what is compared with the split that was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from phasegate.engine.samples import Arm, Series, usable
from phasegate.rollout.observed import Measured


class CallCounter:
    """Increments of the calls counter after `since` (unix seconds), by arm.

    Per raw series: a value below the last is a reset. A series that appears later began at 0; what
    the series of the first reading had counted before is not known, so they begin with what they
    show.
    """

    def __init__(self, name: str, since: float) -> None:
        self._name = name
        self._since = since
        self._last: dict[str, tuple[float, float]] = {}
        self._calls: dict[Arm, float] = {"candidate": 0.0, "baseline": 0.0}
        self._first_reading = True

    @property
    def since(self) -> float:
        """When counting began."""
        return self._since

    def measured(self) -> Measured:
        """Calls so far."""
        return Measured(candidate=self._calls["candidate"], stable=self._calls["baseline"])

    def add(self, reading: Iterable[Series]) -> None:
        """One reading of all series; samples that were counted before do not count again."""
        for series in reading:
            if series.name == self._name:
                self._add(series)
        self._first_reading = False

    def _add(self, series: Series) -> None:
        for at, value in sorted(series.samples):
            last = self._last.get(series.key)
            if not usable(at, value, counter=True) or (last is not None and at <= last[0]):
                continue
            self._last[series.key] = (at, value)
            if at <= self._since:
                continue
            if last is None:
                self._calls[series.arm] += 0.0 if self._first_reading else value
            else:
                self._calls[series.arm] += value - last[1] if value >= last[1] else value
