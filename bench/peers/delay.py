"""From a breach that anybody could see in Prometheus to the write that takes the users back."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench.peers import access
from bench.peers.tools import Setting, Tool
from bench.peers.world import SAFE, Subject, World
from lab.errors import LabError

RPS = 250.0
"""Calls a second of a busy agent; a fifth of them go to the candidate, as many as in `make bench`."""
QUIET_RPS = 20.0
"""Calls a second of a quiet one."""
HEALTHY_S = 12.0
"""How long a candidate is well first: longer than the ten seconds that everybody looks at."""
REFUSED_S = 30.0
_CLOSE_S = 0.003
_COARSE_S = 0.1
_SETTLE_S = 2.0


@dataclass(frozen=True)
class Run:
    """Times of one rollback, in seconds since the epoch."""

    flipped: float
    breach: float | None
    """When the breach was visible; None if the users had been taken back before it was."""
    safe: float
    newest: float | None
    """When the newest sample before safety was visible: Phasegate's proof."""
    lifted: float | None = None
    """When the API server took route writes again, where it had refused them."""
    again: int = 0
    """How often the candidate got users again between the breach and safety."""

    @property
    def premature(self) -> bool:
        """Whether the users were taken back while nothing was wrong: no rollback was measured."""
        return self.safe < self.flipped

    @property
    def delay(self) -> float:
        """Seconds from breach (or lift) to safety; 0 where safety came first."""
        since = self.lifted or self.breach or self.safe
        return max(0.0, self.safe - since)


def as_json(runs: list[Run]) -> list[dict[str, Any]]:
    """For the record."""
    return [{**asdict(run), "delay": run.delay, "premature": run.premature} for run in runs]


class Breach:
    """Looks until a candidate's failures are visible to everybody."""

    def __init__(self, world: World, subject: Subject, pause: float) -> None:
        self.at: float | None = None
        self.samples: list[float] = []
        """When each sample of the candidate was visible."""
        self._seen = asyncio.Event()
        self._task = asyncio.create_task(self._look(world, subject, pause))

    async def _look(self, world: World, subject: Subject, pause: float) -> None:
        scraped = 0.0
        while True:
            newest = await world.queries.query(subject.newest)
            if newest and (at := float(newest[0]["value"][1])) > scraped:
                scraped = at
                self.samples.append(time.time())
            if self.at is None and await world.queries.query(subject.query):
                self.at = time.time()
                self._seen.set()
            await asyncio.sleep(pause)

    async def seen(self, timeout: float) -> float:
        """When it was. Raises LabError."""
        try:
            await asyncio.wait_for(self._seen.wait(), timeout)
        except TimeoutError:
            raise LabError(f"No breach was visible within {timeout:.0f} s.") from None
        assert self.at is not None
        return self.at

    def newest(self, before: float) -> float | None:
        """When the newest sample before a time was visible."""
        return max((at for at in self.samples if at <= before), default=None)

    async def close(self) -> None:
        """Look no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def delays(
    world: World, tool: Tool, setting: Setting, runs: int, together: int, rps: float
) -> list[Run]:
    """One agent after the other (`together`: so many at a time) is given a revision that fails."""
    chance = random.Random(len(setting.name))
    names = [f"d{rps:.0f}-{number:03}" for number in range(runs)]
    turn = asyncio.Semaphore(together)
    async with world.operated(tool, setting):
        subjects = await world.subjects(tool, setting, names, rps)

        async def one(subject: Subject) -> Run:
            async with turn:
                wait = HEALTHY_S + chance.uniform(0.0, max(1.0, setting.interval))
                pause = _CLOSE_S if together == 1 else _COARSE_S
                return await _rollback(world, subject, wait, pause)

        return list(await asyncio.gather(*(one(subject) for subject in subjects)))


async def _rollback(world: World, subject: Subject, wait: float, pause: float) -> Run:
    longest = _longest(subject.setting)
    await world.give([subject])
    await asyncio.sleep(wait)
    breach = Breach(world, subject, pause)
    try:
        flipped = time.time()
        subject.fail(flipped)
        await world.safe([subject], longest)
        await asyncio.sleep(_SETTLE_S)
    finally:
        await breach.close()
    run = _run(subject, flipped, breach, None)
    await world.remove([subject])
    return run


def _run(subject: Subject, flipped: float, breach: Breach, lifted: float | None) -> Run:
    """What was seen. Safety is the first write after which the candidate stayed without users."""
    assert subject.safe is not None
    since = lifted or breach.at or flipped
    again = sum(1 for at, share in subject.writes if at >= since and share > SAFE)
    newest = breach.newest(subject.safe)
    return Run(flipped, breach.at, subject.safe, newest, lifted, again)


def _longest(setting: Setting) -> float:
    return 120.0 + 3.0 * setting.interval * (setting.failures + 1)


async def refusals(world: World, tool: Tool, setting: Setting, runs: int) -> list[Run]:
    """The same, while the API server refuses every change of a route until 30 s after the breach."""
    found = []
    async with world.operated(tool, setting):
        names = [f"r{number:03}" for number in range(runs)]
        for subject in await world.subjects(tool, setting, names, RPS):
            found.append(await _refused(world, subject))
    return found


async def _refused(world: World, subject: Subject) -> Run:
    await world.give([subject])
    await asyncio.sleep(HEALTHY_S)
    probe = f"{subject.tool.route.of(subject.tool.namespace)}/{subject.name}"
    await access.refuse(world.api, probe)
    breach = Breach(world, subject, _CLOSE_S)
    try:
        flipped = time.time()
        subject.fail(flipped)
        seen = await breach.seen(60.0)
    finally:
        await breach.close()
    await asyncio.sleep(max(0.0, seen + REFUSED_S - time.time()))
    lifted = await access.accept(world.api, probe)
    await world.safe([subject], _longest(subject.setting))
    await asyncio.sleep(_SETTLE_S)
    run = _run(subject, flipped, breach, lifted)
    await world.remove([subject])
    return run
