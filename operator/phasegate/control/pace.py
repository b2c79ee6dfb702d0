"""How often what has not changed is looked at and written again: the work is shared by the fleet.

A few rollouts are looked at, and write, as often as they like. With many, each waits for its turn,
so that the whole fleet's passes and writes stay as few as those of a few. What people or decisions
wait for (a phase, a failing check, a condition, a reason) is looked at and written at once, always.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from phasegate.rollout.telling import Change

FEW: Final = 2
"""Rollouts that do not wait for each other."""
SOME: Final = 10
"""Rollouts whose verdicts do not wait for each other."""
CHECKPOINT_SECONDS: Final = 60.0
"""Between two stored checkpoints of one attempt, at least."""
CHECKPOINT_TURN: Final = 20.0
"""Seconds that each further attempt makes all of them wait for their checkpoints."""
VERDICT_TURN: Final = 2.0
"""The same for verdicts that decide nothing yet."""
LOOK_TURN: Final = 0.1
"""Seconds that each running attempt adds to the time between two looks at one."""
LONGEST_LOOK: Final = 60.0
"""Seconds between two looks at most: what pods say, and who answers whom, is told by no event."""
IDLE_TURN: Final = 0.6
"""Seconds that each agent adds to the time between two looks at one with nothing to do."""


@dataclass(frozen=True)
class Pace:
    """How often, in seconds. `running` tells how many attempts share."""

    refresh: float = 10.0
    """Between two looks at a running attempt, and between two writes of its newer numbers, at least."""
    resync: float = 600.0
    """Between two looks at an agent where nothing happens, at least."""
    running: Callable[[], int] = lambda: 1

    def look(self) -> float:
        """Seconds between two looks at a running attempt to which nothing happens."""
        return max(self.refresh, min(LONGEST_LOOK, LOOK_TURN * self.running()))

    def idle(self, agents: int) -> float:
        """Seconds between two looks at one of so many `agents` that are well and to rest."""
        return max(self.resync, IDLE_TURN * agents)

    def write(self, change: Change) -> float:
        """Seconds between a status write and the next, if that tells nothing but `change`."""
        if change is Change.NUMBERS:
            return self.refresh * max(1, self.running() - FEW)
        if change is Change.VERDICTS:
            return VERDICT_TURN * max(0, self.running() - SOME)
        return 0.0


def checkpoint_every(running: int) -> float:
    """Seconds between two stored checkpoints of an attempt: what is lost is read again."""
    return max(CHECKPOINT_SECONDS, CHECKPOINT_TURN * (running - FEW))
