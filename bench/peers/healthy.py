"""Candidates that nothing is wrong with: who takes them back all the same?"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.peers.exporter import HEALTHY, ErrorRate
from bench.peers.tools import Setting, Tool
from bench.peers.world import Subject, World

OUTAGE_S = 90.0
_BEFORE_S = 75.0
"""Longer than the longest interval that an outage of 90 s is sure to meet."""
_AFTER_S = 45.0
_CALM_RPS = 100.0
NOISY_RPS = 10.0
"""A quiet agent: two calls a second go to the candidate."""
BURST_EVERY_S, BURST_S, BURST = 600.0, 20.0, 0.25
"""Noise: what both revisions call is bad for a while, for a quarter of their calls."""


@dataclass(frozen=True)
class Outcome:
    """What became of healthy candidates."""

    tool: str
    setting: str
    candidates: int
    taken_back: tuple[float, ...]
    """After how many seconds, for those that were."""

    def json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


@asynccontextmanager
async def everybody(
    world: World, tools: Sequence[Tool], candidates: int, rps: float, prefix: str
) -> AsyncIterator[list[list[Subject]]]:
    """All tools side by side, each with so many healthy candidates at each of its settings."""
    async with AsyncExitStack() as stack:
        found: list[list[Subject]] = []
        for number, tool in enumerate(tools):
            await stack.enter_async_context(world.operated(tool, tool.fastest, number))
        for tool in tools:
            for number, setting in enumerate(tool.settings):
                names = [f"{prefix}{number}-{n:03}" for n in range(candidates)]
                # The rate at which a controller may write is the process's, not the agent's.
                plain = replace(setting, qps=0)
                found.append(await world.subjects(tool, plain, names, rps))
        await asyncio.gather(*(world.give(group, timeout=900.0) for group in found))
        yield found
        await world.remove(subject for group in found for subject in group)


async def outage(world: World, tools: Sequence[Tool], candidates: int) -> list[Outcome]:
    """Prometheus is not there for 90 s."""
    async with everybody(world, tools, candidates, _CALM_RPS, "o") as groups:
        await asyncio.sleep(_BEFORE_S)
        before = [[s.name for s in group if s.safe is not None] for group in groups]
        began = time.time()
        await world.prometheus.stop()
        await asyncio.sleep(OUTAGE_S)
        await world.prometheus.start()
        await asyncio.sleep(_AFTER_S)
        return [
            _outcome([s for s in group if s.name not in gone], began)
            for group, gone in zip(groups, before, strict=True)
        ]


async def noise(
    world: World, tools: Sequence[Tool], candidates: int, minutes: float
) -> list[Outcome]:
    """Calls are few, and now and then what both revisions depend on fails a quarter of them."""
    async with everybody(world, tools, candidates, NOISY_RPS, "n") as groups:
        began = time.time()
        chance = random.Random(1)
        for group in groups:
            for subject in group:
                rate = _bursts(chance, began, minutes * 60)
                subject.traffic.rates |= {subject.stable: rate, subject.candidate: rate}
        await asyncio.sleep(minutes * 60)
        return [_outcome(group, began) for group in groups]


def _bursts(chance: random.Random, began: float, seconds: float) -> ErrorRate:
    """An error rate that is `HEALTHY`, but for bursts at random times."""
    starts, at = [], began
    while (at := at + chance.expovariate(1 / BURST_EVERY_S)) < began + seconds:
        starts.append(at)

    def rate(now: float) -> float:
        return BURST if any(start <= now < start + BURST_S for start in starts) else HEALTHY

    return rate


def _outcome(group: Sequence[Subject], began: float) -> Outcome:
    first: Subject = group[0]
    setting: Setting = first.setting
    back = sorted(s.safe - began for s in group if s.safe is not None)
    return Outcome(first.tool.name, setting.name, len(group), tuple(back))
