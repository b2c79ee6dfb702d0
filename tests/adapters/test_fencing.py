"""No byte of a write leaves a process that does not lead, whatever happened since it was decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from phasegate.adapters.access import Access
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.api.errors import ClusterError, Fenced, Throttled
from phasegate.control.ports import Kind

SERVICE = Kind("v1", "Service", "services")
MANIFEST = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "ns", "name": "support"},
}


@dataclass
class Fence:
    """Closes after it let so many questions pass; open for ever without a number."""

    left: int | None = None

    def check(self) -> None:
        if self.left == 0:
            raise Fenced("not sent")
        if self.left is not None:
            self.left -= 1


@dataclass
class Server:
    """Keeps every byte; answers each piece of a request the same, once `answering` is set."""

    head: str = "HTTP/1.1 200 OK"
    received: bytearray = field(default_factory=bytearray)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    serving: set[asyncio.Task[None] | None] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        while data := await reader.read(65536):
            self.received += data
            self.asked.set()
            await self.answering.wait()
            writer.write(f"{self.head}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def api(
    folder: Path, server: Server, fence: Fence, connections: int = 4
) -> AsyncIterator[KubernetesCluster]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    file = folder / "kubeconfig.yaml"
    file.write_text(
        f"""{{apiVersion: v1, kind: Config, current-context: c,
        clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}],
        users: [{{name: u, user: {{token: t}}}}],
        contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}"""
    )
    cluster = await KubernetesCluster.connect(
        Access(file), connections=connections, deadline=3.0, fence=fence
    )
    try:
        yield cluster
    finally:
        await cluster.close()
        listening.close()
        await asyncio.gather(*(task for task in server.serving if task is not None))


@pytest.fixture
def server() -> Server:
    server = Server()
    server.answering.set()
    return server


@pytest.mark.parametrize("passes", [0, 1])
async def test_a_fenced_write_sends_nothing_be_it_stopped_before_head_or_body(
    tmp_path: Path, server: Server, passes: int
) -> None:
    fence = Fence()
    async with api(tmp_path, server, fence) as cluster:
        for write in (
            lambda: cluster.apply(MANIFEST),
            lambda: cluster.create(MANIFEST),
            lambda: cluster.patch(SERVICE, "ns", "support", {"spec": {}}),
            lambda: cluster.patch_status(SERVICE, "ns", "support", {}, None),
            lambda: cluster.delete(SERVICE, "ns", "support"),
        ):
            fence.left = passes
            with pytest.raises(Fenced):
                await write()
            assert not server.received


async def test_a_fenced_process_still_reads(tmp_path: Path, server: Server) -> None:
    async with api(tmp_path, server, Fence(0)) as cluster:
        await cluster.get(SERVICE, "ns", "support")
    assert server.received.startswith(b"GET ")


async def test_an_open_fence_lets_writes_pass(tmp_path: Path, server: Server) -> None:
    async with api(tmp_path, server, Fence()) as cluster:
        await cluster.apply(MANIFEST)
    assert server.received.startswith(b"PATCH ")
    assert b'"name":"support"' in server.received


async def test_a_write_that_waited_for_a_connection_asks_when_it_has_one(tmp_path: Path) -> None:
    server, fence = Server(), Fence()
    async with api(tmp_path, server, fence, connections=1) as cluster:
        first = asyncio.create_task(cluster.get(SERVICE, "ns", "other"))
        await server.asked.wait()
        waiting = asyncio.create_task(cluster.apply(MANIFEST))
        await asyncio.sleep(0)  # noqa: TID251 (it asks for a connection)
        fence.left = 0  # leadership ends while it waits
        server.answering.set()
        await first
        with pytest.raises(Fenced):
            await waiting
    assert b"PATCH" not in server.received


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_a_busy_server_says_when_to_come_back(
    tmp_path: Path, server: Server, status: str
) -> None:
    server.head = f"HTTP/1.1 {status}\r\nRetry-After: 7"
    async with api(tmp_path, server, Fence()) as cluster:
        with pytest.raises(Throttled) as caught:
            await cluster.apply(MANIFEST)
    assert caught.value.after == 7.0


@pytest.mark.parametrize("pause", ["", "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_a_pause_that_is_no_number_of_seconds_is_none(
    tmp_path: Path, server: Server, pause: str
) -> None:
    server.head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {pause}"
    async with api(tmp_path, server, Fence()) as cluster:
        with pytest.raises(ClusterError) as caught:
            await cluster.apply(MANIFEST)
    assert not isinstance(caught.value, Throttled)
