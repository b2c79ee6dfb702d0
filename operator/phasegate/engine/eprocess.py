"""The kernel: e-processes, i.e. evidence that may be looked at after every scrape.

An e-process is a non-negative process whose mean never exceeds one while the null hypothesis holds,
at any stopping time; so it ever reaches 1/a with a probability of at most a (Ville's inequality).
All values are natural logarithms (nats).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Final

from phasegate.engine.packing import Floats

NEVER: Final = -1e9
"""The logarithm of "no mass", and a time before all times: finite, so state stays plain JSON."""
AT_START: Final = 1 / 3
"""Share of a test's mass that is spent when the phase begins: most bad revisions are bad at once."""
GENTLE: Final = 3
"""Alternatives of the two grids below that are only a little worse than the null."""
_NEARLY: Final = 0.8
"""Scrapes are not perfectly regular: a round may be this much shorter than it should be."""


class Grid:
    """Alternatives of a test, as multiples of the odds of its null, with their logarithms."""

    __slots__ = ("logs", "ratios")

    def __init__(self, *ratios: float) -> None:
        self.ratios = ratios
        self.logs = tuple(math.log(ratio) for ratio in ratios)

    def mirrored(self) -> Grid:
        """The alternatives on the other side of the null."""
        return Grid(*(1 / ratio for ratio in self.ratios))

    def costs(self, odds: float) -> list[float]:
        """What a call that is not bad adds (nats), for each alternative."""
        log1p = math.log1p
        top = log1p(odds)
        return [top - log1p(ratio * odds) for ratio in self.ratios]


RATE_GRID: Final = Grid(1.3, 1.8, 2.7, 5.0, 15.0, 150.0)
"""Alternatives of an absolute test: multiples of the odds of the limit."""
RATIO_GRID: Final = Grid(1.35, 1.8, 2.7, 5.0, 13.0, 70.0)
"""Alternatives of a relative test: multiples of the tolerated ratio."""


def logsumexp(values: Sequence[float]) -> float:
    """The logarithm of Σ e^v, without overflow."""
    top, exp = max(values), math.exp
    return top + math.log(sum([exp(value - top) for value in values]))


def log_factors(bad: float, calls: float, costs: Sequence[float], grid: Grid) -> list[float]:
    """Log likelihood ratios of `bad` in `calls`, for odds multiplied by each of the grid.

    For each g: bad·ln g + calls·ln((1+odds)/(1+g·odds)); the second logarithms are `costs`, the
    grid's for those odds. Two readings of the same formula:

    absolute: a call is bad with the odds of the limit (null, or any smaller odds when g > 1);
      its mean is then ≤ 1.
    relative: a *bad* call is the candidate's with odds r·n_c/n_b (null: p_c ≤ r·p_b); pass the
      candidate's bad calls as `bad` and both arms' bad calls as `calls`. By 1+z ≤ e^z,
      E[A^x_c B^x_b] ≤ exp(n_c p_c (A-1) + n_b p_b (B-1)) with A = g(1+odds)/(1+g·odds),
      B = (1+odds)/(1+g·odds), and r·n_c·A + n_b·B = r·n_c + n_b: under the null the exponent
      is ≤ 0 (Lindon & Malek, NeurIPS 2022, arXiv 2011.03567).

    With g < 1 the same factors test the opposite nulls (at least the limit, at least r times).
    """
    return [bad * log + calls * cost for log, cost in zip(grid.logs, costs, strict=True)]


@dataclass(frozen=True, slots=True)
class Tempo:
    """How a Suspicion restarts, how fast it may grow, and how far.

    `AT_START` of the mass is spent at `start`, the rest evenly over the planned duration, a little
    with every round: that makes it a change detector. What one round may add is bounded, so that a
    burst must last to convince.
    """

    start: float
    planned_seconds: float
    need: float
    """Nats that a restart in mid-phase needs to convince."""
    share: float
    """Share of `need` that one round may add; twice that after a round without calls."""
    round_seconds: float
    """A round lasts about this long at least, however fast the scrapes are."""
    gentle: int = 0
    """The first so many alternatives may add half as much only: what is a little worse has to last
    longer than what is much worse, or a few bursts in an hour would look like it."""
    ceiling: float = math.inf
    """Nats beyond which a component does not grow: what is over has to be forgotten some day."""

    def released(self, at: float) -> float:
        """Mass set free until `at`; one at the end of the planned duration, more after it."""
        return AT_START + (1 - AT_START) * max(0.0, at - self.start) / self.planned_seconds


