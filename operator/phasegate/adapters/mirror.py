"""What the API server told last, kept small: reads that cost no request.

Objects are stored compressed, without ``managedFields``. Their `resourceVersion` says which of two
is newer (integers that only grow, per kind), so that the answers of our own writes can go in beside
the watch, and an echo that comes late takes nothing back.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from phasegate.control.ports import Kind, Manifest
from phasegate.rollout.labels import AGENT

TRUST: Final = 90.0
"""Seconds without a word from a stream after which a mirror is not asked any more."""
_RAW: Final = -15
"""zlib without header and checksum: they are larger than what they would protect is valuable."""
_DICTIONARY: Final = 32_768

Labels = Mapping[str, str]
_Name = tuple[str, str]


def labelled(manifest: Manifest) -> str:
    """The agent that an object's label names."""
    return str(_labels(manifest).get(AGENT, ""))


@dataclass(frozen=True, slots=True)
class Scope:
    """What one mirror holds: objects of a kind, of one namespace or of all, by label."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    """A label selector: ``key=value`` and ``key!=value``, joined by commas."""
    metadata_only: bool = False
    """Content is read when it is needed."""
    lasts: float | None = None
    """Seconds after which its stream is opened anew; None: as long as the API server likes."""
    agent_of: Callable[[Manifest], str] = labelled
    """The agent that an object is about ("": none)."""

    def holds(self, labels: Labels) -> bool:
        """True if an object with these labels belongs here."""
        return all((labels.get(key) == value) is equal for key, value, equal in terms(self.labels))

    def covers(self, wanted: str) -> bool:
        """True if everything that `wanted`, a selector of ``key=value``, selects belongs here."""
        return not self.metadata_only and set(terms(self.labels)) <= set(terms(wanted))


def terms(selector: str) -> list[tuple[str, str, bool]]:
    """Key, value and whether they must be equal, of each part of a selector."""
    found = []
    for part in filter(None, selector.split(",")):
        key, _, value = part.partition("=")
        found.append((key.removesuffix("!"), value, not key.endswith("!")))
    return found


def agent_in(selector: str) -> str | None:
    """The agent whose objects a selector wants, if it is one's."""
    return next((value for key, value, equal in terms(selector) if key == AGENT and equal), None)


@dataclass(slots=True)
class _Entry:
    version: int
    agent: str
    data: bytes


