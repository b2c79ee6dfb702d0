"""The world all three live in: lab, Prometheus, counters, played pods and gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench.peers import access
from bench.peers.build import Peers
from bench.peers.exporter import Exporter, Traffic, healthy
from bench.peers.processes import Prometheus, Running, inherit_nothing, running
from bench.peers.stage import GATEWAY, Stage
from bench.peers.tools import LIMIT, SEVEN, Json, Setting, Sites, Tool, shares
from bench.peers.watched import Watched
from bench.played import gateway
from bench.probe import Prometheus as Queries
from lab.handle import Lab
from lab.node.client import MERGE_PATCH, ApiClient, load_kubeconfig
from lab.parts.build import parts

SAFE = 1e-5
"""A candidate's share at which nobody notices it (Phasegate leaves one call in a million)."""
EXPORTER_PORT = 19100
_TOOL_PORT = 19200
_READY_S = 240.0
_AT_ONCE = 16
_SEED = 7


@dataclass
class Subject:
    """One agent in the hands of one tool, from its first revision to the end of one attempt."""

    tool: Tool
    setting: Setting
    name: str
    traffic: Traffic
    stable: str = ""
    candidate: str = ""
    share: float = 0.0
    """What the route gives the candidate now."""
    given: float | None = None
    """When it was first given its share; seconds since the epoch."""
    safe: float | None = None
    """When that was taken back."""
    writes: list[tuple[float, float]] = field(default_factory=list)
    """Arrival and share of every change of it."""

    def route(self, found: dict[str, float], at: float) -> None:
        """The route says something."""
        if not self.stable:
            self.stable = max(found, key=lambda name: found[name], default="")
        others = {name: share for name, share in found.items() if name != self.stable}
        if others and not self.candidate:
            self.candidate = next(iter(others))
        before, self.share = self.share, sum(others.values())
        if self.share != before:
            self.writes.append((at, self.share))
        if self.share > SAFE:
            self.given = self.given or at
            self.safe = None
        elif before > SAFE:
            self.safe = at

    def fail(self, at: float) -> None:
        """Let every call of the candidate fail from `at` on."""
        self.traffic.rates[self.candidate] = lambda now: 1.0 if now >= at else healthy(now)

    @property
    def query(self) -> str:
        """The share of failed calls of the candidate in the last ten seconds, if it is too large."""
        here = f'namespace="{self.tool.namespace}",agent="{self.name}",revision="{self.candidate}"'
        bad = f'sum(rate(agent_requests_total{{{here},outcome="error"}}[10s]))'
        return f"{bad} / sum(rate(agent_requests_total{{{here}}}[10s])) > {LIMIT}"

    @property
    def newest(self) -> str:
        """When the candidate was scraped last."""
        here = f'namespace="{self.tool.namespace}",agent="{self.name}",revision="{self.candidate}"'
        return f'timestamp(agent_requests_total{{{here},outcome="error"}})'


