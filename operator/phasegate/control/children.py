"""Bring an agent's children to what a decision says: apply what differs, delete what is not listed."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from phasegate.api.base import Meta
from phasegate.api.errors import ClusterError, Conflict, NotFound, Refused
from phasegate.control import kinds
from phasegate.control.observe import Sight
from phasegate.control.parse import owned_by
from phasegate.control.ports import Cluster, Key, Kind, Manifest
from phasegate.rollout import manifests, revision
from phasegate.rollout.decision import Children, Decision
from phasegate.rollout.labels import workload_name
from phasegate.rollout.manifests import revision_of
from phasegate.rollout.observed import Revision
from phasegate.rollout.route import Mode

_Name = tuple[str, str]
_KINDS = (kinds.DEPLOYMENT, kinds.SERVICE, kinds.CONFIG_MAP)


@dataclass(frozen=True, slots=True)
class _Applied:
    """A manifest we applied, and the version of the object that came of it."""

    digest: str
    version: str


class ChildrenKeeper:
    """Applies and deletes an agent's children; writes nothing when nothing differs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._applied: dict[Key, dict[_Name, _Applied]] = {}
        self._stored: dict[Key, dict[str, Revision]] = {}
        """Revisions of running attempts: one that is deleted by hand is stored again."""

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._applied.pop(key, None)
        self._stored.pop(key, None)

    async def keep(self, sight: Sight, decision: Decision, *, delete: bool) -> list[ClusterError]:
        """Create and change what `decision` lists, then (`delete`) remove the rest.

        One failing write does not stop the next. What the live route or the decided one refers to
        is never removed, listed or not.
        """
        meta, errors = sight.observed.meta, list[ClusterError]()
        known = dict(sight.observed.revisions)
        if decision.store is not None:
            known[decision.store.hash] = decision.store
            await attempt(errors, self._store(meta, decision.store))
        if decision.children is None:
            return errors
        for lost in self._lost(meta, decision, known):
            known[lost.hash] = lost
            await attempt(errors, self._store(meta, lost))
        wanted = _wanted(meta, decision.children, known)
        live = _by_name(sight)
        for name, manifest in wanted.items():
            await attempt(errors, self._apply(meta, manifest, live.get(name)))
        if delete and not errors:  # a child that could not be made may be why another must stay
            needed = set(wanted) | _referenced(sight, decision)
            needed |= _listed(meta.name, decision.children)
            for kind, item in _surplus(sight, decision.children, needed):
                await attempt(errors, self._delete(meta, kind, item))
        return errors

    def _lost(
        self, meta: Meta, decision: Decision, known: Mapping[str, Revision]
    ) -> list[Revision]:
        """Revisions that were there earlier in this attempt and are needed; remembers those of now."""
        key = Key(meta.namespace, meta.name)
        if decision.children is None or decision.status.progress is None:
            self._stored.pop(key, None)
            return []
        before, keep = self._stored.get(key, {}), decision.children.keep_revisions
        self._stored[key] = before | {h: r for h, r in known.items() if h in keep}
        return [r for h, r in before.items() if h in keep and h not in known]

    async def _store(self, meta: Meta, stored: Revision) -> None:
        try:
            await self._cluster.create(revision.to_manifest(meta, stored))
        except Conflict:
            return  # stored before a crash: its data cannot have changed

    async def _apply(self, meta: Meta, manifest: Mapping[str, Any], live: Manifest | None) -> None:
        memory = self._applied.setdefault(Key(meta.namespace, meta.name), {})
        name, digest = _name(manifest), hashlib.sha256(revision.canonical(manifest)).hexdigest()
        if live is None:
            await self._refuse_foreign(meta, manifest)
        # The server may store a value in other words (500m for 0.5): what it made of this manifest
        # once it will make of it again.
        elif contains(live, manifest) or memory.get(name) == _Applied(digest, _version(live)):
            return
        memory[name] = _Applied(digest, _version(await self._cluster.apply(manifest)))

    async def _refuse_foreign(self, meta: Meta, manifest: Mapping[str, Any]) -> None:
        """Raise Refused rather than take over an object that is somebody else's."""
        kind, name = next(k for k in _KINDS if k.kind == manifest["kind"]), _name(manifest)[1]
        try:
            live = await self._cluster.get(kind, meta.namespace, name)
        except NotFound:
            return
        if not owned_by(live, meta.uid):
            raise Refused(
                f"{kind.kind} {name} exists and does not belong to AgentDeployment {meta.name}"
            )

    async def _delete(self, meta: Meta, kind: Kind, item: Manifest) -> None:
        metadata = item["metadata"]
        if metadata.get("deletionTimestamp"):
            return
        self._applied.get(Key(meta.namespace, meta.name), {}).pop(
            (kind.kind, metadata["name"]), None
        )
        await self._cluster.delete(kind, meta.namespace, metadata["name"], uid=metadata["uid"])


