"""An API server in memory between which and the operator anything may happen at any call."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from phasegate.adapters.kinds import EVENT, HTTP_ROUTE, HTTP_ROUTE_FILTER
from phasegate.api.errors import ClusterError, Conflict
from phasegate.control import kinds
from phasegate.control.ports import Kind, Manifest

from tests.control.fakes import FakeCluster, VirtualClock

Fate = Literal["dies before", "dies after"] | ClusterError | None
"""What happens at a call: the process dies, it is answered with an error, or nothing special."""
LOST = "the answer was lost"
"""An error with these words comes after the call was carried out."""
READS = frozenset({"get", "list", "dry-run"})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the operator."""

    verb: str
    plural: str
    name: str = ""

    @property
    def writes(self) -> bool:
        return self.verb not in READS


def no_fate(call: Call) -> Fate:
    """Everything goes well."""
    return None


class SimulatedCluster(FakeCluster):
    """An API server between which and the operator anything may happen at any call."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.fate: Callable[[Call], Fate] = no_fate
        self.calls: list[Call] = []
        """Every write of the operator that was carried out."""
        self.dead = False
        """The operator has died: nothing it still asks for is done or answered."""
        self.on_write: Callable[[Call], None] = lambda call: None
        self.on_conflict: Callable[[], object] = lambda: None
        """After a Conflict the object is read anew."""
        self._applied: dict[tuple[str, str | None, str], Manifest] = {}

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        call = Call("get", kind.plural, name)
        return await self._through(call, super().get(kind, namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        call = Call("list", kind.plural)
        return await self._through(call, super().list(kind, namespace, selector))

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        plural = _plural(manifest)
        call = Call("dry-run" if dry_run else "apply", plural, manifest["metadata"]["name"])
        return await self._through(call, self._apply(manifest, plural, dry_run=dry_run))

    async def create(self, manifest: Manifest) -> Manifest:
        call = Call("create", _plural(manifest), manifest["metadata"]["name"])
        return await self._through(call, super().create(manifest))

    async def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        resource_version: str | None,
    ) -> Manifest:
        call = Call("patch-status", kind.plural, name)
        write = super().patch_status(kind, namespace, name, status, resource_version)
        return await self._through(call, write)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> Manifest:
        call = Call("patch", kind.plural, name)
        return await self._through(call, super().patch(kind, namespace, name, patch))

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None
    ) -> None:
        call = Call("delete", kind.plural, name)
        await self._through(call, super().delete(kind, namespace, name, uid=uid))

    def load(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Objects as another operator left them: what of them is not status is what it applied."""
        system = ("uid", "resourceVersion", "generation", "creationTimestamp")
        for item in copy.deepcopy(list(objects)):
            metadata = item["metadata"]
            key = (_plural(item), metadata.get("namespace"), metadata["name"])
            self._objects[key] = dict(item)
            mine = {name: value for name, value in metadata.items() if name not in system}
            applied = {name: value for name, value in item.items() if name != "status"}
            self._applied[key] = {**applied, "metadata": mine}
        newest = max(int(item["metadata"]["resourceVersion"]) for item in self._objects.values())
        self._versions = itertools.count(newest + 1)

    def snapshot(self) -> dict[tuple[str, str | None, str], dict[str, Any]]:
        """All objects as they are now."""
        return copy.deepcopy(self._objects)

    def collect_garbage(self) -> None:
        """What the garbage collector does: children of a controller that is gone go."""
        alive = {item["metadata"]["uid"] for item in self._objects.values()}
        orphans = [
            key
            for key, item in self._objects.items()
            if any(o["uid"] not in alive for o in item["metadata"].get("ownerReferences") or ())
        ]
        for key in orphans:
            del self._objects[key]

    async def _through(self, call: Call, carried_out: Awaitable[_T]) -> _T:
        task = asyncio.ensure_future(carried_out) if asyncio.isfuture(carried_out) else carried_out
        try:
            if self.dead:
                await _for_ever()
            fate = self.fate(call)
            if fate == "dies before":
                await self._die()
            if isinstance(fate, ClusterError) and LOST not in str(fate):
                raise fate
            result: _T = await self._carry_out(task, fate)
            task = None
        except Conflict:
            self.on_conflict()
            raise
        finally:
            if asyncio.iscoroutine(task):
                task.close()
        if call.writes:
            self.calls.append(call)
            self.on_write(call)
        if fate == "dies after":
            await self._die()
        if isinstance(fate, ClusterError):
            raise fate
        return result

    async def _carry_out(self, task: Awaitable[_T], fate: Fate) -> _T:
        try:
            return await task
        except ClusterError:
            if fate == "dies after":  # of the answer that nothing was written
                await self._die()
            raise

    async def _die(self) -> None:
        self.dead = True
        await _for_ever()

    async def _apply(self, manifest: Manifest, plural: str, *, dry_run: bool) -> Manifest:
        """Server-side apply: a field that was ours and is not named any more goes."""
        metadata = manifest["metadata"]
        key = (plural, metadata.get("namespace"), metadata["name"])
        live = self._objects.get(key)
        if live is not None and metadata.get("uid") not in (None, live["metadata"]["uid"]):
            raise Conflict("uid mismatch")
        if live is not None and not dry_run:
            kept = _without(copy.deepcopy(live), self._applied.get(key, {}), manifest)
            if kept != live:
                self._save(key, live, kept)
        result = await super().apply(manifest, dry_run=dry_run)
        if not dry_run:
            self._applied[key] = copy.deepcopy(manifest)
        return result


class Remembered(FakeCluster):
    """What the operator remembers of the API server: own writes at once, others' when it is told."""

    def __init__(self, clock: VirtualClock, server: SimulatedCluster) -> None:
        super().__init__(clock)
        self._server = server
        self.told = True
        """False: the watches are silent."""

    def hear(self) -> bool:
        """Everything that happened until now; whether that was anything."""
        before, self._objects = self._objects, self._server.snapshot()
        return before != self._objects


def _plural(manifest: Manifest) -> str:
    own = (k for k in vars(kinds).values() if isinstance(k, Kind))
    known = (HTTP_ROUTE, HTTP_ROUTE_FILTER, EVENT, *own)
    return next(kind.plural for kind in known if kind.kind == manifest["kind"])


def _without(live: Any, before: Any, wanted: Any) -> Any:
    """`live` without what `before` named and `wanted` does not."""
    if not (isinstance(live, dict) and isinstance(before, Mapping) and isinstance(wanted, Mapping)):
        return live
    for name, value in before.items():
        if name not in live:
            continue
        if name not in wanted:
            if isinstance(value, Mapping) and name in ("annotations", "labels"):
                live[name] = {k: v for k, v in live[name].items() if k not in value}
            else:
                del live[name]
        else:
            live[name] = _without(live[name], value, wanted[name])
    return live


async def _for_ever() -> None:
    await cast("asyncio.Future[None]", asyncio.get_running_loop().create_future())
