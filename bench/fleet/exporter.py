"""The metrics of all agents of the fleet, from one process, in the words of the agent contract."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

EDGES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.7, 4.6, 5.0, 6.2, 7.7, 10.0, 15.0)
ERRORS = 0.01
"""Share of the calls that fail."""
_CALLED = ("success", "escalated", "error")


@dataclass
class Pod:
    """The counters of one pod."""

    labels: str
    rate: float
    """Calls per second."""
    flags: int
    """Calls so far that broke a safety rule."""
    chance: random.Random
    outcomes: list[int] = field(default_factory=lambda: [0, 0, 0])
    buckets: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    seconds: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def go_on(self, now: float) -> None:
        """Answer the calls since the last time."""
        due = self.rate * (now - self.at)
        calls = int(due) + (self.chance.random() < due % 1)
        self.at = now
        for _ in range(calls):
            draw = self.chance.random()
            self.outcomes[2 if draw < ERRORS else 1 if draw < ERRORS + 0.02 else 0] += 1
            edge = self.chance.randrange(2, 8)
            self.seconds += EDGES[edge]
            for index in range(edge, len(self.buckets)):
                self.buckets[index] += 1

    def lines(self) -> Iterable[str]:
        """Exposition text of the pod, a line each."""
        own, calls = self.labels, sum(self.outcomes)
        for outcome, count in zip(_CALLED, self.outcomes, strict=True):
            yield f'agent_requests_total{{{own},outcome="{outcome}",model="m"}} {count}'
        for edge, count in zip((*map(str, EDGES), "+Inf"), self.buckets, strict=True):
            yield f'agent_request_duration_seconds_bucket{{{own},le="{edge}"}} {count}'
        yield f"agent_request_duration_seconds_sum{{{own}}} {self.seconds:g}"
        yield f"agent_request_duration_seconds_count{{{own}}} {calls}"
        yield f'agent_tokens_total{{{own},type="input",model="m"}} {900 * calls}'
        yield f'agent_tokens_total{{{own},type="output",model="m"}} {150 * calls}'
        yield f'agent_cost_usd_total{{{own},model="m"}} {0.02 * calls:g}'
        yield f"agent_eval_total{{{own}}} {calls // 10}"
        yield f"agent_eval_passed_total{{{own}}} {calls // 10}"
        yield f'agent_safety_flags_total{{{own},category="tone"}} {self.flags}'


class Exporter:
    """Pods by agent and revision; told over HTTP which there are and which of them fail."""

    def __init__(self) -> None:
        self._pods: dict[tuple[str, str, str], Pod] = {}

    async def put(self, request: web.Request) -> web.Response:
        """``PUT /pods``: a list of ``{namespace, agent, revision, mode, rate, flags}``."""
        wanted: list[dict[str, Any]] = await request.json()
        for entry in wanted:
            key = entry["namespace"], entry["agent"], entry["revision"]
            known = self._pods.get(key)
            if known is not None:
                known.go_on(time.monotonic())
                known.rate, known.flags = entry["rate"], entry["flags"]
                continue
            names = ("namespace", "agent", "revision", "mode")
            pod = f'pod="{entry["agent"]}-{entry["revision"]}-0"'
            labels = ",".join([*(f'{name}="{entry[name]}"' for name in names), pod])
            chance = random.Random(labels)
            self._pods[key] = Pod(labels, entry["rate"], entry["flags"], chance)
        return web.Response()

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics/{part}/{of}``: every `of`-th agent, beginning with number `part`."""
        part, of = int(request.match_info["part"]), int(request.match_info["of"])
        now, lines = time.monotonic(), list[str]()
        for number, pod in enumerate(self._pods.values()):
            # Both revisions of an agent were told of together: they stay together.
            if number // 2 % of == part:
                pod.go_on(now)
                lines += pod.lines()
        return web.Response(text="\n".join([*lines, ""]))


async def serve(port: int) -> None:
    """Until cancelled."""
    exporter = Exporter()
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_put("/pods", exporter.put)
    app.router.add_get("/metrics/{part}/{of}", exporter.metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.fleet.exporter")
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
