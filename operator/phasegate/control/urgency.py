"""What people decided that takes traffic back: read alone, for nothing else may stand before it."""

from __future__ import annotations

import asyncio
import contextlib

from phasegate.api.errors import ClusterError
from phasegate.api.rolloutaction import TAKES_BACK
from phasegate.control.admission import UNKNOWN, IdentityCheck
from phasegate.control.parse import actions_of
from phasegate.control.ports import Cluster, Key
from phasegate.control.reads import actions_about
from phasegate.rollout.observed import ActionSeen

Said = tuple[tuple[ActionSeen, ...], str | None]
"""Decisions, and why nobody's count."""


async def said(cluster: Cluster, identity: IdentityCheck, key: Key) -> Said | None:
    """Pending decisions that take the traffic of `key` back; None if that is not known."""
    with contextlib.suppress(ClusterError):
        found, problem = await asyncio.gather(actions_about(cluster, key), identity.problem())
        if problem is not UNKNOWN:
            pending = actions_of(found, key.name)
            return tuple(a for a in pending if a.spec.verb in TAKES_BACK), problem
    return None
