"""Histograms of both arms: edges found in the data, counts over stretches of time, quantiles.

A *vector* holds one arm's calls: at each edge those that lasted at most so long, then all of them.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import add, le, sub
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

from phasegate.engine.eprocess import NEVER, RATE_GRID, Grid, log_factors, logsumexp
from phasegate.engine.packing import Floats
from phasegate.engine.samples import Arm

Vector = Sequence[float]

_TORN_SECONDS: Final = 3600.0
"""How long an edge is left alone after counts that contradict each other."""
_ROWS: Final = 16
_FEWEST_ROWS: Final = 8
_NUMBERS: Final = 800
"""Numbers in all rows: with many edges there are fewer rows."""
_ROW_SECONDS: Final = 15.0
_SAME: Final = 1e-9
_SIDE: Final = math.log(40.0)
"""Each side of an interval errs with a probability of 1/40."""
_MIRRORED: Final = RATE_GRID.mirrored()


def _written(rows: Sequence[Sequence[float]]) -> str:
    if not rows:
        return ""
    text = ";".join(",".join(map(_number, row)) for row in rows)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value:
        return []
    try:
        text = zlib.decompress(base64.b64decode(value, validate=True)).decode("ascii")
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"packed counts cannot be read: {error}") from error
    return [tuple(map(float, row.split(","))) for row in text.split(";") if row]


def _list(value: Any) -> Any:
    return [number for row in _read(value) for number in row] if isinstance(value, str) else value


Numbers = Annotated[
    list[float],
    BeforeValidator(_list),
    PlainSerializer(lambda numbers: _written([numbers] if numbers else []), when_used="json"),
]
"""A list of short decimal numbers that pydantic dumps to JSON as one string."""
Tallies = Annotated[
    list[tuple[float, ...]], BeforeValidator(_read), PlainSerializer(_written, when_used="json")
]
"""Rows of counts that pydantic dumps to JSON as one string: whole numbers are shorter as text."""


@dataclass(slots=True)
class Edges:
    """Finite upper edges of buckets, ascending, as the series of either arm show them."""

    values: Numbers = field(default_factory=list)
    candidate: Floats = field(default_factory=list)
    """1 where the candidate has the edge, else 0."""
    baseline: Floats = field(default_factory=list)
    torn: Floats = field(default_factory=list)
    """When counts last contradicted each other at the edge: not every pod of an arm has it."""

    def knows(self, edge: float, arm: Arm) -> bool:
        """Whether it is known that an arm has an edge."""
        at = bisect_left(self.values, edge)
        known = self.candidate if arm == "candidate" else self.baseline
        return at < len(self.values) and self.values[at] == edge and known[at] > 0

    def learn(self, edge: float, arm: Arm) -> int | None:
        """Note that an arm has an edge; where it was put in if it is new."""
        at = bisect_left(self.values, edge)
        new = at == len(self.values) or self.values[at] != edge
        if new:
            self.values.insert(at, edge)
            self.candidate.insert(at, 0.0)
            self.baseline.insert(at, 0.0)
            self.torn.insert(at, NEVER)
        (self.candidate if arm == "candidate" else self.baseline)[at] = 1.0
        return at if new else None

    def vector(self, arm: Arm, counts: Sequence[float], at: float) -> tuple[list[float], bool]:
        """A step's increments (at each edge, then all calls) without contradictions.

        What lasted at most 1 s cannot be more than what lasted at most 2 s. If it is, not every pod
        has the edge of 2 s: then it is not used for an hour. True: that has just begun.
        """
        if all(map(le, counts, counts[1:])):
            return list(counts), False
        return self._whole(arm, counts, at)

    def _whole(self, arm: Arm, counts: Sequence[float], at: float) -> tuple[list[float], bool]:
        known = self.candidate if arm == "candidate" else self.baseline
        *below, total = counts
        found: list[float] = []
        top, began = 0.0, False
        for i, count in enumerate(below):
            if count < top:
                if known[i]:
                    began = began or at - self.torn[i] > _TORN_SECONDS
                    self.torn[i] = at
            else:
                top = min(count, total)
            found.append(top)
        found.append(total)
        return found, began

    def usable(self, at: float, *arms: Arm) -> list[int]:
        """Places of the edges that all these arms have, and have had whole for an hour."""
        who = [self.candidate if arm == "candidate" else self.baseline for arm in arms]
        return [
            i
            for i, torn in enumerate(self.torn)
            if at - torn > _TORN_SECONDS and all(known[i] for known in who)
        ]

    def copy(self) -> Edges:
        """An independent copy."""
        return Edges(self.values[:], self.candidate[:], self.baseline[:], self.torn[:])


@dataclass(slots=True)
class History:
    """Calls of both arms over time: fine steps for what is recent, coarse ones for what is old.

    When there are too many rows, the two neighbours become one that are shortest for their age:
    with n rows, starts are kept to a factor of about (duration / 15 s)^(1/n) of their age.
    """

    rows: Tallies = field(default_factory=list)
    """(start, calls by bucket of the candidate, of the baseline)."""
    at: float = NEVER
    """The end of the last row."""

    def add(self, since: float, at: float, candidate: Vector, baseline: Vector) -> None:
        """Add the vectors of a step from `since` to `at`."""
        rows, self.at = self.rows, at
        both = _by_bucket(candidate) + _by_bucket(baseline)
        if rows and since - rows[-1][0] < _ROW_SECONDS:
            rows[-1] = (rows[-1][0], *map(add, rows[-1][1:], both))
            return
        rows.append((since, *both))
        if len(rows) > min(_ROWS, max(_FEWEST_ROWS, _NUMBERS // len(rows[-1]))):
            i = min(
                range(len(rows) - 2),
                key=lambda i: (rows[i + 2][0] - rows[i][0]) / (at - rows[i][0]),
            )
            rows[i : i + 2] = [(rows[i][0], *map(add, rows[i][1:], rows[i + 1][1:]))]

    def since(self, start: float) -> tuple[float, Vector, Vector] | None:
        """Both arms' vectors from about `start` on, with the time they begin at."""
        rows = self.rows
        if not rows:
            return None
        first = min(range(len(rows)), key=lambda i: abs(rows[i][0] - start))
        both = [sum(column) for column in zip(*rows[first:], strict=True)][1:]
        half = len(both) // 2
        return rows[first][0], list(accumulate(both[:half])), list(accumulate(both[half:]))

    def widen(self, at: int) -> None:
        """Make room for a new edge at a place: calls stay in the bucket below the next edge."""
        for i, (start, *both) in enumerate(self.rows):
            both.insert(len(both) // 2 + at, 0.0)
            both.insert(at, 0.0)
            self.rows[i] = (start, *both)

    def copy(self) -> History:
        """An independent copy."""
        return History(self.rows[:], self.at)


def _by_bucket(vector: Vector) -> list[float]:
    return [vector[0], *map(sub, vector[1:], vector)]


def widened(vector: Vector, at: int) -> list[float]:
    """The vector with a new edge at a place: until now nobody has counted there."""
    return [*vector[:at], vector[at - 1] if at else 0.0, *vector[at:]]


def quantile(q: float, edges: Sequence[float], vector: Vector, places: Sequence[int]) -> float:
    """The q-quantile of a vector with calls, from the edges at `places` (there must be one).

    Within a bucket latencies are taken to be evenly spread over the logarithm (from zero: over the
    value). Beyond the last edge nothing is known: the last edge, as Prometheus does it.
    """
    rank = q * vector[-1]
    i = bisect_left(places, rank, key=vector.__getitem__)
    if i == len(places):
        return edges[places[-1]]
    before = vector[places[i - 1]] if i else 0.0
    low, high = edges[places[i - 1]] if i else 0.0, edges[places[i]]
    return _between(low, high, (rank - before) / (vector[places[i]] - before))


def quantile_bucket(
    q: float, edges: Sequence[float], vector: Vector, places: Sequence[int]
) -> tuple[float, float]:
    """The edges around a quantile that is not beyond the last one; zero below the first."""
    i = bisect_left(places, q * vector[-1], key=vector.__getitem__)
    return edges[places[i - 1]] if i else 0.0, edges[places[i]]


def _between(low: float, high: float, share: float) -> float:
    if low <= 0:
        return low + (high - low) * share
    return low * math.pow(high / low, share)


def share_above(low: float, high: float, value: float) -> float:
    """The share of a bucket's calls above a value within it, spread as in `quantile`."""
    if low <= 0:
        return (high - value) / (high - low)
    return math.log(high / value) / math.log(high / low)


def at_or_above(level: float, edges: Sequence[float], places: Sequence[int]) -> int | None:
    """Place of the first edge that is not below a level."""
    return next((i for i in places if edges[i] >= level * (1 - _SAME)), None)


def at_or_below(level: float, edges: Sequence[float], places: Sequence[int]) -> int | None:
    """Place of the last edge that is not above a level."""
    return next((i for i in reversed(places) if edges[i] <= level * (1 + _SAME)), None)


def counts_at(parts: Sequence[str], increments: Mapping[str, float]) -> list[float]:
    """Increments of the given parts; absent is zero."""
    return [increments.get(part, 0.0) for part in parts]


def quantile_interval(
    q: float, edges: Sequence[float], vector: Vector, places: Sequence[int], phi: float = 1.0
) -> tuple[float, float | None]:
    """95 % anytime-valid interval of the q-quantile, out to the next edges; None: no upper end.

    The last edge above which provably more than 1-q of the calls are, and the first one above which
    provably fewer are: the tests of `intervals.rate_interval`, each at one edge.
    """
    rank, odds = q * vector[-1], (1 - q) / q
    middle = bisect_left(places, rank, key=vector.__getitem__)

    def excluded(grid: Grid, costs: Sequence[float], place: int) -> bool:
        slow = vector[-1] - vector[place]
        factors = log_factors(slow / phi, vector[-1] / phi, costs, grid)
        return logsumexp(factors) - math.log(len(factors)) >= _SIDE

    costs, mirrored = RATE_GRID.costs(odds), _MIRRORED.costs(odds)
    below = bisect_left(
        places, True, hi=middle, key=lambda place: not excluded(RATE_GRID, costs, place)
    )
    beyond = bisect_left(
        places, True, lo=middle, key=lambda place: excluded(_MIRRORED, mirrored, place)
    )
    low = edges[places[below - 1]] if below else 0.0
    return low, edges[places[beyond]] if beyond < len(places) else None
