"""Which agents an object concerns. Watching is tested in test_watching.py and on a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from phasegate.adapters.edge import Edge, References, scopes
from phasegate.adapters.kinds import HTTP_ROUTE
from phasegate.control import kinds
from phasegate.control.ports import Key, Kind

SUPPORT, SALES = Key("shop", "support"), Key("shop", "sales")
OURS = {"app.kubernetes.io/managed-by": "phasegate", "phasegate.dev/agent": "support"}


class Watched:
    def __init__(self) -> None:
        self.references = References()
        self.keys: list[Key] = []
        self.asked: list[Key] = []
        self.edge = Edge(self.references, self.keys.append, self.asked.append)

    def see(
        self,
        kind: Kind,
        name: str,
        namespace: str = "shop",
        labels: dict[str, str] | None = None,
        **body: Any,
    ) -> list[Key]:
        """The keys that one change brings."""
        metadata: dict[str, Any] = {"namespace": namespace, "name": name}
        if labels is not None:
            metadata["labels"] = labels
        self.keys.clear()
        self.edge.happened(kind, {"metadata": metadata, **body})
        return sorted(self.keys)


def test_an_agent_is_its_own_key() -> None:
    assert Watched().see(kinds.AGENT_DEPLOYMENT, "support") == [SUPPORT]


@pytest.mark.parametrize(
    "kind",
    [
        kinds.DEPLOYMENT,
        kinds.SERVICE,
        HTTP_ROUTE,
        kinds.CONFIG_MAP,
        kinds.CONTROLLER_REVISION,
        kinds.AGENT_ROLLOUT,
    ],
    ids=lambda kind: kind.plural,
)
def test_a_child_belongs_to_the_agent_of_its_label(kind: Kind) -> None:
    watched = Watched()
    assert watched.see(kind, "support-aaaaaaaaaa", labels=OURS) == [SUPPORT]
    assert watched.see(kind, "foreign", labels={"phasegate.dev/agent": "support"}) == []
    assert watched.see(kind, "foreign") == []


def test_an_action_concerns_the_agent_it_names() -> None:
    watched = Watched()
    assert watched.see(kinds.ROLLOUT_ACTION, "a", spec={"agent": "support"}) == [SUPPORT]
    assert watched.see(kinds.ROLLOUT_ACTION, "b", spec={"agent": 5}) == []
    assert watched.see(kinds.ROLLOUT_ACTION, "c") == []
    assert watched.asked == []


def test_a_decision_that_takes_traffic_back_is_urgent_until_it_is_answered() -> None:
    watched, spec = Watched(), {"agent": "support", "verb": "Rollback"}
    assert watched.see(kinds.ROLLOUT_ACTION, "a", spec=spec) == []
    assert watched.asked == [SUPPORT]
    answered = {"outcome": "Accepted"}
    assert watched.see(kinds.ROLLOUT_ACTION, "a", spec=spec, status=answered) == [SUPPORT]
    assert watched.see(kinds.ROLLOUT_ACTION, "b", spec={**spec, "verb": "Pause"}) == [SUPPORT]
    assert watched.asked == [SUPPORT]


def test_policies_and_config_maps_concern_who_uses_them() -> None:
    watched = Watched()
    watched.references.set(SUPPORT, "strict", ["prompt"])
    watched.references.set(SALES, "strict")
    assert watched.see(kinds.ROLLBACK_POLICY, "strict") == [SALES, SUPPORT]
    assert watched.see(kinds.CONFIG_MAP, "prompt") == [SUPPORT]
    assert watched.see(kinds.ROLLBACK_POLICY, "strict", namespace="other") == []
    assert watched.see(kinds.CONFIG_MAP, "strict") == []


def test_references_follow_the_agent() -> None:
    watched = Watched()
    watched.references.set(SUPPORT, "strict", ["prompt"])
    watched.references.set(SUPPORT, "loose", ["prompt"])
    assert watched.see(kinds.ROLLBACK_POLICY, "strict") == []
    assert watched.see(kinds.ROLLBACK_POLICY, "loose") == [SUPPORT]
    watched.references.forget(SUPPORT)
    assert watched.see(kinds.ROLLBACK_POLICY, "loose") == []
    assert watched.see(kinds.CONFIG_MAP, "prompt") == []


def test_each_namespace_is_watched_by_itself_or_all_together() -> None:
    everywhere, some = scopes(), scopes(["shop", "bank"])
    assert {scope.namespace for scope in everywhere} == {None}
    assert len(some) == 2 * len(everywhere)
    assert {scope.namespace for scope in some} == {"shop", "bank"}


def test_nobody_elses_config_maps_are_held_and_none_is_watched_twice() -> None:
    config_maps = [scope for scope in scopes() if scope.kind == kinds.CONFIG_MAP]
    for labels in ({}, OURS):
        holding = [scope for scope in config_maps if scope.holds(labels)]
        assert [scope.metadata_only for scope in holding] == [not labels]
