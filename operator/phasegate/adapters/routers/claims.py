"""Who asks a gateway for which requests: of two agents that ask for the same, one gets nothing.

The Gateway API gives them to the oldest route and reports nothing to the other one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from phasegate.adapters.routers.httproute import wanted_traffic
from phasegate.control.ports import Key, Manifest

Claim = tuple[str, ...]
"""Gateway (namespace, name, section, port), host name and one match: equal ones collide."""


class Claims:
    """What each agent asks for, as far as it was looked at; `tell` is called for whom that touches."""

    def __init__(self, tell: Callable[[Key], None]) -> None:
        self._tell = tell
        self._of: dict[Key, frozenset[Claim]] = {}
        self._age: dict[Key, tuple[str, str]] = {}
        self._by: defaultdict[Claim, set[Key]] = defaultdict(set)

    def note(self, agent: Manifest) -> None:
        """`agent` asks for what its spec says, and nothing else."""
        metadata = agent["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        wanted = claims_of(agent)
        created = str(metadata.get("creationTimestamp") or "")
        self._age[key] = created, f"{key.namespace}/{key.name}"
        before = self._of.get(key, frozenset())
        if wanted == before:
            return
        self._of[key] = wanted
        for claim in before - wanted:
            self._by[claim].discard(key)
            if not self._by[claim]:
                del self._by[claim]
        for claim in wanted:
            self._by[claim].add(key)
        for other in self._rivals(key, before | wanted):
            self._tell(other)

    def drop(self, key: Key) -> None:
        """`key` has no route any more, or is gone."""
        touched = self._of.pop(key, frozenset())
        others = self._rivals(key, touched)
        for claim in touched:
            self._by[claim].discard(key)
            if not self._by[claim]:
                del self._by[claim]
        self._age.pop(key, None)
        for other in others:
            self._tell(other)

    def winner(self, key: Key) -> Key | None:
        """The agent that gets what `key` asks for, too; None if `key` gets it itself."""
        mine = self._age.get(key)
        if mine is None:
            return None
        rivals = self._rivals(key, self._of.get(key, frozenset()))
        older = [rival for rival in rivals if self._age[rival] < mine]
        return min(older, key=lambda rival: self._age[rival], default=None)

    def _rivals(self, key: Key, claims: Collection[Claim]) -> set[Key]:
        return {other for claim in claims for other in self._by.get(claim, ())} - {key}


def claims_of(agent: Manifest) -> frozenset[Claim]:
    """Everything that an agent's route asks for."""
    traffic = wanted_traffic(agent)
    home = str(agent["metadata"]["namespace"])
    parents = [
        (
            str(ref.get("namespace") or home),
            str(ref["name"]),
            str(ref.get("sectionName") or ""),
            str(ref.get("port") or ""),
        )
        for ref in traffic.get("parentRefs") or ()
    ]
    matches = [_canonical(match) for match in traffic.get("matches") or [{}]]
    hosts = traffic.get("hostnames") or [""]
    return frozenset(
        (*parent, str(host), match) for parent in parents for host in hosts for match in matches
    )


def _canonical(match: Mapping[str, Any]) -> str:
    headers = sorted(
        (str(h.get("name", "")).lower(), str(h.get("value", "")))
        for h in match.get("headers") or ()
    )
    path = {"type": "PathPrefix", "value": "/", **(match.get("path") or {})}
    return json.dumps([path, headers, match.get("method")], sort_keys=True)
