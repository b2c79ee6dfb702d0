"""A Prometheus on a real socket that can answer anything, byte for byte, and at its own time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import httpx
from phasegate.adapters.prometheus import Limits, PrometheusProvider
from phasegate.control.ports import RawSeries

from tests.control.fakes import settle
from tests.control.world import World

Answer = dict[str, Any]
Fault = Callable[["PrometheusServer", Answer], bytes | None]
"""Makes the bytes that are sent out of what is true; None: say nothing, ever."""


class Asking(PrometheusProvider):
    """The adapter as it is; it counts what is under way, so that virtual time can wait for it."""

    under_way = 0

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        self.under_way += 1
        try:
            return await super().raw(selector, start, end)
        finally:
            self.under_way -= 1

    async def stepped(
        self, query: str, start: float, end: float, step: float
    ) -> Sequence[RawSeries]:
        self.under_way += 1
        try:
            return await super().stepped(query, start, end, step)
        finally:
            self.under_way -= 1


class PrometheusServer:
    """Serves what the world's agents count, unless a fault says otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fault: Fault | None = None
        self.skew = 0.0
        """Seconds by which its clock, and its samples, are ahead."""
        self.dated = True
        self.asked = 0
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def now(self) -> float:
        return self.world.clock.now().timestamp() + self.skew

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nobody listens any more: connections are refused."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()
        await settle(5)  # what was accepted last is served by now, if only to be closed
        while self._open:
            for writer in list(self._open):
                writer.close()
            await settle(5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._open.discard(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False when the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self.asked += 1
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        truth = self.answer(form)
        sent = self.http(json.dumps(truth).encode()) if self.fault is None else None
        if self.fault is not None:
            sent = self.fault(self, truth)
            if sent is None:
                await reader.read()  # until the other side gives up
                return False
        assert sent is not None
        writer.write(sent)
        await writer.drain()
        return self.fault is None

    def http(self, body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
        """A whole answer."""
        date = f"Date: {formatdate(self.now(), usegmt=True)}\r\n" if self.dated else ""
        size = len(body) if length is None else length
        head = (
            f"HTTP/1.1 {status}\r\n{date}Content-Type: application/json\r\nContent-Length: {size}"
        )
        return head.encode() + b"\r\n\r\n" + body

    def answer(self, form: dict[str, str]) -> Answer:
        """The truth, in the words of the HTTP API."""
        window = re.fullmatch(r"(.*)\[(\d+)ms\]", form["query"])
        if window is None or "step" in form:
            return matrix([])
        end = float(form["time"])
        start = end - int(window[2]) / 1000
        wanted = dict(re.findall(r'(\w+)=~"([^"]*)"', window[1]))
        found = []
        for labels, samples in self.world.provider.series.items():
            known = dict(labels)
            if all(re.fullmatch(p, known.get(name, "")) for name, p in wanted.items()):
                shown = [(at + self.skew, value) for at, value in samples]
                values = [[at, _number(v)] for at, v in shown if start < at <= end]
                if values:
                    found.append({"metric": known, "values": values})
        return matrix(found)


def matrix(found: list[dict[str, Any]], **more: Any) -> Answer:
    return {"status": "success", "data": {"resultType": "matrix", "result": found}, **more}


def _number(value: float) -> str:
    return (
        str(value)
        if math.isfinite(value)
        else {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    )


class ServedWorld(World):
    """A world whose operator asks a real socket; virtual time waits for the answers."""

    server: PrometheusServer
    asking: Asking

    async def run(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            await super().run(1)
            await self._answered()
        await super().run(seconds % 1)
        await self._answered()

    async def until_phase(self, phase: str, most: int = 600) -> None:
        for _ in range(most):
            if self.status.get("phase") == phase:
                return
            await self.run(1)
        raise AssertionError(f"still {self.status.get('phase')}: {self.status.get('message')}")

    async def _answered(self) -> None:
        await settle(2)
        while self.asking.under_way:
            await settle(5)
        await settle()


@asynccontextmanager
async def served(limits: Limits) -> AsyncIterator[ServedWorld]:
    """A world, its Prometheus and an operator."""
    world = ServedWorld()
    world.server = PrometheusServer(world)
    await world.server.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        world.asking = Asking(
            "default",
            client,
            url=world.server.url,
            limits=limits,
            clock=lambda: world.clock.now().timestamp(),
        )
        world.metrics = world.asking
        async with world.operator():
            yield world
    await world.server.stop()
