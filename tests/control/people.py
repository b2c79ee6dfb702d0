"""People of the small world: what they decide counts once identity is enforced, and is told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from phasegate.api.rolloutaction import TAKES_BACK
from phasegate.control import kinds

from tests.control.fakes import FakeCluster
from tests.control.world import KEY, World

ADMISSION = Path(__file__).parents[2] / "config" / "admission"


def enforce_identity(cluster: FakeCluster) -> None:
    """The shipped policies."""
    for name in ("rolloutactions.yaml", "authors.yaml"):
        for manifest in yaml.safe_load_all((ADMISSION / name).read_text()):
            cluster.put(manifest)


def act(world: World, verb: str, revision: str, name: str = "a1", **spec: Any) -> None:
    """Somebody decides; the edge tells."""
    told = {"agent": KEY.name, "verb": verb, "revision": revision, "reason": "looks wrong"}
    metadata = {"name": name, "namespace": KEY.namespace}
    world.cluster.put(
        {"kind": "RolloutAction", "metadata": metadata, "spec": {**told, "actor": "alice", **spec}}
    )
    if verb in TAKES_BACK:
        world.reconciler.ask(KEY)
    else:
        world.queue.add(KEY)


def outcome(world: World, name: str = "a1") -> dict[str, Any]:
    """What became of it; empty while that is not told."""
    found = (a for a in world.cluster.all(kinds.ROLLOUT_ACTION) if a["metadata"]["name"] == name)
    status: dict[str, Any] = next(found).get("status") or {}
    return status
