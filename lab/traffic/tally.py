"""What users got: counts by revision and outcome, and latencies. Pure, no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NO_REVISION = "-"
"""Stands for the revision of an answer that names none: it is not an agent's answer."""


@dataclass(frozen=True)
class Result:
    """One request's end.

    `sent` and `done` are seconds since the epoch. `status` is the HTTP status, 0 where there was no
    answer. `outcome` is the agent's own word; without one `http-<status>`, `timeout` or
    `unreachable`.
    """

    sent: float
    done: float
    revision: str
    outcome: str
    status: int

    @property
    def latency_ms(self) -> float:
        """Time from sending to the end of the answer, in milliseconds."""
        return (self.done - self.sent) * 1000

    def record(self) -> dict[str, Any]:
        """Return the result as one JSON line's content; times to the microsecond."""
        return {
            "t": round(self.sent, 6),
            "t_done": round(self.done, 6),
            "revision": self.revision,
            "outcome": self.outcome,
            "status": self.status,
            "latency_ms": round(self.latency_ms, 3),
        }


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the smallest value with at least `share` of all at or below it; None of none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


Key = tuple[str, str, int]


@dataclass
class Tally:
    """Counts by (revision, outcome, status), with latencies on a scale of 2 % steps."""

    counts: Counter[Key] = field(default_factory=Counter)
    last_done: dict[str, float] = field(default_factory=dict)
    _latencies: dict[str, Counter[int]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count one result."""
        self.counts[result.revision, result.outcome, result.status] += 1
        last = self.last_done.get(result.revision, 0.0)
        self.last_done[result.revision] = max(last, result.done)
        step = round(math.log(max(result.latency_ms, 0.01)) / math.log(1.02))
        self._latencies.setdefault(result.revision, Counter())[step] += 1

    @property
    def total(self) -> int:
        """How many results there are."""
        return self.counts.total()

    def latency_ms(self, revision: str, share: float) -> float | None:
        """Return a quantile of a revision's latencies in milliseconds, to 1 %; None of none."""
        steps = self._latencies.get(revision, Counter())
        needed, seen = math.ceil(share * steps.total()), 0
        for step in sorted(steps):
            seen += steps[step]
            if seen >= needed:
                return round(1.02**step, 2)
        return None

    def revisions(self) -> dict[str, Counter[str]]:
        """Return outcomes by revision, the busiest revision first."""
        found: dict[str, Counter[str]] = {}
        for (revision, outcome, _), count in self.counts.items():
            found.setdefault(revision, Counter())[outcome] += count
        return dict(sorted(found.items(), key=lambda item: -item[1].total()))

    def summary(self) -> dict[str, Any]:
        """Return everything as JSON: counts by revision and outcome, shares, latencies, last."""
        return {
            "total": self.total,
            "results": [
                {"revision": revision, "outcome": outcome, "status": status, "count": count}
                for (revision, outcome, status), count in sorted(self.counts.items())
            ],
            "revisions": {name: self._revision(name, o) for name, o in self.revisions().items()},
        }

    def _revision(self, name: str, outcomes: Mapping[str, int]) -> dict[str, Any]:
        count = sum(outcomes.values())
        return {
            "count": count,
            "share": round(count / self.total, 6),
            "outcomes": dict(outcomes),
            "p50_ms": self.latency_ms(name, 0.5),
            "p95_ms": self.latency_ms(name, 0.95),
            "last_done": round(self.last_done[name], 6),
        }


def line(second: Iterable[Result], behind: int) -> str:
    """Return one line about the results of the last second; `behind`: requests not sent."""
    tally, results = Tally(), list(second)
    for result in results:
        tally.add(result)
    parts = [
        f"{name} " + " ".join(f"{outcome}={count}" for outcome, count in outcomes.most_common())
        for name, outcomes in tally.revisions().items()
    ]
    latencies = [result.latency_ms for result in results]
    p50, p95 = quantile(latencies, 0.5), quantile(latencies, 0.95)
    times = "" if p50 is None else f"  p50 {p50:.0f} ms  p95 {p95:.0f} ms"
    unsent = f"  {behind} not sent: too many in flight" if behind else ""
    return f"{len(results):4d}/s  {' | '.join(parts) or 'no answers'}{times}{unsent}"


def table(tally: Tally) -> str:
    """Return the final table: a row per revision and outcome."""
    rows = [("revision", "outcome", "count", "share", "p50 ms", "p95 ms")]
    for name, outcomes in tally.revisions().items():
        p50, p95 = tally.latency_ms(name, 0.5), tally.latency_ms(name, 0.95)
        times = (f"{p50:.0f}", f"{p95:.0f}")
        for place, (outcome, count) in enumerate(outcomes.most_common()):
            share = f"{100 * count / tally.total:.2f}%"
            # A revision's name and latencies stand once, in its first row.
            first = (name, *times) if place == 0 else ("", "", "")
            rows.append((first[0], outcome, str(count), share, *first[1:]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
