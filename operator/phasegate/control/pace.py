"""How often what has not changed is written again: numbers age, and API requests are shared.

A few rollouts write as often as they like. With many, each waits for its turn, so that the whole
fleet's writes stay as few as those of a few. What changed in kind (a verdict, a phase, a condition,
a reason) is written at once, always.
"""

from __future__ import annotations

from typing import Final

FEW: Final = 2
"""Rollouts that do not wait for each other."""
CHECKPOINT_SECONDS: Final = 60.0
"""Between two stored checkpoints of one attempt, at least."""
CHECKPOINT_TURN: Final = 20.0
"""Seconds that each further attempt makes all of them wait for their checkpoints."""


def numbers_every(refresh: float, running: int) -> float:
    """Seconds between two status writes of an agent that tell newer numbers only."""
    return refresh * max(1, running - FEW)


def checkpoint_every(running: int) -> float:
    """Seconds between two stored checkpoints of an attempt: what is lost is read again."""
    return max(CHECKPOINT_SECONDS, CHECKPOINT_TURN * (running - FEW))