class Mirror:
    """The objects of one scope. One event loop owns it."""

    def __init__(self, scope: Scope, clock: Callable[[], float] = monotonic) -> None:
        self.scope = scope
        self._clock = clock
        self._entries: dict[_Name, _Entry] = {}
        self._of_agent: defaultdict[_Name, set[str]] = defaultdict(set)
        self._doubted: dict[_Name, str | None] = {}
        """The agent of each, as far as it is known."""
        self._dictionary = b""
        self._heard = 0
        self._heard_at = float("-inf")
        self._synced = False

    def __len__(self) -> int:
        """Objects held."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of all objects as they are stored."""
        return sum(len(entry.data) for entry in self._entries.values())

    @property
    def synced(self) -> bool:
        """True once everything was listed."""
        return self._synced

    @property
    def fresh(self) -> bool:
        """True while what is here can be believed."""
        return self._synced and self._clock() - self._heard_at < TRUST

    # --- from the stream -------------------------------------------------------------------------

    def hear(self, version: str | None = None) -> None:
        """The stream lives, and has told all up to `version`, if it says one."""
        self._heard_at = self._clock()
        if version is not None:
            self._heard = max(self._heard, _order(version))

    def put(self, manifest: Manifest) -> bool:
        """The stream's word on an object; False if something newer is known already."""
        name, version = _name(manifest), _order(_version(manifest))
        known = self._entries.get(name)
        if known is not None and known.version > version:
            return False
        self._doubted.pop(name, None)
        if known is None or known.version < version or not version:
            self._store(name, version, manifest)
        return True

    def news(self, manifest: Manifest) -> bool:
        """`put`; True if that object, or this state of it, was not known."""
        known = self._entries.get(_name(manifest))
        before = known.version if known is not None else -1
        return self.put(manifest) and _order(_version(manifest)) > before

    def remove(self, manifest: Manifest) -> bool:
        """The stream says that this object is gone; False if one of its name was made since."""
        name = _name(manifest)
        known = self._entries.get(name)
        if known is not None and known.version > _order(_version(manifest)):
            return False
        self._drop(name)
        return True

    def settle(self, listed: Collection[_Name], version: str) -> Iterator[Manifest]:
        """A whole list, as of `version`, was `put`: what it lacked is gone, and is returned."""
        end = _order(version)
        gone = [
            name
            for name, entry in self._entries.items()
            if name not in listed and (entry.version <= end or not end)
        ]
        for name in gone:
            manifest = self.get(*name)
            self._drop(name)
            if manifest is not None:
                yield manifest
        self._doubted.clear()
        self.hear(version)
        self._synced = True

    # --- from ourselves --------------------------------------------------------------------------

    def offer(self, manifest: Manifest) -> None:
        """What the API server answered to a write or a read of ours.

        One that is not here and no newer than what the stream has told is gone already.
        """
        name, version = _name(manifest), _order(_version(manifest))
        self._doubted.pop(name, None)
        if not self.scope.holds(_labels(manifest)):
            return
        if name in self._entries or version > self._heard:
            self.put(manifest)

    def doubt(self, namespace: str, name: str, agent: str | None = None) -> None:
        """What is known of this object (about `agent`) is not true any more: until there is news, ask."""
        known = self._entries.get((namespace, name))
        self._doubted[namespace, name] = known.agent if known is not None else agent

    def believe(self, namespace: str, name: str) -> None:
        """What is known of this object is true."""
        self._doubted.pop((namespace, name), None)

    # --- reading ---------------------------------------------------------------------------------

    def doubted(self, namespace: str, name: str) -> bool:
        """True if this object is to be read live."""
        return (namespace, name) in self._doubted

    def doubts(self, namespace: str | None, agent: str | None) -> list[_Name]:
        """Objects to be read live that may be about `agent` (None: any)."""
        return [
            name
            for name, about in self._doubted.items()
            if namespace in (None, name[0]) and (None in (about, agent) or about == agent)
        ]

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, if it is here; the caller's own copy."""
        entry = self._entries.get((namespace, name))
        return None if entry is None else self._unpack(entry)

    def version(self, namespace: str, name: str) -> int | None:
        """How new the object is that is here."""
        entry = self._entries.get((namespace, name))
        return None if entry is None else entry.version

    def names(self, namespace: str | None = None) -> Iterator[_Name]:
        """Namespace and name of all objects here."""
        return (name for name in list(self._entries) if namespace in (None, name[0]))

    def list(self, namespace: str | None, selector: str = "") -> list[dict[str, Any]]:
        """All objects with these labels, each the caller's own copy."""
        wanted, agent = terms(selector), agent_in(selector)
        names: Iterable[_Name] = self.names(namespace)
        if agent is not None and namespace is not None:
            names = [
                (namespace, name) for name in sorted(self._of_agent.get((namespace, agent), ()))
            ]
        found = (self._unpack(self._entries[name]) for name in names)
        return [
            item
            for item in found
            if all((_labels(item).get(key) == value) is equal for key, value, equal in wanted)
        ]

    def about(self, namespace: str, agent: str) -> Sequence[dict[str, Any]]:
        """All objects about an agent, each the caller's own copy."""
        names = sorted(self._of_agent.get((namespace, agent), ()))
        return [self._unpack(self._entries[namespace, name]) for name in names]

    # --- storing ---------------------------------------------------------------------------------

    def _store(self, name: _Name, version: int, manifest: Manifest) -> None:
        self._drop(name)
        agent = self.scope.agent_of(manifest)
        self._entries[name] = _Entry(version, agent, self._pack(manifest))
        if agent:
            self._of_agent[name[0], agent].add(name[1])

    def _drop(self, name: _Name) -> None:
        self._doubted.pop(name, None)
        entry = self._entries.pop(name, None)
        if entry is None or not entry.agent:
            return
        others = self._of_agent[name[0], entry.agent]
        others.discard(name[1])
        if not others:
            del self._of_agent[name[0], entry.agent]

    def _pack(self, manifest: Manifest) -> bytes:
        metadata = {k: v for k, v in manifest["metadata"].items() if k != "managedFields"}
        kind = self.scope.kind
        whole = {"apiVersion": kind.api_version, "kind": kind.kind} | dict(manifest)
        if self.scope.metadata_only:
            whole |= {"apiVersion": kind.api_version, "kind": kind.kind}
        text = json.dumps({**whole, "metadata": metadata}, separators=(",", ":")).encode()
        if not self._dictionary:
            # Objects of one kind are alike: what the first one says need not be stored again.
            self._dictionary = text[:_DICTIONARY]
        packer = zlib.compressobj(
            1, zlib.DEFLATED, _RAW, 8, zlib.Z_DEFAULT_STRATEGY, self._dictionary
        )
        return packer.compress(text) + packer.flush()

    def _unpack(self, entry: _Entry) -> dict[str, Any]:
        unpacker = zlib.decompressobj(_RAW, self._dictionary)
        found: dict[str, Any] = json.loads(unpacker.decompress(entry.data) + unpacker.flush())
        return found


def _name(manifest: Manifest) -> _Name:
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])


def _labels(manifest: Manifest) -> Labels:
    labels: Labels = manifest["metadata"].get("labels") or {}
    return labels


def _order(version: str) -> int:
    """Versions of one kind as numbers; 0 where they are none, and the last word counts."""
    return int(version) if version.isdecimal() else 0
