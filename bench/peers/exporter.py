"""The counters of every subject: what users would see of revisions, by the shares routes give them.

One HTTP endpoint for Prometheus. Counters are integers, drawn anew for the time since the last
scrape: calls are Poisson, errors among them binomial, so that traffic is as noisy as users are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from aiohttp import web

HEALTHY = 0.01
"""Share of calls that fail while nothing is wrong."""
EDGES = ("0.25", "0.5", "1.0", "2.0", "3.0", "5.0", "10.0", "+Inf")
_SLOWER = (0.30, 0.40, 0.20, 0.07, 0.02, 0.007, 0.002, 0.001)
"""Chance of a call to end in each bucket of EDGES."""
_REVIEWED, _RIGHT = 0.1, 0.97
_COST_USD, _TOKENS = 0.02, 900

ErrorRate = Callable[[float], float]
"""Share of failing calls at a time (seconds since the epoch)."""


def healthy(_: float) -> float:
    """Nothing is wrong."""
    return HEALTHY


@dataclass
class Counters:
    """What one revision of one agent has counted."""

    calls: int = 0
    errors: int = 0
    reviewed: int = 0
    right: int = 0
    cost: float = 0.0
    tokens: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * len(EDGES))


@dataclass
class Traffic:
    """The users of one agent.

    `rps`: calls a second of all revisions together; `rich`: all seven metrics, not errors alone;
    `rates`: how often a revision fails, where it is not healthy.
    """

    rps: float
    rich: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)
    rates: dict[str, ErrorRate] = field(default_factory=dict)
    counters: dict[str, Counters] = field(default_factory=dict)
    counted: float = 0.0

    def share_out(self, shares: Mapping[str, float]) -> None:
        """The route says something new: revision -> share of the calls."""
        self.shares = shares
        for revision in shares:
            self.counters.setdefault(revision, Counters())

    def count(self, now: float, chance: np.random.Generator) -> None:
        """Count what came since the last time."""
        passed = max(0.0, now - self.counted) if self.counted else 0.0
        self.counted = now
        for revision, share in self.shares.items():
            calls = int(chance.poisson(self.rps * share * passed))
            if calls:
                rate = self.rates.get(revision, healthy)(now - passed / 2)
                self._add(self.counters[revision], calls, rate, chance)

    def _add(self, to: Counters, calls: int, rate: float, chance: np.random.Generator) -> None:
        to.calls += calls
        to.errors += int(chance.binomial(calls, rate))
        if not self.rich:
            return
        reviewed = int(chance.binomial(calls, _REVIEWED))
        to.reviewed += reviewed
        to.right += int(chance.binomial(reviewed, _RIGHT))
        to.cost += float(calls * _COST_USD * chance.uniform(0.9, 1.1))
        to.tokens += int(calls * _TOKENS * chance.uniform(0.9, 1.1))
        below = 0
        for index, found in enumerate(chance.multinomial(calls, _SLOWER)):
            below += int(found)
            to.buckets[index] += below


class Exporter:
    """Serves /metrics for all subjects, and /no: the gate that keeps Flagger at its step."""

    def __init__(self, seed: int) -> None:
        self.traffic: dict[tuple[str, str], Traffic] = {}
        self._chance = np.random.default_rng(seed)
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        """Listen on loopback."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/no", self._no)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def close(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _no(self, _: web.Request) -> web.Response:
        return web.Response(status=403, text="not yet")

    async def _metrics(self, _: web.Request) -> web.Response:
        now = time.time()
        lines: list[str] = []
        for (namespace, agent), traffic in self.traffic.items():
            traffic.count(now, self._chance)
            for revision, counters in traffic.counters.items():
                where = (
                    f'namespace="{namespace}",agent="{agent}",revision="{revision}",mode="live",'
                    f'pod="{agent}-{revision}-0"'
                )
                lines.extend(_series(where, counters, rich=traffic.rich))
        return web.Response(text="\n".join([*lines, ""]))


def _series(where: str, seen: Counters, *, rich: bool) -> Iterator[str]:
    """The lines of one revision, as the agent contract names its series."""
    yield f'agent_requests_total{{{where},outcome="success"}} {seen.calls - seen.errors}'
    yield f'agent_requests_total{{{where},outcome="error"}} {seen.errors}'
    if not rich:
        return
    yield f'agent_requests_total{{{where},outcome="escalated"}} 0'
    for edge, value in zip(EDGES, seen.buckets, strict=True):
        yield f'agent_request_duration_seconds_bucket{{{where},le="{edge}"}} {value}'
    yield f'agent_tokens_total{{{where},type="output",model="m"}} {seen.tokens}'
    yield f'agent_cost_usd_total{{{where},model="m"}} {seen.cost:.4f}'
    yield f"agent_eval_total{{{where}}} {seen.reviewed}"
    yield f"agent_eval_passed_total{{{where}}} {seen.right}"
    yield f'agent_safety_flags_total{{{where},category="tone"}} 0'
