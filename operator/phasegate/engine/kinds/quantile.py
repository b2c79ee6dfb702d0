"""Quantile of a histogram: against a level (absolute) and against the baseline (relative)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from phasegate.engine.eprocess import NEVER, Clearance
from phasegate.engine.histograms import Edges, History
from phasegate.engine.kinds.base import Bound, level_of, reference_of
from phasegate.engine.kinds.ratio import Relative
from phasegate.engine.packing import Floats
from phasegate.engine.selectors import Selector
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckLevel, CheckVerdict

SHARED_CAUSE_STRETCH: Final = 1.1
"""Within this ratio of latencies to the baseline the candidate is not to blame for a breach."""


@dataclass(frozen=True, slots=True)
class QuantileCheck:
    """A quantile of a histogram; higher is worse. Levels are in the metric's unit (seconds)."""

    name: str
    metric: str
    histogram: Selector
    """Its name without ``_bucket``; conditions hold for the buckets' labels besides ``le``."""
    q: float
    """Between 0 and 1: 0.95 for p95."""
    scale: float = 1.0
    """Units per unit of ``le``: 0.001 for seconds from a histogram in milliseconds."""
    limit: Bound | None = None
    gate: Bound | None = None
    alert: Bound | None = None
    relative: Relative | None = None
    """Ratio of the quantiles; `slack` is not used."""
    min_samples: int | None = None
    warm_up: float = 0.0
    late: bool = False

    @property
    def level(self) -> CheckLevel:
        """The most that the quantile may do. The ratio to the baseline always takes back."""
        return level_of(self.limit, self.gate)

    @property
    def reference(self) -> Bound | None:
        """The quantile that is tested: the rollback level, else where the gate ends."""
        return reference_of(self.limit, self.gate)

    @property
    def tolerate(self) -> float:
        """Latencies longer than the baseline's by this factor are still as good."""
        return SHARED_CAUSE_STRETCH if self.relative is None else self.relative.tolerate

    def selectors(self) -> tuple[Selector, ...]:
        """Series that must be fetched: the buckets, or the native histogram they are made of."""
        matchers = self.histogram.matchers
        return (Selector(f"{self.histogram.name}_bucket", matchers), self.histogram)

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """One part for each upper edge of a bucket: ``<histogram>|<edge in the metric's unit>``."""
        bucket = self.selectors()[0]
        if "le" not in labels or not bucket.accepts(name, labels):
            return ()
        try:
            edge = float(labels["le"])
        except ValueError:
            return ()
        return () if math.isnan(edge) else (self.part(edge * self.scale),)

    def part(self, edge: float) -> str:
        """The part of an edge in the metric's unit."""
        return f"{self.histogram}|{edge!r}"

    def tests(self, level: Literal["rollback", "alert"]) -> int:
        """Tests against chance that share the error rate of `level`."""
        if level == "alert":
            return int(self.alert is not None)
        return int(self.limit is not None) + int(self.relative is not None)


@dataclass(slots=True)
class QuantileState:
    """All that a quantile check remembers. Vectors: see histograms.py."""

    trials: dict[str, Trial]
    """Evidence against the candidate: rate (of calls above the level), alert, ratio."""
    clear: dict[str, Clearance]
    """Evidence for it: rate, ratio."""
    edges: Edges = field(default_factory=Edges)
    history: History = field(default_factory=History)
    phase: Floats = field(default_factory=lambda: [0.0, 0.0])
    """Both arms' vectors of the whole phase, one after the other."""
    waiting: Floats = field(default_factory=lambda: [0.0, 0.0])
    """Those of steps in which one arm had no calls."""
    past: Floats = field(default_factory=lambda: [0.0])
    """The baseline's vector of the last hour or so, as of the last look at it."""
    coming: Floats = field(default_factory=lambda: [0.0])
    """What has been added to it since."""
    looked_at: float = NEVER
    baseline_fresh: bool = False
    baseline_seen: bool = False
    failed: tuple[CheckVerdict, ...] = ()

    def copy(self) -> QuantileState:
        """An independent copy."""
        return QuantileState(
            {name: trial.copy() for name, trial in self.trials.items()},
            {name: clearance.copy() for name, clearance in self.clear.items()},
            self.edges.copy(),
            self.history.copy(),
            self.phase[:],
            self.waiting[:],
            self.past[:],
            self.coming[:],
            self.looked_at,
            self.baseline_fresh,
            self.baseline_seen,
            self.failed,
        )