def removes(sight: Sight, decision: Decision) -> bool:
    """True when carrying `decision` out takes pods or a revision away for good."""
    children, live, agent = decision.children, sight.children, sight.observed.meta.name
    if children is None:
        return False
    kept = {workload_name(agent, w.revision, w.mode) for w in children.workloads}
    kept |= {name for _, name in _referenced(sight, decision)}
    running = {revision_of(item) for item in live.deployments}
    return any(item["metadata"]["name"] not in kept for item in live.deployments) or any(
        revision_of(item) not in running | children.keep_revisions for item in live.revisions
    )


def contains(live: object, wanted: object) -> bool:
    """True when `live` says everything `wanted` says; mappings may say more, lists may not."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and contains(live[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(live, (list, tuple))
            and len(live) == len(wanted)
            and all(contains(a, b) for a, b in zip(live, wanted, strict=True))
        )
    return live == wanted and type(live) is type(wanted)


async def attempt(errors: list[ClusterError], write: Awaitable[object]) -> None:
    """Await one write; its failure goes into `errors` and does not stop the others."""
    try:
        await write
    except ClusterError as error:
        errors.append(error)


def _wanted(
    meta: Meta, children: Children, known: Mapping[str, Revision]
) -> dict[_Name, Mapping[str, Any]]:
    """Manifests by kind and name, in the order in which they are needed."""
    found: list[Mapping[str, Any]] = []
    used = [known[h] for h in dict.fromkeys(w.revision for w in children.workloads) if h in known]
    for one in used:
        found += manifests.config_map_copies(meta, one)
    for plan in children.workloads:
        if plan.revision in known:
            stored = known[plan.revision]
            found.append(manifests.deployment(meta, stored, plan.mode, plan.replicas))
            found.append(manifests.revision_service(meta, stored, plan.mode))
    stable = known.get(children.stable_service or "")
    if stable is not None:
        found.append(manifests.stable_service(meta, stable))
    return {_name(manifest): manifest for manifest in found}


def _by_name(sight: Sight) -> dict[_Name, Manifest]:
    live = sight.children
    groups = zip(_KINDS, (live.deployments, live.services, live.config_maps), strict=True)
    return {(kind.kind, i["metadata"]["name"]): i for kind, items in groups for i in items}


def _referenced(sight: Sight, decision: Decision) -> set[_Name]:
    """Deployments and Services that the route refers to, as it was seen and as it is decided."""
    agent = sight.observed.meta.name
    used: set[tuple[str, Mode]] = set()
    for plan in (sight.observed.route.plan, decision.route):
        if plan is not None:
            used |= plan.revisions()
    names = [workload_name(agent, revision_hash, mode) for revision_hash, mode in used]
    return {(kind, name) for kind in ("Deployment", "Service") for name in names}


def _listed(agent: str, children: Children) -> set[_Name]:
    """Workloads that should be there, those too whose revision is lost and that cannot be applied."""
    names = [workload_name(agent, w.revision, w.mode) for w in children.workloads]
    return {(kind, name) for kind in ("Deployment", "Service") for name in names}


def _surplus(
    sight: Sight, children: Children, needed: set[_Name]
) -> Iterable[tuple[Kind, Manifest]]:
    """What goes: workloads first, then what they stood on."""
    live, agent = sight.children, sight.observed.meta.name
    for kind, items in ((kinds.DEPLOYMENT, live.deployments), (kinds.SERVICE, live.services)):
        for item in items:
            name = item["metadata"]["name"]
            if (kind.kind, name) not in needed and name != agent:
                yield kind, item
    running = {revision_of(item) for item in live.deployments}
    for item in live.config_maps:
        if revision_of(item) not in running | {w.revision for w in children.workloads}:
            yield kinds.CONFIG_MAP, item
    for item in live.revisions:
        if revision_of(item) not in running | children.keep_revisions:
            yield kinds.CONTROLLER_REVISION, item


def _name(manifest: Mapping[str, Any]) -> _Name:
    return manifest["kind"], manifest["metadata"]["name"]


def _version(live: Manifest) -> str:
    """What changes with an object's content: its generation, or for kinds without one its version."""
    metadata = live["metadata"]
    return f"{metadata.get('generation') or metadata['resourceVersion']}/{metadata['uid']}"
