"""What a forecast is made from, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

from phasegate.engine.forecast.walks import Pace, Wait
from phasegate.engine.kinds.base import Settings
from phasegate.engine.verdict import CheckLevel


@dataclass(frozen=True, slots=True)
class Usual:
    """A metric of the agent as it is today; what is None is assumed, and said to be."""

    per_call: float | None = None
    """What the metric counts for each call of the agent: 0.1 where every tenth is reviewed."""
    rate: float | None = None
    """Share of bad calls."""
    above: tuple[tuple[float, float], ...] = ()
    """Share of the calls above each finite edge of a histogram, in the metric's unit, ascending."""
    mean: float | None = None
    spread: float | None = None
    """Standard deviation of single calls, in means."""
    dispersion: float = 1.0
    absent: str = ""
    """Why there are no series of it, if there are none."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A phase, as its checks see it; calls per second."""

    settings: Settings
    candidate: float
    baseline: float
    scrape_seconds: float
    most_seconds: float | None
    """After so long a person has to decide; None: never."""

    def pace(self, usual: Usual) -> Pace:
        """How fast a check's evidence comes in."""
        share = 1.0 if usual.per_call is None else usual.per_call
        return Pace(
            self.candidate * share, self.baseline * share, self.scrape_seconds, usual.dispersion
        )


@dataclass(frozen=True, slots=True)
class Catch:
    """A regression, and how long after its onset it is found half of the time."""

    what: str
    seconds: float | None
    """None: this check does not find it."""


@dataclass(frozen=True, slots=True)
class CheckForecast:
    """What to expect of one check in one phase."""

    check: str
    level: CheckLevel
    passes: Wait | None = None
    """Until it passes while all is as usual; None: it is not needed for a Pass, or `never` says why."""
    catches: tuple[Catch, ...] = ()
    never: str = ""
    """Why it cannot decide; empty if it can."""
    notes: tuple[str, ...] = ()
    """What to know: what was assumed, what is too thin, which edge is missing."""
