"""The edge: what happened at the API server, as keys of agents that it concerns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from phasegate.adapters.kinds import HTTP_ROUTE
from phasegate.adapters.mirror import Scope
from phasegate.api.rolloutaction import TAKES_BACK
from phasegate.control import kinds
from phasegate.control.ports import Key, Kind, Manifest
from phasegate.rollout.labels import AGENT, MANAGED_BY, MANAGER

_OURS: Final = f"{MANAGED_BY}={MANAGER}"
_FOREIGN: Final = f"{MANAGED_BY}!={MANAGER}"
_ACT_SECONDS: Final = 30.0
"""Streams of what people do are opened anew this often: a dead one hides no act for longer."""


def scopes(namespaces: Collection[str] = ()) -> list[Scope]:
    """What is watched: everything the operator reads in a pass, in these namespaces or in all."""
    return [
        scope
        for namespace in (tuple(namespaces) or (None,))
        for scope in (
            Scope(kinds.AGENT_DEPLOYMENT, namespace, lasts=_ACT_SECONDS),
            Scope(kinds.ROLLOUT_ACTION, namespace, lasts=_ACT_SECONDS, agent_of=_acted_on),
            Scope(kinds.ROLLBACK_POLICY, namespace),
            Scope(kinds.AGENT_ROLLOUT, namespace),
            Scope(kinds.DEPLOYMENT, namespace, _OURS),
            Scope(kinds.SERVICE, namespace, _OURS),
            Scope(kinds.CONTROLLER_REVISION, namespace, _OURS),
            Scope(HTTP_ROUTE, namespace, _OURS),
            Scope(kinds.CONFIG_MAP, namespace, _OURS),
            # Everybody's ConfigMaps: that they change, not what they say.
            Scope(kinds.CONFIG_MAP, namespace, _FOREIGN, metadata_only=True),
        )
    ]


def _acted_on(action: Manifest) -> str:
    """The agent that a RolloutAction is about; "" if it names none."""
    spec = action.get("spec")
    agent = spec.get("agent") if isinstance(spec, Mapping) else None
    return agent if isinstance(agent, str) else ""


def _urgent(action: Manifest) -> bool:
    """True for a decision that takes traffic back, and has no outcome yet."""
    spec, status = action.get("spec"), action.get("status")
    answered = isinstance(status, Mapping) and status.get("outcome")
    return isinstance(spec, Mapping) and spec.get("verb") in TAKES_BACK and not answered


class References:
    """Which agents use which policy and ConfigMaps: filled by whoever reads agents."""

    def __init__(self) -> None:
        self._used: dict[Key, frozenset[tuple[str, str]]] = {}
        self._users: defaultdict[tuple[str, str, str], set[Key]] = defaultdict(set)

    def set(self, key: Key, policy: str | None, config_maps: Iterable[str] = ()) -> None:
        """The agent `key` uses these, and no others, of its namespace."""
        used = {("policy", policy)} if policy is not None else set()
        wanted = frozenset(used | {("configmap", name) for name in config_maps})
        if self._used.get(key) == wanted:
            return
        self.forget(key)
        self._used[key] = wanted
        for kind, name in wanted:
            self._users[kind, key.namespace, name].add(key)

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        for kind, name in self._used.pop(key, ()):
            users = self._users[kind, key.namespace, name]
            users.discard(key)
            if not users:
                del self._users[kind, key.namespace, name]

    def of_policy(self, namespace: str, name: str) -> Collection[Key]:
        """Agents that a policy applies to."""
        return tuple(self._users.get(("policy", namespace, name), ()))

    def of_config_map(self, namespace: str, name: str) -> Collection[Key]:
        """Agents that read a ConfigMap."""
        return tuple(self._users.get(("configmap", namespace, name), ()))


class Edge:
    """Turns what happens at the API server into keys.

    `enqueue` gets the key of each agent that something happened to; `ask` that of one whose traffic
    a person wants to be taken back.
    """

    def __init__(
        self,
        references: References,
        enqueue: Callable[[Key], None],
        ask: Callable[[Key], None],
    ) -> None:
        self._references = references
        self._enqueue = enqueue
        self._ask = ask

    def happened(self, kind: Kind, manifest: Manifest) -> None:
        """An object was made, changed or deleted: enqueue whom it concerns."""
        tell = self._ask if kind == kinds.ROLLOUT_ACTION and _urgent(manifest) else self._enqueue
        for key in self._concerned(kind, manifest):
            tell(key)

    def _concerned(self, kind: Kind, manifest: Manifest) -> Iterator[Key]:
        metadata = manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        labels = metadata.get("labels") or {}
        if kind == kinds.AGENT_DEPLOYMENT:
            yield Key(namespace, name)
        elif kind == kinds.ROLLBACK_POLICY:
            yield from self._references.of_policy(namespace, name)
        elif kind == kinds.ROLLOUT_ACTION:
            if agent := _acted_on(manifest):
                yield Key(namespace, agent)
        elif labels.get(MANAGED_BY) == MANAGER and AGENT in labels:
            yield Key(namespace, labels[AGENT])
        elif kind == kinds.CONFIG_MAP:
            yield from self._references.of_config_map(namespace, name)
