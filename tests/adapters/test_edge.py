"""Which agents an event concerns. Watching itself is tested on a real API server."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

import pytest
from phasegate.adapters.access import Access
from phasegate.adapters.edge import Backoffs, Edge, References, settings
from phasegate.control.ports import Key

from tests.control.fakes import settle

SUPPORT, SALES = Key("shop", "support"), Key("shop", "sales")
OURS = {"app.kubernetes.io/managed-by": "phasegate", "phasegate.dev/agent": "support"}


class Watched:
    def __init__(self) -> None:
        self.references = References()
        self.keys: list[Key] = []
        self.relisted = asyncio.Event()
        self.relists = 0
        self.edge = Edge(
            Access(), self.references, self.keys.append, self._relist, relist_delay=0.0
        )

    def _relist(self) -> None:
        self.relists += 1
        self.relisted.set()

    def see(
        self,
        kind: str,
        name: str,
        event: str | None = "MODIFIED",
        namespace: str = "shop",
        labels: dict[str, str] | None = None,
        **body: Any,
    ) -> list[Key]:
        """The keys that one event brings."""
        metadata: dict[str, Any] = {"namespace": namespace, "name": name, "uid": f"{kind}/{name}"}
        if labels is not None:
            metadata["labels"] = labels
        self.keys.clear()
        self.edge.happened(kind, {"type": event, "object": {"metadata": metadata, **body}})
        return sorted(self.keys)


@pytest.mark.parametrize("event", [None, "ADDED", "MODIFIED", "DELETED"])
async def test_an_agent_is_its_own_key(event: str | None) -> None:
    assert Watched().see("agentdeployments", "support", event) == [SUPPORT]


@pytest.mark.parametrize("kind", ["deployments", "services", "httproutes", "configmaps"])
async def test_a_child_belongs_to_the_agent_of_its_label(kind: str) -> None:
    watched = Watched()
    assert watched.see(kind, "support-aaaaaaaaaa", labels=OURS) == [SUPPORT]
    assert watched.see(kind, "foreign", labels={"phasegate.dev/agent": "support"}) == []
    assert watched.see(kind, "foreign") == []


async def test_an_action_concerns_the_agent_it_names() -> None:
    watched = Watched()
    assert watched.see("rolloutactions", "a", spec={"agent": "support"}) == [SUPPORT]
    assert watched.see("rolloutactions", "b", spec={"agent": 5}) == []
    assert watched.see("rolloutactions", "c") == []


async def test_policies_and_config_maps_concern_who_uses_them() -> None:
    watched = Watched()
    watched.references.set(SUPPORT, "strict", ["prompt"])
    watched.references.set(SALES, "strict")
    assert watched.see("rollbackpolicies", "strict") == [SALES, SUPPORT]
    assert watched.see("configmaps", "prompt") == [SUPPORT]
    assert watched.see("rollbackpolicies", "strict", namespace="other") == []
    assert watched.see("configmaps", "strict") == []


async def test_references_follow_the_agent() -> None:
    watched = Watched()
    watched.references.set(SUPPORT, "strict", ["prompt"])
    watched.references.set(SUPPORT, "loose", ["prompt"])
    assert watched.see("rollbackpolicies", "strict") == []
    assert watched.see("rollbackpolicies", "loose") == [SUPPORT]
    watched.references.forget(SUPPORT)
    assert watched.see("rollbackpolicies", "loose") == []
    assert watched.see("configmaps", "prompt") == []


async def test_a_second_listing_asks_for_a_look_at_everything_once() -> None:
    watched = Watched()
    for name in ("support", "sales"):
        watched.see("agentdeployments", name, None)
    for name in ("support", "sales"):
        watched.see("agentdeployments", name, None)
    await watched.relisted.wait()
    assert watched.relists == 1


async def test_the_first_listing_does_not() -> None:
    watched = Watched()
    watched.see("agentdeployments", "support", None)
    watched.see("agentdeployments", "support", "DELETED")
    watched.see("agentdeployments", "support", None)
    await settle()
    assert watched.relists == 0


def test_kopf_waits_for_the_api_server_for_ever_but_never_long() -> None:
    backoffs = list(islice(Backoffs(), 1000))
    assert backoffs[:5] == [1, 2, 5, 10, 30]
    assert max(backoffs) == 30


def test_kopf_posts_and_scans_nothing() -> None:
    assert not settings().posting.enabled
    assert settings().scanning.disabled