@dataclass(slots=True)
class Suspicion:
    """A restarting mixture e-process against the candidate, one component per alternative.

    A component's growth within a round is min(product of factors, e^room): the minimum of a
    supermartingale and a constant is a supermartingale, so every look inside a round is valid too.
    """

    base: Floats
    """ln of each component at the start of the round."""
    gain: Floats
    """What the round has added so far, before the bound."""
    room: Floats
    """What the round may add at most, by component."""
    released: float = 0.0
    """Mass that has been set free."""
    round_at: float = NEVER
    busy_at: float = NEVER
    """The latest step that had calls."""

    @classmethod
    def over(cls, grid: Grid) -> Suspicion:
        """Without any mass yet."""
        count = len(grid.ratios)
        return cls([NEVER] * count, [0.0] * count, [0.0] * count)

    def begin_round(self, tempo: Tempo, at: float) -> None:
        """Close the round that was, and free the mass of the time since.

        Nothing happens while the round is still short: gains and losses of fast scrapes even out
        before the bound is applied.
        """
        if at - self.round_at < _NEARLY * tempo.round_seconds:
            return
        idle = self.busy_at < self.round_at
        released = max(self.released, tempo.released(at))
        fresh = math.log(released - self.released) if released > self.released else NEVER
        ceiling, exp, log1p = tempo.ceiling, math.exp, math.log1p
        base = []
        for part in self._parts():
            grown = part if part < ceiling else ceiling
            apart = grown - fresh
            # The logarithm of the sum.
            base.append(grown + log1p(exp(-apart)) if apart > 0 else fresh + log1p(exp(apart)))
        count = len(base)
        room = tempo.share * tempo.need * (2 if idle else 1)
        self.base, self.gain = base, [0.0] * count
        self.room = [room / 2] * tempo.gentle + [room] * (count - tempo.gentle)
        self.released, self.round_at = released, at

    def update(self, at: float, factors: Sequence[float], *, bounded: bool = True) -> None:
        """Multiply by a step's factors (nats); an unbounded step does not use the room."""
        self.busy_at = at
        if bounded:
            self.gain = list(map(add, self.gain, factors))
        else:
            self.base = list(map(add, self.base, factors))

    def log_e(self) -> float:
        """The evidence now, in nats: the mean over the components."""
        return logsumexp(self._parts()) - math.log(len(self.base))

    def reaches(self, need: float) -> bool:
        """Whether the evidence is at least so many nats; a mean is at most its largest part."""
        return max(self._parts()) >= need and self.log_e() >= need

    def _parts(self) -> list[float]:
        return [
            base + (gain if gain < room else room)
            for base, gain, room in zip(self.base, self.gain, self.room, strict=True)
        ]

    def copy(self) -> Suspicion:
        """An independent copy."""
        # Lists are replaced, never changed in place.
        return Suspicion(
            self.base, self.gain, self.room, self.released, self.round_at, self.busy_at
        )


@dataclass(slots=True)
class Clearance:
    """A mixture e-process *for* the candidate: its null is that it is at least as bad as a level.

    It has no restarts, but a ceiling per component: good calls of the morning cannot be saved up
    without end, so calls that turn bad undo a Pass soon. min(supermartingale, constant) is one.
    """

    level: Floats
    """ln of each component."""

    @classmethod
    def over(cls, grid: Grid) -> Clearance:
        """At the start: all evidence is one."""
        return cls([0.0] * len(grid.ratios))

    def update(self, factors: Sequence[float], ceiling: float) -> None:
        """Multiply by a step's factors (nats), up to the ceiling."""
        grown = map(add, self.level, factors)
        self.level = [level if level < ceiling else ceiling for level in grown]

    def log_e(self) -> float:
        """The evidence now, in nats: the mean over the components."""
        return logsumexp(self.level) - math.log(len(self.level))

    def copy(self) -> Clearance:
        """An independent copy."""
        return Clearance(self.level)
