"""`phasegate.control.ports.Cluster` that reads from memory where it can, and writes through.

What is read here may hold traffic or take it back. Whoever gives traffic asks the API server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from phasegate.adapters.mirror import Labels, Mirror, Scope, agent_in
from phasegate.api.errors import ClusterError, NotFound
from phasegate.control.ports import Cluster, Key, Kind, Manifest
from phasegate.rollout.labels import AGENT

CONTENTS: Final = 4096
"""Foreign objects whose content is kept; forgetting one costs one read."""

_Name = tuple[str, str, str]


class Mirrors:
    """All mirrors of a process, by kind and namespace."""

    def __init__(self, scopes: Iterable[Scope], clock: Callable[[], float] = monotonic) -> None:
        self.all = tuple(Mirror(scope, clock) for scope in scopes)
        self._by_kind: defaultdict[tuple[str, str | None], list[Mirror]] = defaultdict(list)
        for mirror in self.all:
            self._by_kind[mirror.scope.kind.plural, mirror.scope.namespace].append(mirror)
        self._contents: dict[_Name, Manifest] = {}

    def of(self, kind: Kind, namespace: str | None) -> Sequence[Mirror]:
        """Mirrors of a kind that hold a namespace (None: all of them)."""
        own = self._by_kind.get((kind.plural, namespace))
        return self._by_kind.get((kind.plural, None), ()) if own is None else own

    def offer(self, kind: Kind, manifest: Manifest) -> None:
        """Something the API server answered just now."""
        metadata = manifest["metadata"]
        for mirror in self.of(kind, metadata.get("namespace")):
            if not mirror.scope.metadata_only:
                mirror.offer(manifest)
            elif not mirror.scope.holds(metadata.get("labels") or {}):
                mirror.believe(metadata.get("namespace", ""), metadata["name"])

    def doubt(
        self, kind: Kind, namespace: str | None, name: str, labels: Labels | None = None
    ) -> None:
        """What is known of this object is not true any more (`labels`: those it may have been given)."""
        where, mirrors = namespace or "", self.of(kind, namespace)
        holding = [m for m in mirrors if m.version(where, name) is not None]
        if labels is not None:
            agent = labels.get(AGENT)
            marked = [m for m in mirrors if m in holding or m.scope.holds(labels)]
        else:
            agent, marked = None, holding or list(mirrors)
        for mirror in marked:
            mirror.doubt(where, name, agent)

    def missed(self, kind: Kind, namespace: str | None, name: str) -> None:
        """The API server has no such object; where one is remembered, its stream will tell."""
        where, mirrors = namespace or "", self.of(kind, namespace)
        if all(mirror.version(where, name) is None for mirror in mirrors):
            self.believe(kind, namespace, name)
        else:
            self.doubt(kind, namespace, name)

    def believe(self, kind: Kind, namespace: str | None, name: str) -> None:
        """What is known of this object is true."""
        for mirror in self.of(kind, namespace):
            mirror.believe(namespace or "", name)

    def keep(self, kind: Kind, namespace: str, manifest: Manifest) -> None:
        """The content of an object whose changes are told without it."""
        name = (kind.plural, namespace, manifest["metadata"]["name"])
        self._contents.pop(name, None)
        self._contents[name] = manifest
        if len(self._contents) > CONTENTS:
            del self._contents[next(iter(self._contents))]

    def kept(self, kind: Kind, namespace: str, name: str, version: int) -> Manifest | None:
        """The content kept of an object, if it is of this version."""
        found = self._contents.get((kind.plural, namespace, name))
        if found is None or str(found["metadata"]["resourceVersion"]) != str(version):
            return None
        return found


class CachedCluster:
    """Reads of mirrored kinds cost nothing while their streams live; everything else is passed on.

    One that does not `remember` asks always; what it is answered, the others know from then on.
    """

    def __init__(self, live: Cluster, mirrors: Mirrors, *, remember: bool = True) -> None:
        self._live = live
        self._remember = remember
        self._mirrors = mirrors
        self._kinds = {
            (m.scope.kind.api_version, m.scope.kind.kind): m.scope.kind for m in mirrors.all
        }

    def keys(self, kind: Kind, namespaces: Iterable[str | None]) -> set[Key]:
        """Namespace and name of every object of a mirrored kind, as far as is known."""
        return {
            Key(*name)
            for namespace in namespaces
            for mirror in self._mirrors.of(kind, namespace)
            for name in mirror.names(namespace)
        }

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """The object, from memory if what is there can be believed; raises NotFound."""
        mirrors, where = self._mirrors.of(kind, namespace), namespace or ""
        if not self._remember:
            return await self._get(kind, namespace, name, None)
        known = next((m for m in mirrors if m.version(where, name) is not None), None)
        if not mirrors or any(m.doubted(where, name) or not m.fresh for m in mirrors):
            return await self._get(kind, namespace, name, known)
        if known is not None and not known.scope.metadata_only:
            found = known.get(where, name)
        elif known is not None:
            found_version = known.version(where, name)
            assert found_version is not None
            kept = self._mirrors.kept(kind, where, name, found_version)
            found = None if kept is None else dict(kept)
        elif any(not m.scope.labels for m in mirrors):
            raise NotFound(f'{kind.plural} "{name}" not found')
        else:
            found = None  # it may exist without our labels
        return found if found is not None else await self._get(kind, namespace, name, None)

    async def _get(
        self, kind: Kind, namespace: str | None, name: str, known: Mirror | None
    ) -> Manifest:
        """Ask; an API server that does not answer is as it was when it last did."""
        try:
            manifest = await self._live.get(kind, namespace, name)
        except NotFound:
            self._mirrors.missed(kind, namespace, name)
            raise
        except ClusterError:
            remembered = known.get(namespace or "", name) if known is not None else None
            if remembered is None or (known is not None and known.scope.metadata_only):
                raise
            return remembered
        self._offer(kind, manifest)
        if any(m.scope.metadata_only for m in self._mirrors.of(kind, namespace)):
            self._mirrors.keep(kind, namespace or "", manifest)
        return manifest

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        """Objects with the given label selector, from memory if what is there can be believed."""
        mirrors = self._mirrors.of(kind, namespace)
        mirror = next((m for m in mirrors if m.fresh and m.scope.covers(selector)), None)
        doubted = mirror.doubts(namespace, agent_in(selector)) if mirror is not None else ()
        if mirror is not None and self._remember and not doubted:
            return mirror.list(namespace, selector)
        found = await self._live.list(kind, namespace, selector)
        for manifest in found:
            self._offer(kind, manifest)
        listed = {(i["metadata"].get("namespace", ""), i["metadata"]["name"]) for i in found}
        for where, name in set(doubted) - listed:
            self._mirrors.missed(kind, where or None, name)
        return found

    async def about(self, kind: Kind, key: Key) -> Sequence[Manifest]:
        """Objects about an agent; from the API server, those about others as well."""
        mirrors = self._mirrors.of(kind, key.namespace)
        mirror = next((m for m in mirrors if m.fresh and m.scope.covers("")), None)
        if mirror is None or not self._remember or mirror.doubts(key.namespace, key.name):
            return await self.list(kind, key.namespace)
        return mirror.about(key.namespace, key.name)

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Write through."""
        if dry_run:
            return await self._live.apply(manifest, dry_run=True)
        return await self._write(
            *self._place(manifest), self._live.apply(manifest), _labels(manifest)
        )

    async def create(self, manifest: Manifest) -> Manifest:
        """Write through."""
        return await self._write(
            *self._place(manifest), self._live.create(manifest), _labels(manifest)
        )

    async def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        resource_version: str | None,
    ) -> Manifest:
        """Write through."""
        write = self._live.patch_status(kind, namespace, name, status, resource_version)
        return await self._write(kind, namespace, name, write)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> Manifest:
        """Write through."""
        return await self._write(
            kind, namespace, name, self._live.patch(kind, namespace, name, patch)
        )

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None
    ) -> None:
        """Write through; until the stream tells that it is gone, it is read live."""
        self._mirrors.doubt(kind, namespace, name)
        await self._live.delete(kind, namespace, name, uid=uid)

    async def _write(
        self,
        kind: Kind | None,
        namespace: str | None,
        name: str,
        write: Awaitable[Manifest],
        labels: Labels | None = None,
    ) -> Manifest:
        try:
            written = await write
        except BaseException:  # a conflict, or nobody knows whether it happened
            if kind is not None:
                self._mirrors.doubt(kind, namespace, name, labels)
            raise
        if kind is not None:
            self._offer(kind, written)
        return written

    def _offer(self, kind: Kind, manifest: Manifest) -> None:
        if "resourceVersion" in (manifest.get("metadata") or {}):
            self._mirrors.offer(kind, manifest)

    def _place(self, manifest: Manifest) -> tuple[Kind | None, str | None, str]:
        metadata = manifest["metadata"]
        kind = self._kinds.get((manifest["apiVersion"], manifest["kind"]))
        return kind, metadata.get("namespace"), metadata.get("name", "")


def _labels(manifest: Manifest) -> Labels:
    labels: Labels = manifest["metadata"].get("labels") or {}
    return labels
