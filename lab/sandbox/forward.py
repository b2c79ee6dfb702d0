"""Ports of the host that lead into the lab.

The host process listens on 127.0.0.1 and opens, for each connection, one to the lab's control
socket, with the request to be connected to an address inside (`lab.cluster.control`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from lab.errors import LabError, NotRunning
from lab.paths import State
from lab.sandbox.namespaces import connect

# Names for the usual targets; anything else is HOST:PORT inside the lab.
TARGETS = {
    "apiserver": "10.244.0.1:6443",
    "gateway": "10.244.0.1:80",
    "prometheus": "10.244.0.1:9090",
    "envoy-admin": "127.0.0.1:9901",
}


@dataclass(frozen=True)
class Forward:
    """One port of the host's loopback (0: any free one) and where it leads inside the lab."""

    host_port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Forward:
        """`9090:prometheus` or `8080:10.244.0.7:8080`; LabError if it is neither."""
        port, _, target = text.partition(":")
        target = TARGETS.get(target, target)
        if not port.isdigit() or int(port) > 65535 or not re.fullmatch(r"[\w.-]+:\d+", target):
            raise LabError(
                f"--forward {text!r}: write HOSTPORT:TARGET, where TARGET is one of "
                f"{', '.join(TARGETS)} or HOST:PORT inside the lab, such as 9090:prometheus."
            )
        return cls(int(port), target)


@asynccontextmanager
async def forwarding(state: State, forwards: Sequence[Forward]) -> AsyncIterator[dict[str, str]]:
    """Listen for the forwards while the block runs; LabError if a port is taken.

    Yields host:port outside by target inside, which is also written down for the other commands.
    """
    addresses = {}
    async with AsyncExitStack() as stack:
        for forward in forwards:
            server = await stack.enter_async_context(await _listen(state, forward))
            host, port = server.sockets[0].getsockname()
            addresses[forward.target] = f"{host}:{port}"
        state.forwards.write_text(json.dumps(addresses))
        yield addresses


async def _listen(state: State, forward: Forward) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inside = await _open(state, forward.target)
        except (LabError, OSError):
            writer.close()  # the client sees a closed connection, as with a dead server
            return
        await relay((reader, writer), inside)

    try:
        return await asyncio.start_server(serve, "127.0.0.1", forward.host_port)
    except OSError as error:
        raise LabError(f"Cannot listen on 127.0.0.1:{forward.host_port}: {error}") from error


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _open(state: State, target: str) -> Stream:
    reader, writer = await asyncio.open_unix_connection(sock=connect(state))
    writer.write(json.dumps({"op": "connect", "target": target}).encode() + b"\n")
    answer = json.loads(await reader.readline() or b"{}")
    if not answer.get("ok"):
        writer.close()
        raise NotRunning(str(answer.get("error", "the lab closed the connection")))
    return reader, writer


async def relay(one: Stream, other: Stream) -> None:
    """Copy bytes both ways until both sides have ended."""
    try:
        await asyncio.gather(_copy(one[0], other[1]), _copy(other[0], one[1]))
    finally:
        for _, writer in (one, other):
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.write_eof()
