"""An API server's lists and watches over HTTP, in its own words, with faults on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from phasegate.adapters.access import Access
from phasegate.adapters.streams import ApiStreams


class ApiServer:
    """Policies of one cluster, listed in pages of two and watched."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 100
        self.requests: list[dict[str, str]] = []
        self.watches: list[asyncio.Queue[bytes | None]] = []
        self.refusals: list[tuple[int, str]] = []
        """What the next requests get instead of an answer."""
        self.between_pages: Callable[[], None] = lambda: None
        self.tokens = {"one"}
        self._changed = asyncio.Event()

    def put(self, name: str, *, quietly: bool = False, **spec: Any) -> dict[str, Any]:
        """Make or change an object; whoever watches is told, unless `quietly`."""
        self.version += 1
        known = name in self.objects
        metadata = {
            "namespace": "shop",
            "name": name,
            "resourceVersion": str(self.version),
            "managedFields": [{"manager": "kubectl"}],
        }
        self.objects[name] = {"metadata": metadata, "spec": spec}
        if not quietly:
            self.say("MODIFIED" if known else "ADDED", self.objects[name])
        return self.objects[name]

    def remove(self, name: str, *, quietly: bool = False) -> None:
        """Delete an object; `quietly`: nobody hears of it."""
        self.version += 1
        gone = self.objects.pop(name)
        if not quietly:
            version = {"resourceVersion": str(self.version)}
            self.say("DELETED", gone | {"metadata": gone["metadata"] | version})

    def say(self, what: str, item: Any) -> None:
        """One event to all who watch."""
        self.send(json.dumps({"type": what, "object": item}).encode() + b"\n")

    def send(self, raw: bytes | None) -> None:
        """Bytes to all who watch; None ends their streams."""
        for watch in self.watches:
            watch.put_nowait(raw)

    def expire(self) -> None:
        """The server does not remember what it told before."""
        self.say("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})

    async def watched(self, times: int = 1) -> None:
        """Wait until that many streams were opened."""
        while sum("watch" in query for query in self.requests) < times:
            self._changed.clear()
            await self._changed.wait()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A list or a watch."""
        query = dict(request.query)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _status(401, "Unauthorized")
        self.requests.append(query | {"accept": request.headers["Accept"], "path": request.path})
        if self.refusals:
            return _status(*self.refusals.pop(0))
        return await (self._watch(request) if "watch" in query else self._list(query))

    async def _list(self, query: dict[str, str]) -> web.Response:
        names = sorted(self.objects)
        start = int(query.get("continue", "0"))
        if start:
            self.between_pages()
        end = start + min(2, int(query["limit"]))
        metadata = {"resourceVersion": str(self.version)}
        if end < len(names):
            metadata["continue"] = str(end)
        items = [self.objects[name] for name in names[start:end] if name in self.objects]
        return web.json_response({"kind": "List", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.watches.append(events)
        self._changed.set()
        try:
            while (raw := await events.get()) is not None:
                await response.write(raw)
        finally:
            self.watches.remove(events)
        return response


def _status(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}
    return web.json_response(body, status=code)


@asynccontextmanager
async def serve(folder: Path) -> AsyncIterator[tuple[ApiServer, ApiStreams, Path]]:
    """The server, streams to it, and the kubeconfig they are signed in with."""
    server, app = ApiServer(), web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    file = folder / "kubeconfig"
    write_kubeconfig(file, port, "one")
    streams = await ApiStreams.connect(Access(file))
    try:
        yield server, streams, file
    finally:
        await streams.close()
        server.send(None)
        await runner.cleanup()


def write_kubeconfig(file: Path, port: int, token: str) -> None:
    """A kubeconfig with a token for a server on loopback."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "it", "user": {"token": token}}],
    }
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
