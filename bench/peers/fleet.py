"""Many rollouts at once: what they cost while all is well, and when the last one is safe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from bench.peers import access
from bench.peers.processes import Running
from bench.peers.tools import LIMIT, SEVEN, Setting, Tool
from bench.peers.world import Subject, World
from lab.errors import LabError

INTERVAL_S = 30
_CALM_S = 30.0
_LONGEST_S = 420.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class Fleet:
    """A fleet in the hands of one tool; delays in seconds since the first breach was visible."""

    tool: str
    setting: str
    rollouts: int
    rps: float
    """Calls a second of each agent."""
    queries: float
    """At Prometheus, a second."""
    calls: float
    """At the API server, a second."""
    cpu: float
    """Seconds of CPU a second."""
    rss_mib: float
    given: int
    """Candidates that had their share when the fault came."""
    safe: tuple[float, ...]

    def json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


async def fleet(
    world: World, tool: Tool, setting: Setting, rollouts: int, rps: float, seconds: float
) -> Fleet:
    """Give all a candidate, measure for `seconds`, then let all of them fail at once."""
    names = [f"f{rollouts}-{setting.qps}-{number:03}" for number in range(rollouts)]
    async with world.operated(tool, setting) as process:
        subjects = await world.subjects(tool, setting, names, rps, SEVEN)
        await world.give(subjects, timeout=900.0)
        await asyncio.sleep(_CALM_S)
        cost = await _cost(world, tool, process, seconds)
        alive = [subject for subject in subjects if subject.safe is None]
        safe = await _all_fail(world, tool, alive)
        await world.remove(subjects)
    queries, calls, cpu, rss = cost
    return Fleet(
        tool.name, setting.name, rollouts, rps, queries, calls, cpu, rss, len(alive), tuple(safe)
    )


async def _cost(
    world: World, tool: Tool, process: Running, seconds: float
) -> tuple[float, float, float, float]:
    began = process.usage()
    asked, called = await world.prometheus.asked(), await access.calls(world.lab, tool)
    await asyncio.sleep(seconds)
    ended = process.usage()
    passed = ended.at - began.at
    return (
        (await world.prometheus.asked() - asked) / passed,
        (await access.calls(world.lab, tool) - called) / passed,
        (ended.cpu_s - began.cpu_s) / passed,
        ended.rss_mib,
    )


async def _all_fail(world: World, tool: Tool, subjects: Sequence[Subject]) -> list[float]:
    now = time.time()
    for subject in subjects:
        subject.fail(now)
    looking = asyncio.create_task(_visible(world, tool, subjects))
    try:
        with suppress(LabError):  # who is not safe by then is missing from the answer
            await world.safe(subjects, _LONGEST_S)
        first = min([s.safe for s in subjects if s.safe is not None], default=now)
        if looking.done():
            first = looking.result()
    finally:
        looking.cancel()
    return sorted(max(0.0, s.safe - first) for s in subjects if s.safe is not None)


async def _visible(world: World, tool: Tool, subjects: Sequence[Subject]) -> float:
    """When the first breach was visible."""
    revisions = "|".join(sorted({subject.candidate for subject in subjects}))
    here = f'namespace="{tool.namespace}",revision=~"{revisions}"'
    bad = f'sum by (agent) (rate(agent_requests_total{{{here},outcome="error"}}[10s]))'
    query = f"{bad} / sum by (agent) (rate(agent_requests_total{{{here}}}[10s])) > {LIMIT}"
    while True:
        if await world.queries.query(query):
            return time.time()
        await asyncio.sleep(_LOOK_S)
