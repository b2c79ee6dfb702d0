"""`python -m bench.fleet.driver`: the scenario; runs inside the lab, started by `bench.fleet`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yaml

from bench.fleet.meter import Meter
from bench.fleet.world import Name, World, names
from bench.probe import Prometheus
from lab.errors import LabError
from lab.handle import Lab
from lab.node.client import ApiClient, load_kubeconfig

EXPORTER_PORT = 9700
PARTS = 10
"""Scrape targets that the fleet is spread over, as pods are: they are scraped at different times."""
CALLS = 5.0
"""Calls per second of each agent."""
SHARES = {"candidate": 0.2, "stable": 0.8}
SETTLE_S = 60.0
_PATIENCE_S = 900.0


@dataclass(frozen=True)
class Plan:
    """How large everything is."""

    live: tuple[int, ...]
    rollbacks: int
    idle: tuple[int, ...]
    window: float
    """Seconds that each state is measured over."""


@dataclass
class Driver:
    """One scenario after the other on one lab; `found` holds the raw results."""

    lab: Lab
    world: World
    session: aiohttp.ClientSession
    plan: Plan
    found: dict[str, Any] = field(default_factory=dict)

    async def live(self) -> None:
        """Rollouts in progress, more and more of them; then many rollbacks at once, then a failover."""
        await self._operator()
        await self._scraped(PARTS)
        meter, rows = Meter(self.lab, self.session), []
        before = 0
        for count in self.plan.live:
            new = names(before, count)
            began = time.monotonic()
            await self._begin(new)
            started = time.monotonic() - began
            await asyncio.sleep(SETTLE_S)
            window = await meter.over(self.plan.window)
            rows.append({"rollouts": count, "started_in": started, **window.json()})
            _tell(f"{count} rollouts: {window}")
            before = count
        self.found["live"] = rows
        await self._herd(names(0, self.plan.rollbacks))
        await self._failover(names(self.plan.rollbacks, before))

    async def idle(self) -> None:
        """Agents with nothing to do, more and more of them; start-up with all of them."""
        await self._operator()
        meter, rows = Meter(self.lab, self.session), []
        before = 0
        for count in self.plan.idle:
            new = names(before, count)
            began = time.monotonic()
            await self.world.create(new)
            await self._until_stable(new)
            created = time.monotonic() - began
            await asyncio.sleep(SETTLE_S)
            window = await meter.over(self.plan.window)
            start = await self._start_up(meter, count)
            rows.append({"agents": count, "created_in": created, "start": start, **window.json()})
            _tell(f"{count} idle: {window}; start-up {start:.1f} s")
            before = count
        self.found["idle"] = rows

    async def _operator(self, replicas: int = 1) -> None:
        """The operator with its default settings, but for where Prometheus is."""
        config = self.lab.state.dir / "fleet.yaml"
        config.write_text(
            yaml.safe_dump({"providers": {"default": {"url": self.lab.prometheus_url}}})
        )
        await asyncio.to_thread(
            self.lab.start_operator, replicas=replicas, extra=[f"--config={config}"]
        )

    async def _scraped(self, parts: int) -> None:
        """Have Prometheus scrape the fleet every 5 s as so many targets."""
        file = self.lab.state.dir / "prometheus" / "prometheus.yml"
        config = yaml.safe_load(file.read_text())
        kept = [job for job in config["scrape_configs"] if job["job_name"] != "fleet"]
        # The path is no label of a series, so spreading them differently keeps them the same.
        targets = [
            {
                "targets": [f"127.0.0.1:{EXPORTER_PORT}"],
                "labels": {"__metrics_path__": f"/metrics/{part}/{parts}"},
            }
            for part in range(parts)
        ]
        fleet = {"job_name": "fleet", "honor_labels": True, "static_configs": targets}
        kept.append({**fleet, "scrape_interval": "5s", "scrape_timeout": "5s"})
        file.write_text(yaml.safe_dump({**config, "scrape_configs": kept}))
        await asyncio.to_thread(self.lab.part, "reload", "prometheus")

    async def _begin(self, new: Sequence[Name]) -> None:
        """Create agents, give each a new revision and bring it to its canary phase."""
        await self.world.create(new)
        await self._until_stable(new)
        await self.world.edit(new, "You are the support agent. Be brief.")
        await self.world.until(
            f"{len(new)} rollouts to begin", lambda: all(map(self._begun, new)), _PATIENCE_S
        )
        await self._report(new)

    async def _until_stable(self, new: Sequence[Name]) -> None:
        await self.world.until(
            f"{len(new)} agents to be stable",
            lambda: all(self._status(name).get("phase") == "Stable" for name in new),
            _PATIENCE_S,
        )

    def _status(self, name: Name) -> dict[str, Any]:
        return self.world.statuses.get(name, {})

    def _begun(self, name: Name) -> bool:
        return (self._status(name).get("progress") or {}).get("startedAt") is not None

    async def _report(self, agents: Sequence[Name], *, flags: int = 0) -> None:
        """Tell the exporter what the pods of these agents do.

        `flags`: calls of each candidate that broke a safety rule. One is a proof, so what is
        measured is what follows from it, and all that are flagged at once are proven at once.
        """
        pods = [
            {
                "namespace": namespace,
                "agent": agent,
                "revision": self._status((namespace, agent))[f"{role}Revision"],
                "mode": "live",
                "rate": CALLS * SHARES[role],
                "flags": flags if role == "candidate" else 0,
            }
            for namespace, agent in agents
            for role in SHARES
        ]
        url = f"http://127.0.0.1:{EXPORTER_PORT}/pods"
        async with self.session.put(url, json=pods) as answer:
            answer.raise_for_status()

    async def _herd(self, failing: Sequence[Name]) -> None:
        """All candidates break a rule between two scrapes, and one scrape shows all of them."""
        await self._scraped(1)
        await asyncio.sleep(SETTLE_S)
        seen = await self._fail(failing)
        await self.world.until(
            f"{len(failing)} rollbacks", lambda: self._taken(failing) == len(failing), 120.0
        )
        at = sorted(self.world.taken_back[name] for name in failing)
        self.found["herd"] = {
            "rollbacks": len(failing),
            "rollouts": self.plan.live[-1],
            "visible_to_first": at[0] - seen,
            "visible_to_median": at[len(at) // 2] - seen,
            "visible_to_last": at[-1] - seen,
            "first_to_last": at[-1] - at[0],
        }
        _tell(f"herd: {self.found['herd']}")

    def _taken(self, failing: Sequence[Name]) -> int:
        return sum(name in self.world.taken_back for name in failing)

    async def _fail(self, failing: Sequence[Name]) -> float:
        """Make candidates break a rule; when that was visible."""
        prometheus = Prometheus(self.lab.prometheus_url, self.session)
        namespace, agent = failing[-1]
        who = f'namespace="{namespace}",agent="{agent}"'
        revision = self._status(failing[-1])["candidateRevision"]
        text = f'agent_safety_flags_total{{{who},revision="{revision}"}} > 0'
        await self._report(failing, flags=1)
        while True:
            if await prometheus.query(text):
                return time.time()
            await asyncio.sleep(0.01)

    async def _failover(self, left: Sequence[Name]) -> None:
        """The leader is killed while a candidate turns bad; the second replica takes it back."""
        if not left:
            return
        await self._operator(replicas=2)
        await self._scraped(1)
        await asyncio.sleep(SETTLE_S)
        killed = time.time()
        await asyncio.to_thread(self.lab.part, "kill", "operator")
        await self._report(left[:1], flags=1)
        await self.world.until("the next leader", lambda: left[0] in self.world.taken_back, 120.0)
        self.found["failover"] = self.world.taken_back[left[0]] - killed
        _tell(f"failover: {self.found['failover']:.1f} s")

    async def _start_up(self, meter: Meter, agents: int) -> float:
        """Seconds from the start of the operator until it has looked at every agent."""
        await asyncio.to_thread(self.lab.part, "stop", "operator")
        began = time.monotonic()
        await asyncio.to_thread(self.lab.part, "start", "operator")
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):  # it does not listen yet
                passes, waiting = await meter.counters()
                if passes >= agents and waiting == 0:
                    return time.monotonic() - began
            if time.monotonic() - began > _PATIENCE_S:
                raise LabError(f"{agents} agents were not looked at in {_PATIENCE_S:.0f} s")
            await asyncio.sleep(0.1)


def _tell(line: str) -> None:
    print(f"bench-fleet: {line}", file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def _played() -> AsyncIterator[None]:
    """The processes that play pods and gateway."""
    commands = (("bench.fleet.hands",), ("bench.fleet.exporter", f"--port={EXPORTER_PORT}"))
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", *command) for command in commands
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            await process.wait()


async def run(scenario: str, plan: Plan) -> dict[str, Any]:
    """Play one scenario in the lab around this process."""
    lab = Lab.current()
    async with (
        ApiClient(load_kubeconfig(lab.kubeconfig)) as api,
        aiohttp.ClientSession() as session,
        _played(),
    ):
        world = World(api)
        await world.make_gateway()
        following = asyncio.create_task(world.follow())
        driver = Driver(lab, world, session, plan)
        try:
            await (driver.live() if scenario == "live" else driver.idle())
        finally:
            following.cancel()
        return driver.found


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the raw results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet.driver")
    parser.add_argument("scenario", choices=("live", "idle"))
    parser.add_argument("--live", type=_sizes, required=True)
    parser.add_argument("--rollbacks", type=int, required=True)
    parser.add_argument("--idle", type=_sizes, required=True)
    parser.add_argument("--window", type=float, required=True)
    options = parser.parse_args(argv)
    plan = Plan(options.live, options.rollbacks, options.idle, options.window)
    try:
        found = asyncio.run(run(options.scenario, plan))
    except LabError as error:
        print(f"bench-fleet: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
