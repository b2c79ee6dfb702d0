"""Level-triggered for real: what exists and nobody knows of is found, event or not."""

from __future__ import annotations

from collections.abc import Callable, Collection

from phasegate.control.ports import Clock, Key
from phasegate.control.queue import WorkQueue

SPREAD = 60.0
"""Seconds over which what was found is spread, so that it does not come all at once."""


async def resync(
    queue: WorkQueue[Key],
    clock: Clock,
    period: float,
    existing: Callable[[], Collection[Key]],
    known: Callable[[], Collection[Key]],
    jitter: Callable[[], float],
) -> None:
    """Every `period` seconds, queue what exists and is not known; runs until cancelled.

    Every pass plans the next look at its agent. One that an API server said is gone, and is not,
    has no pass any more and no event either. `jitter` returns a number in [0, 1).
    """
    while True:
        await clock.sleep(period * (0.9 + 0.2 * jitter()))
        for key in set(existing()) - set(known()):
            queue.add_after(key, SPREAD * jitter())