class World:
    """Open one with `opened`."""

    def __init__(
        self, lab: Lab, api: ApiClient, session: aiohttp.ClientSession, folder: Path
    ) -> None:
        self.lab = lab
        self.api = api
        self.folder = folder
        self.exporter = Exporter(_SEED)
        self.prometheus: Prometheus
        self.queries = Queries("", session)
        self._session = session
        self._subjects: dict[tuple[str, str], Subject] = {}
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._main: dict[str, Watched] = {}
        self.routes: dict[str, Watched] = {}
        self._kubeconfigs: dict[str, Path] = {}

    async def prepare(self, tools: Sequence[Tool], peers: Peers) -> None:
        """CRDs, accounts, namespaces and the gateway."""
        await access.install(
            self.api, [f for n in ("argo-rollouts", "flagger") for f in peers.crds(n)]
        )
        for path, item in gateway(GATEWAY["name"], "bench"):
            await access.create(self.api, path, item)
        for tool in tools:
            self._kubeconfigs[tool.name] = await access.account(self.api, self.lab, tool)
        await access.count_calls(self.api, tools)

    async def scrape(self, seconds: int) -> None:
        """A new, empty Prometheus that scrapes so often."""
        if hasattr(self, "prometheus"):
            await self.prometheus.stop()
        folder = self.folder / f"prometheus-{time.time_ns()}"
        target = f"127.0.0.1:{EXPORTER_PORT}"
        self.prometheus = Prometheus(parts(), folder, target, seconds)
        await self.prometheus.start()
        self.queries = Queries(self.prometheus.url, self._session)

    @asynccontextmanager
    async def operated(self, tool: Tool, setting: Setting, port: int = 0) -> AsyncIterator[Running]:
        """The tool's controller runs during the block."""
        log = self.folder / f"{tool.namespace}.log"
        argv = tool.command(self.sites(tool, port), setting)
        async with self._following(tool), running(argv, log) as process:
            yield process

    def sites(self, tool: Tool, port: int = 0) -> Sites:
        """Where the tool finds the others; `port`: 0, 1, 2 for tools that run at the same time."""
        return Sites(
            kubeconfig=self._kubeconfigs[tool.name],
            prometheus=self.prometheus.url,
            exporter=f"http://127.0.0.1:{EXPORTER_PORT}",
            folder=self.folder,
            port=_TOOL_PORT + 3 * port,
        )

    @asynccontextmanager
    async def _following(self, tool: Tool) -> AsyncIterator[None]:
        main = Watched(self.api, tool.main.of(tool.namespace))
        routes = Watched(self.api, tool.route.of(tool.namespace))
        routes.on_change(lambda name, item, at: self._routed(tool, name, item, at))
        self._main[tool.name], self.routes[tool.name] = main, routes
        tasks = [asyncio.create_task(watched.run()) for watched in (main, routes)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _routed(self, tool: Tool, name: str, item: Json | None, at: float) -> None:
        subject = self._subjects.get((tool.namespace, name))
        if subject is None or item is None:
            return
        found = shares(item, name)
        subject.route(found, at)
        subject.traffic.share_out(found)

    # --- subjects --------------------------------------------------------------------------------

    async def subjects(
        self, tool: Tool, setting: Setting, names: Iterable[str], rps: float, metrics: int = 1
    ) -> list[Subject]:
        """Agents whose first revision serves."""
        made = [Subject(tool, setting, name, Traffic(rps, rich=metrics > 1)) for name in names]
        for subject in made:
            key = tool.namespace, subject.name
            self._subjects[key] = subject
            self.exporter.traffic[key] = subject.traffic
        await asyncio.gather(*(self._create(subject, metrics) for subject in made))
        main = self._main[tool.name]

        def serve() -> bool:
            return all(tool.settled(main.objects.get(s.name, {})) and s.stable for s in made)

        await main.until(f"the first revisions of {tool.name} to serve", serve, _READY_S)
        return made

    async def _create(self, subject: Subject, metrics: int) -> None:
        tool = subject.tool
        sites = self.sites(tool)
        async with self._few:
            for item in tool.objects(subject.name, subject.setting, metrics, sites):
                await access.create(self.api, access.collection(item, tool.namespace), item)

    async def give(self, found: Sequence[Subject], timeout: float = _READY_S) -> None:
        """A new revision for each; returns when all candidates have their share."""
        await asyncio.gather(*(self._change(subject) for subject in found))
        routes = self.routes[found[0].tool.name]
        what = f"{found[0].tool.name} to give {len(found)} candidates their share"
        await routes.until(what, lambda: all(s.given is not None for s in found), timeout)

    async def _change(self, subject: Subject) -> None:
        change = subject.tool.next_revision(subject.name)
        async with self._few:
            await self.api.request("PATCH", change.path, change.body, MERGE_PATCH)

    async def remove(self, found: Iterable[Subject]) -> None:
        """Delete all that was created for them, and wait until the tool has let go of them."""
        gone = list(found)
        await asyncio.gather(*(self._delete(subject) for subject in gone))
        for tool in {subject.tool.name: subject.tool for subject in gone}.values():
            await self._until_gone(tool, {s.name for s in gone if s.tool is tool})

    async def _until_gone(self, tool: Tool, names: set[str]) -> None:
        main = self._main[tool.name]
        what = f"{tool.name} to let go of what was deleted"
        await main.until(what, lambda: not names & main.objects.keys(), _READY_S)

    async def _delete(self, subject: Subject) -> None:
        namespace = subject.tool.namespace
        self._subjects.pop((namespace, subject.name), None)
        self.exporter.traffic.pop((namespace, subject.name), None)
        sites = self.sites(subject.tool)
        async with self._few:
            for item in reversed(subject.tool.objects(subject.name, subject.setting, SEVEN, sites)):
                path = access.collection(item, namespace)
                await access.delete(self.api, f"{path}/{item['metadata']['name']}")

    async def safe(self, found: Sequence[Subject], timeout: float) -> None:
        """Wait until all candidates have lost their share."""
        routes = self.routes[found[0].tool.name]
        what = f"{found[0].tool.name} to take {len(found)} candidates back"
        await routes.until(what, lambda: all(s.safe is not None for s in found), timeout)


@asynccontextmanager
async def opened(tools: Sequence[Tool], peers: Peers) -> AsyncIterator[World]:
    """The world, in the lab around this process, while the block runs."""
    lab = Lab.current()
    inherit_nothing()
    folder = lab.state.tmp / "peers"
    folder.mkdir()
    async with (
        ApiClient(load_kubeconfig(lab.kubeconfig)) as api,
        aiohttp.ClientSession() as session,
    ):
        world = World(lab, api, session, folder)
        await world.prepare(tools, peers)
        await world.exporter.start(EXPORTER_PORT)
        stage = asyncio.create_task(Stage(api).run())
        try:
            yield world
        finally:
            stage.cancel()
            await asyncio.gather(stage, return_exceptions=True)
            await world.exporter.close()
            if hasattr(world, "prometheus"):
                await world.prometheus.stop()
