"""The edge: kopf watches and tells which agents something happened to. Nothing else.

kopf's low-level event handlers write nothing to the objects they see; every other kind of handler
would leave annotations or finalizers on users' objects. Reconciling is not its business.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import kopf

from phasegate.adapters.access import Access
from phasegate.api.base import API_VERSION
from phasegate.control.ports import Key
from phasegate.rollout.labels import AGENT, MANAGED_BY, MANAGER

_OURS: Final = f"{MANAGED_BY}={MANAGER}"
_STOP_SECONDS: Final = 2.0


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


class Backoffs:
    """Seconds between attempts at the API server: for ever, at most 30 s apart.

    kopf's own list ends, and then the whole process does.
    """

    def __iter__(self) -> Iterator[float]:
        """1, 2, 5, 10, then 30 again and again."""
        yield from (1, 2, 5, 10)
        while True:
            yield 30


class Edge:
    """Turns what happens at the API server into keys.

    `enqueue` gets the key of each agent that something happened to; `relisted` is called, at most
    every `relist_delay` seconds, after kopf lost its place in a stream and listed a kind anew: it never tells
    what vanished meanwhile, so all agents have to be looked at.

    kopf runs in a thread and an event loop of its own: it takes the signal handlers of the main
    thread, and at its end cancels every task of its loop that it does not know, reconciles in
    mid-write included. Both callbacks run in the caller's loop.
    """

    def __init__(
        self,
        access: Access,
        references: References,
        enqueue: Callable[[Key], None],
        relisted: Callable[[], None],
        *,
        namespaces: Collection[str] = (),
        relist_delay: float = 5.0,
    ) -> None:
        self._access = access
        self._references = references
        self._enqueue = enqueue
        self._relisted = relisted
        self._namespaces = namespaces
        self._relist_delay = relist_delay
        self._known: set[str] = set()
        self._relist: asyncio.TimerHandle | None = None
        self.ready = asyncio.Event()
        """Set once kopf is up (its lists may still be arriving)."""

    async def run(self) -> None:
        """Watch until cancelled; raises what kopf ended with, if it ends by itself."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        thread = _Thread(self._serve, loop, ended)
        thread.start()
        try:
            await asyncio.shield(ended)
        finally:
            thread.stop()
            if self._relist is not None:
                self._relist.cancel()
            if not ended.done():
                await asyncio.wait({ended}, timeout=_STOP_SECONDS)
            if ended.done() and not ended.cancelled():
                ended.exception()  # seen

    def happened(self, kind: str, event: Mapping[str, Any]) -> None:
        """One watch event about an object of `kind` (plural): enqueue whom it concerns."""
        body = event["object"]
        self._note(event["type"], str(body["metadata"]["uid"]))
        for key in self._concerned(kind, body):
            self._enqueue(key)

    def _concerned(self, kind: str, body: Mapping[str, Any]) -> Iterator[Key]:
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        labels = metadata.get("labels") or {}
        if kind == "agentdeployments":
            yield Key(namespace, name)
        elif kind == "rollbackpolicies":
            yield from self._references.of_policy(namespace, name)
        elif kind == "rolloutactions":
            agent = (body.get("spec") or {}).get("agent")
            if isinstance(agent, str):
                yield Key(namespace, agent)
        elif labels.get(MANAGED_BY) == MANAGER and AGENT in labels:
            yield Key(namespace, labels[AGENT])
        elif kind == "configmaps":
            yield from self._references.of_config_map(namespace, name)

    def _note(self, event_type: str | None, uid: str) -> None:
        if event_type == "DELETED":
            self._known.discard(uid)
            return
        if event_type is None and uid in self._known and self._relist is None:
            loop = asyncio.get_running_loop()
            self._relist = loop.call_later(self._relist_delay, self._tell_relisted)
        self._known.add(uid)

    def _tell_relisted(self) -> None:
        self._relist = None
        self._relisted()

    async def _serve(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        """Run kopf in the current loop, reporting to `loop`, until `stop`."""

        def tell(kind: str, event: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(self.happened, kind, event)

        ready = asyncio.Event()
        announcing = asyncio.create_task(self._announce(ready, loop))
        await kopf.operator(
            registry=registry(self._access, tell),
            settings=settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stop,
            ready_flag=ready,
        )
        announcing.cancel()

    async def _announce(self, ready: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        await ready.wait()
        loop.call_soon_threadsafe(self.ready.set)


class _Thread:
    """A thread with an event loop of its own that ends when told, and reports its end."""

    def __init__(
        self,
        serve: Callable[[asyncio.AbstractEventLoop, asyncio.Event], Any],
        caller: asyncio.AbstractEventLoop,
        ended: asyncio.Future[None],
    ) -> None:
        self._serve = serve
        self._caller = caller
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._guard = threading.Lock()
        self._stopped = False
        # A daemon: should kopf hang, the process still ends.
        self._thread = threading.Thread(target=self._main, name="kopf", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._guard:
            self._stopped = True
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)

    def _main(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._run())
        except BaseException as caught:  # whatever it is belongs to the caller
            error = caught
        with self._guard:
            self._loop = None
        with contextlib.suppress(RuntimeError):  # the caller did not wait and its loop is closed
            self._caller.call_soon_threadsafe(self._report, error)

    async def _run(self) -> None:
        stop = asyncio.Event()
        with self._guard:
            self._loop, self._stop = asyncio.get_running_loop(), stop
            if self._stopped:
                return
        await self._serve(self._caller, stop)

    def _report(self, error: BaseException | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)


def settings() -> kopf.OperatorSettings:
    """Settings that make kopf a watcher only."""
    result = kopf.OperatorSettings()
    result.posting.enabled = False  # events are announced by the recorder
    result.scanning.disabled = True  # else it watches all CRDs and namespaces
    result.watching.chunk_size = 500
    result.watching.label_selectors["apps/v1/deployments"] = _OURS
    result.watching.label_selectors["v1/services"] = _OURS
    result.watching.label_selectors["gateway.networking.k8s.io/v1/httproutes"] = _OURS
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 5
    result.networking.error_backoffs = Backoffs()
    result.queueing.idle_timeout = 1.0  # a worker per object, gone a second after its last event
    result.process.ultimate_exiting_timeout = None  # killing the process is not kopf's decision
    return result


def registry(
    access: Access, tell: Callable[[str, Mapping[str, Any]], None]
) -> kopf.OperatorRegistry:
    """Event handlers for all watched kinds, in a registry of their own."""
    result = kopf.OperatorRegistry()

    @kopf.on.login(registry=result)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(access)

    def watch(group_version: str, plural: str) -> None:
        @kopf.on.event(group_version, plural, registry=result, id=plural)
        async def event(event: Mapping[str, Any], **_: Any) -> None:
            tell(plural, event)

    for plural in ("agentdeployments", "rollbackpolicies", "rolloutactions"):
        watch(API_VERSION, plural)
    watch("apps/v1", "deployments")
    watch("gateway.networking.k8s.io/v1", "httproutes")
    watch("v1", "services")
    watch("v1", "configmaps")
    return result


async def connection(access: Access) -> kopf.ConnectionInfo:
    """`access` in kopf's terms, read afresh: kopf asks again when it is not let in any more."""
    configuration = await access.load()
    authorization = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, token = (authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=str(configuration.host),
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )
