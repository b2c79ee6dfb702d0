"""Calls that began and were not answered in time, from two counters per pod.

Counters do not say which call was answered. What is certain: of the calls that had begun a deadline
ago, at least as many are unanswered as the answers so far cannot account for. That is a lower bound:
a call that was answered in time is never counted, and one that hangs is seen once the pod's later
answers do not hide it any more (that is: not fewer calls hang than it answers within a deadline).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from phasegate.engine.eprocess import NEVER
from phasegate.engine.packing import Rows
from phasegate.engine.timeline import FORGET_SECONDS

_PODS: Final = 12
"""Pods of an arm that are followed, the first to come; more are not needed for a rate."""
_MARKS: Final = 8
_RESOLUTION: Final = 6
"""Marks are a sixth of the deadline apart at least."""


class Overdue(NamedTuple):
    """What a step added: calls whose deadline passed, and those of them that are unanswered."""

    bad: float = 0.0
    total: float = 0.0


class _Line(NamedTuple):
    """One pod's calls since it was first followed."""

    at: float
    begun: float = 0.0
    answered: float = 0.0
    due: float = 0.0
    """Calls begun more than a deadline ago."""
    late: float = 0.0
    """Calls counted as bad that may still be open."""
    marks: tuple[float, ...] = ()
    """Time and calls begun, alternating, the oldest first: the delay line."""

    def after(self, since: float, at: float, deadline: float, more: tuple[float, float]) -> _Line:
        """The line with what its pod's latest scrape added.

        The scrape lies between `since` and `at`, so what had begun by `since` - deadline is due.
        """
        begun, answered = self.begun + more[0], self.answered + more[1]
        marks, due = self.marks, self.due
        while marks and marks[0] <= since - deadline:
            due, marks = marks[1], marks[2:]
        late = min(self.late, max(0.0, begun - answered))
        late = max(late, due - answered)
        if not marks or at - marks[-2] >= deadline / _RESOLUTION:
            marks = (*marks, at, begun)
        if len(marks) > 2 * _MARKS:
            marks = (*marks[:2], *marks[4:])
        return _Line(at, begun, answered, due, late, marks)


@dataclass(slots=True)
class Pending:
    """The open calls of one arm's pods: bounded, and a pure function of the steps."""

    pods: list[str] = field(default_factory=list)
    lines: Rows = field(default_factory=list)
    """By pod: a line, its marks filled up to equal length."""

    def add(
        self, since: float, at: float, deadline: float, scraped: Mapping[str, tuple[float, float]]
    ) -> Overdue:
        """Add a step: calls begun and calls answered by each pod that was scraped (seconds)."""
        found = Overdue()
        for pod, more in scraped.items():
            place = self._place(pod, at)
            if place is None:
                continue
            before = _unflattened(self.lines[place])
            after = before.after(since, at, deadline, more)
            self.lines[place] = _flattened(after)
            still = min(before.late, max(0.0, after.begun - after.answered))
            bad, total = after.late - still, after.due - before.due
            # A call that was due before and turns out to be bad now counts as a call once more.
            found = Overdue(found.bad + bad, found.total + max(bad, total))
        return found

    def _place(self, pod: str, at: float) -> int | None:
        if pod in self.pods:
            return self.pods.index(pod)
        if len(self.pods) < _PODS:
            self.pods.append(pod)
            self.lines.append(_flattened(_Line(at)))
            return len(self.pods) - 1
        for place, line in enumerate(self.lines):
            if line[0] < at - FORGET_SECONDS:
                self.pods[place], self.lines[place] = pod, _flattened(_Line(at))
                return place
        return None

    def copy(self) -> Pending:
        """An independent copy."""
        return Pending(self.pods[:], self.lines[:])


def _flattened(line: _Line) -> tuple[float, ...]:
    *numbers, marks = line
    missing = 2 * _MARKS - len(marks)
    return (*numbers, *[NEVER] * missing, *marks)


def _unflattened(row: tuple[float, ...]) -> _Line:
    at, begun, answered, due, late, *rest = row
    marks = tuple(rest)
    empty = 0
    while empty < len(marks) and marks[empty] == NEVER:
        empty += 2
    return _Line(at, begun, answered, due, late, marks[empty:])
