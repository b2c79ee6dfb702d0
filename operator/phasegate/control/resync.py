"""Level-triggered for real: every so often every agent is looked at, event or not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from phasegate.api.errors import ClusterError
from phasegate.control import kinds
from phasegate.control.ports import Clock, Cluster, Key
from phasegate.control.queue import WorkQueue

PERIOD = 600.0
"""Seconds between two rounds."""
SPREAD = 60.0
"""Seconds over which the keys of one round are spread, so that they do not come all at once."""

_log = logging.getLogger(__name__)


async def resync(
    cluster: Cluster,
    queue: WorkQueue[Key],
    clock: Clock,
    known: Callable[[], Iterable[Key]],
    jitter: Callable[[], float],
    namespaces: Sequence[str | None] = (None,),
) -> None:
    """Queue what exists and what is remembered, again and again; runs until cancelled.

    An object deleted while no watch was open leaves no event behind: the keys that are only
    remembered find out that way. `jitter` returns a number in [0, 1).
    """
    while True:
        await clock.sleep(PERIOD * (0.9 + 0.2 * jitter()))
        try:
            keys = {*known(), *await list_keys(cluster, namespaces)}
        except ClusterError as error:
            _log.warning("resync failed", extra={"error": str(error)})
            continue
        for key in keys:
            queue.add_after(key, SPREAD * jitter())


async def list_keys(cluster: Cluster, namespaces: Sequence[str | None] = (None,)) -> set[Key]:
    """Every AgentDeployment there is; raises ClusterError."""
    keys: set[Key] = set()
    for namespace in namespaces:
        for item in await cluster.list(kinds.AGENT_DEPLOYMENT, namespace):
            keys.add(Key(item["metadata"]["namespace"], item["metadata"]["name"]))
    return keys
