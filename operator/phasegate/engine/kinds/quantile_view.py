"""What a quantile check looks at until it looks at the baseline anew: edges, levels, comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phasegate.engine.histograms import Vector, at_or_above, at_or_below
from phasegate.engine.kinds.base import Bound
from phasegate.engine.kinds.quantile import QuantileCheck, QuantileState
from phasegate.engine.ordering import FEWEST, Cut, Ordering, above, compare, cut, survival
from phasegate.engine.windows import Counts

Interval = tuple[float, float | None]
"""From an edge to an edge; None: without an upper end."""


@dataclass(frozen=True, slots=True)
class Line:
    """An edge at which calls count as slow, and where it lies among the baseline's edges."""

    place: int
    edge: float
    baseline: Cut | None
    """None: beyond all edges that the baseline has."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a ratio to the baseline is excluded: the null is p_c >= share · p_b(edge / ratio)."""

    place: int
    baseline: Cut
    share: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Calls of both arms over one stretch of time, with their quantiles."""

    since: float
    candidate: Vector
    baseline: Vector
    own: float | None
    """The candidate's quantile, interpolated within a bucket; None: no calls, or no edges."""
    theirs: float | None
    """The baseline's."""
    compared: float | None
    """The baseline's on the edges both arms have."""
    ratio: float | None
    """Ratio of the quantiles on these edges."""
    bounds: Interval | None = None
    """95 % anytime-valid interval of the candidate's quantile, where one is asked for."""


@dataclass(frozen=True, slots=True)
class View:
    """See the module. Places are those of the state's edges."""

    own: tuple[int, ...]
    """Edges of the candidate."""
    theirs: tuple[int, ...]
    """Edges of the baseline."""
    common: tuple[int, ...]
    limit: Line | None
    """Where the level is tested: the first edge that is not below it."""
    alert: Line | None
    cleared: Line | None
    """Where the level is excluded: the last edge that is not above it."""
    ordering: Ordering | None
    """None: too little is known of the baseline."""
    mirror: Mirror | None

    def line(self, edges: Sequence[float], place: int) -> Line:
        """The line at an edge of the candidate."""
        return Line(place, edges[place], _cut(edges[place], edges, self.theirs))

    def counts(self, line: Line | None, candidate: Vector, baseline: Vector) -> Counts:
        """Calls above a line; without a line all calls and none of them slow."""
        if line is None:
            return Counts(0.0, candidate[-1], 0.0, baseline[-1])
        slow = candidate[-1] - candidate[line.place]
        if line.baseline is None:
            return Counts(slow, candidate[-1])
        return Counts(
            slow, candidate[-1], above(line.baseline, baseline, self.theirs), baseline[-1]
        )

    def paired(self, mirror: Mirror, candidate: Vector, baseline: Vector) -> Counts:
        """Calls above the mirror's edge, and the baseline's above the edge divided by the ratio."""
        slow = candidate[-1] - candidate[mirror.place]
        return Counts(
            slow, candidate[-1], above(mirror.baseline, baseline, self.common), baseline[-1]
        )


def look(spec: QuantileCheck, state: QuantileState) -> View:
    """The view as of the state's `looked_at`."""
    edges, at = state.edges, state.looked_at
    own = edges.usable(at, "candidate")
    theirs = edges.usable(at, "baseline")
    common = edges.usable(at, "candidate", "baseline")
    known = state.past[-1] >= FEWEST
    relative = spec.relative

    def line(level: Bound | None, *, below: bool = False) -> Line | None:
        if level is None:
            return None
        find = at_or_below if below else at_or_above
        place = find(level.value, edges.values, own)
        if place is None:
            return None
        return Line(place, edges.values[place], _cut(edges.values[place], edges.values, theirs))

    return View(
        own=tuple(own),
        theirs=tuple(theirs),
        common=tuple(common),
        limit=line(spec.reference),
        alert=line(spec.alert),
        cleared=line(spec.reference, below=True),
        ordering=compare(spec.q, spec.tolerate, edges.values, common, state.past)
        if known and common
        else None,
        mirror=_mirror(spec.q, relative.excluded, edges.values, common, state.past)
        if known and relative is not None
        else None,
    )


def _cut(value: float, edges: Sequence[float], places: Sequence[int]) -> Cut | None:
    if not places or edges[places[-1]] < value:
        return None
    return cut(value, edges, places)


def _mirror(
    q: float, ratio: float, edges: Sequence[float], places: Sequence[int], past: Vector
) -> Mirror | None:
    """The last edge that the candidate's quantile would reach if it were `ratio` times as high.

    There the stretched baseline has a share of slow calls of at least 1-q, by a known factor.
    """
    found = None
    for place in places:
        at = cut(edges[place] / ratio, edges, places)
        share = survival(at, past, places)
        if share < 1 - q:
            break
        found = Mirror(place, at, (1 - q) / share)
    return found
