"""Level-triggered for real: every so often every agent is looked at, event or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from phasegate.control.ports import Clock, Key
from phasegate.control.queue import WorkQueue

PERIOD = 600.0
"""Seconds between two rounds."""
SPREAD = 60.0
"""Seconds over which the keys of one round are spread, so that they do not come all at once."""


async def resync(
    queue: WorkQueue[Key],
    clock: Clock,
    existing: Callable[[], Iterable[Key]],
    known: Callable[[], Iterable[Key]],
    jitter: Callable[[], float],
) -> None:
    """Queue what exists and what is remembered, again and again; runs until cancelled.

    An object deleted while no watch was open leaves no event behind: the keys that are only
    remembered find out that way. `jitter` returns a number in [0, 1).
    """
    while True:
        await clock.sleep(PERIOD * (0.9 + 0.2 * jitter()))
        for key in {*known(), *existing()}:
            queue.add_after(key, SPREAD * jitter())
