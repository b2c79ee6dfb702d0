"""One running test against the candidate: its evidence, since when, over which window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phasegate.engine.eprocess import Grid, Suspicion, Tempo
from phasegate.engine.kinds.base import Step
from phasegate.engine.windows import Counts, Onset, Trailing

_MOST: Final = 700.0
"""Nats beyond which the odds would be infinite as a float."""


@dataclass(slots=True)
class Trial:
    """State of one test. What is tested, and with which factors, is its owner's business."""

    suspicion: Suspicion
    onset: Onset
    trailing: Trailing | None = None

    @classmethod
    def over(cls, grid: Grid, start: float, window: float | None = None) -> Trial:
        """Nothing seen yet; `window` in seconds."""
        return cls(
            Suspicion.over(grid),
            Onset.over(len(grid.ratios), start),
            Trailing(window) if window else None,
        )

    def step(
        self,
        tempo: Tempo,
        step: Step,
        counts: Counts,
        factors: Sequence[float] | None,
        *,
        bounded: bool = True,
    ) -> None:
        """Add a step with its factors in nats; None: it says nothing."""
        if step.new_round:
            self.suspicion.begin_round(tempo, step.at)
        if self.trailing is not None:
            self.trailing.add(step.at, counts)
        if factors is not None:
            self.suspicion.update(step.at, factors, bounded=bounded)
            self.onset.update(step.since, factors, counts)

    def counts(self) -> Counts:
        """What the estimate rests on: the user's window, else the stretch since the onset."""
        return self.onset.worst().counts if self.trailing is None else self.trailing.counts()

    def log_e(self) -> float:
        """Evidence in nats."""
        return self.suspicion.log_e()

    def reaches(self, need: float) -> bool:
        """Whether the evidence is at least so many nats."""
        return self.suspicion.reaches(need)

    @property
    def since(self) -> float | None:
        """The onset of what speaks against the candidate; None while nothing does."""
        worst = self.onset.worst()
        return worst.since if worst.evidence > 0 else None

    @property
    def odds(self) -> float:
        """Evidence against chance, to one: a finite number."""
        return math.exp(min(self.log_e(), _MOST))

    def copy(self) -> Trial:
        """An independent copy."""
        trailing = None if self.trailing is None else self.trailing.copy()
        return Trial(self.suspicion.copy(), self.onset.copy(), trailing)
