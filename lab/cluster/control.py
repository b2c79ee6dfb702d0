"""The lab's control socket: one JSON line asks, one JSON line answers.

Unix sockets do not care about network namespaces, so this is how everything outside reaches in:
`{"op": "status"}`, `{"op": "part", "action": "stop", "part": "envoy"}`, `{"op": "operator",
"replicas": 1, "extra": []}`, `{"op": "stop-operator", "signal": "SIGKILL"}`, `{"op": "down"}`.
After `{"op": "connect", "target": "host:port"}` the connection is one to that address.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lab.cluster.parts import Cluster
from lab.errors import LabError
from lab.paths import short_path
from lab.sandbox.forward import Stream, relay

Json = dict[str, Any]


@asynccontextmanager
async def serve(cluster: Cluster) -> AsyncIterator[None]:
    """Answer requests while the block runs."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(cluster, (reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side went away
        finally:
            writer.close()

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(cluster.state.control) as path:
        sock.bind(path)
    cluster.state.control.chmod(0o600)
    # Not `async with`: on newer Pythons leaving it would wait for open connections.
    server = await asyncio.start_unix_server(handle, sock=sock, backlog=256)
    try:
        yield
    finally:
        server.close()


async def _converse(cluster: Cluster, client: Stream) -> None:
    reader, writer = client
    line = await reader.readline()
    if not line:
        return
    request = json.loads(line)
    inside: Stream | None = None
    try:
        if request["op"] == "connect":
            inside = await _connect(request["target"])
            answer: Json = {}
        else:
            answer = await _answer(cluster, request)
        reply = {"ok": True, **answer}
    except LabError as error:
        reply = {"ok": False, "error": str(error)}
    writer.write(json.dumps(reply).encode() + b"\n")
    await writer.drain()
    if inside:
        await relay(client, inside)
    if request["op"] == "down":
        cluster.ended.set()


async def _connect(target: str) -> Stream:
    host, _, port = target.rpartition(":")
    try:
        return await asyncio.open_connection(host, int(port))
    except OSError as error:
        raise LabError(f"Nothing answers at {target} in the lab: {error}") from error


async def _answer(cluster: Cluster, request: Json) -> Json:
    match request["op"]:
        case "status":
            return cluster.status()
        case "part":
            await cluster.act(request["action"], request["part"])
        case "operator":
            await cluster.start_operator(int(request["replicas"]), request["extra"])
        case "stop-operator":
            await cluster.stop_operator(signal.Signals[request["signal"]])
        case "down":
            pass
        case other:
            raise LabError(f"The lab knows no request {other!r}.")
    return {}
