"""Mean of an amount per call: against a level (absolute) and against the baseline (relative)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer

from phasegate.engine.amounts import Amount
from phasegate.engine.betting import Moments
from phasegate.engine.eprocess import Clearance
from phasegate.engine.kinds.base import Bound, level_of, reference_of
from phasegate.engine.kinds.ratio import Relative
from phasegate.engine.packing import pack, unpack
from phasegate.engine.prices import Priced
from phasegate.engine.selectors import Selector
from phasegate.engine.trial import Trial
from phasegate.engine.verdict import CheckLevel, CheckVerdict
from phasegate.engine.windows import Counts


@dataclass(frozen=True, slots=True)
class MeanCheck:
    """An amount per call: cost and tokens (more is worse), scores (less is worse).

    Raises ValueError for a score without `top`: how much is lost cannot be told.
    """

    name: str
    metric: str
    sum: Amount | Priced
    count: Amount
    worse: Literal["above", "below"] = "above"
    top: float | None = None
    """Highest value of a single call where there is one (5 for a score of 0 to 5)."""
    unit: str = ""
    """Shown behind values: ``USD``, ``tokens``."""
    limit: Bound | None = None
    gate: Bound | None = None
    alert: Bound | None = None
    relative: Relative | None = None
    """Ratio of the means. Below one where less is worse: limit 0.9, tolerate 0.975, excluded 0.8."""
    min_samples: int | None = None
    warm_up: float = 0.0
    late: bool = False

    def __post_init__(self) -> None:
        if self.worse == "below" and self.top is None:
            raise ValueError(f"{self.name}: a mean of which less is worse needs its top")

    @property
    def level(self) -> CheckLevel:
        """The most that the mean may do. The ratio to the baseline always takes back."""
        return level_of(self.limit, self.gate)

    @property
    def reference(self) -> Bound | None:
        """The level that is tested: the rollback level, else where the gate ends."""
        return reference_of(self.limit, self.gate)

    def loss(self, value: float, calls: float = 1.0) -> float:
        """What `calls` calls that sum up to `value` lose, larger is worse; and back again.

        A cost is a loss; a score loses what it lacks of its top.
        """
        if self.worse == "above" or self.top is None:
            return value
        return self.top * calls - value

    def selectors(self) -> tuple[Selector, ...]:
        """Series that must be fetched."""
        return (*self.sum.selectors(), *self.count.selectors())

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The parts a series belongs to."""
        return (*self.sum.parts(name, labels), *self.count.parts(name, labels))

    def tests(self, level: Literal["rollback", "alert"]) -> int:
        """Tests against chance that share the error rate of `level`."""
        if level == "alert":
            return int(self.alert is not None)
        return int(self.limit is not None) + int(self.relative is not None)


def _read(value: Any) -> Any:
    return tuple(unpack(value)) if isinstance(value, str) else value


PackedMoments = Annotated[Moments, BeforeValidator(_read), PlainSerializer(pack, when_used="json")]
"""Moments that are dumped to JSON as one short string and loaded back exactly."""


@dataclass(slots=True)
class MeanState:
    """All that a check of a mean remembers. In Counts, `bad` holds amounts (`rate` is the mean)."""

    trials: dict[str, Trial]
    """Evidence against the candidate: level, ratio, alert."""
    clear: dict[str, Clearance]
    """Evidence for it: level, ratio."""
    phase: Counts = field(default_factory=Counts)
    unpaired: Counts = field(default_factory=Counts)
    """Calls of one arm that wait for what is known of the other."""
    loose: float = 0.0
    """An amount of the candidate whose call has not been counted yet."""
    own: PackedMoments = field(default_factory=Moments)
    """The candidate's losses."""
    recent: PackedMoments = field(default_factory=Moments)
    """The baseline's losses of about the last half hour."""
    longer: PackedMoments = field(default_factory=Moments)
    """The baseline's losses of about the last day."""
    baseline_fresh: bool = False
    baseline_seen: bool = False
    unpriced: tuple[str, ...] = ()
    """Models that no price is known of: from the first such token on, nothing is decided."""
    failed: tuple[CheckVerdict, ...] = ()

    def copy(self) -> MeanState:
        """An independent copy."""
        return MeanState(
            {name: trial.copy() for name, trial in self.trials.items()},
            {name: clearance.copy() for name, clearance in self.clear.items()},
            self.phase,
            self.unpaired,
            self.loose,
            self.own,
            self.recent,
            self.longer,
            self.baseline_fresh,
            self.baseline_seen,
            self.unpriced,
            self.failed,
        )
