"""`python -m bench.peers.inside PLAN`: runs in the lab, started by `bench.peers`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from bench.peers.argo import ArgoRollouts
from bench.peers.build import peers
from bench.peers.delay import QUIET_RPS, RPS, as_json, delays, refusals
from bench.peers.flagger import Flagger
from bench.peers.fleet import INTERVAL_S, fleet
from bench.peers.healthy import noise, outage
from bench.peers.ours import Phasegate
from bench.peers.plan import Plan
from bench.peers.tools import Setting, Tool
from bench.peers.world import World, opened
from lab.errors import LabError

Json = dict[str, Any]
_T = TypeVar("_T")
_SLOW_S = 30
"""An interval (seconds) from which on runs are side by side: each takes many minutes."""
_TOGETHER = 6
"""Runs side by side of a tool that looks every ten seconds."""
_RAISED_QPS = 400
_QUIET = "fastest, but 4 calls/s to the candidate"


async def measure(plan: Plan) -> None:
    """All parts of the plan; prints the rows of each part as soon as they are there."""
    built = peers(_tell)
    every: tuple[Tool, ...] = (
        Phasegate(),
        ArgoRollouts(built.binary("argo-rollouts")),
        Flagger(built.binary("flagger")),
    )
    tools = [t for t in every if any(word in t.name.lower() for word in plan.tools)]
    async with opened(tools, built) as world:
        for part in plan.parts:
            began = time.monotonic()
            async for row in _PARTS[part](world, tools, plan):
                print(json.dumps({"part": part, "row": row}), flush=True)
            _tell(f"{part}: done in {time.monotonic() - began:.0f} s")


async def _or_none(what: str, doing: Awaitable[_T]) -> _T | None:
    """What cannot be measured is said and left out: the rest of a long programme goes on."""
    try:
        return await doing
    except (LabError, TimeoutError) as error:
        _tell(f"{what}: not measured: {error}")
        return None


async def _delay(world: World, tools: Sequence[Tool], plan: Plan) -> AsyncIterator[Json]:
    await world.scrape(1)
    busy = [(tool, setting, RPS) for tool in tools for setting in tool.settings]
    quiet = [(tool, replace(tool.fastest, name=_QUIET), QUIET_RPS) for tool in tools]
    for tool, setting, rps in (*busy, *quiet):
        slow = setting.interval >= _SLOW_S
        if slow and not plan.slow:
            continue
        runs = plan.documented_runs if slow else plan.runs
        together = runs if slow else 1 if setting.interval < 10 else _TOGETHER
        what = f"{tool.name}, {setting.name}"
        seen = await _or_none(what, delays(world, tool, setting, runs, together, rps))
        if seen is not None:
            yield _row(tool, setting, runs=as_json(seen))
            _tell(f"{what}: {_brief([run.delay for run in seen if not run.premature])}")


async def _refusal(world: World, tools: Sequence[Tool], plan: Plan) -> AsyncIterator[Json]:
    await world.scrape(1)
    for tool in tools:
        what = f"{tool.name}, after a refusal"
        seen = await _or_none(what, refusals(world, tool, tool.fastest, plan.refusals))
        if seen is not None:
            yield _row(tool, tool.fastest, runs=as_json(seen))
            _tell(f"{what}: {_brief([run.delay for run in seen])}")


async def _outage(world: World, tools: Sequence[Tool], plan: Plan) -> AsyncIterator[Json]:
    await world.scrape(1)
    doing = outage(world, tools, plan.outage_candidates)
    for item in await _or_none("outage", doing) or ():
        yield item.json()
        _tell(f"outage: {item}")


async def _noise(world: World, tools: Sequence[Tool], plan: Plan) -> AsyncIterator[Json]:
    await world.scrape(1)
    doing = noise(world, tools, plan.noise_candidates, plan.noise_minutes)
    for item in await _or_none("noise", doing) or ():
        yield {**item.json(), "minutes": plan.noise_minutes}
        _tell(f"noise: {item}")


async def _fleet(world: World, tools: Sequence[Tool], plan: Plan) -> AsyncIterator[Json]:
    for rollouts in plan.fleets:
        for tool in tools:
            for setting in _fleet_settings(tool):
                # Beyond that the exporter, which is ours, would be what is measured.
                await world.scrape(1 if rollouts <= 100 else 2)
                what = f"{tool.name}, {setting.name}, {rollouts} rollouts"
                doing = fleet(world, tool, setting, rollouts, plan.fleet_rps, plan.fleet_seconds)
                seen = await _or_none(what, doing)
                if seen is not None:
                    yield seen.json()
                    _tell(f"{what}: {seen.queries:.2f} queries/s, {_brief(seen.safe)}")


def _fleet_settings(tool: Tool) -> list[Setting]:
    """Phasegate as it is; the others every 30 s, with their limit on writes and a raised one."""
    if not tool.fastest.interval:
        return [tool.fastest]
    plain = replace(tool.fastest, interval=INTERVAL_S, qps=0, name=f"every {INTERVAL_S} s")
    return [plain, replace(plain, qps=_RAISED_QPS, name=f"{plain.name}, QPS raised")]


_PARTS = {
    "delay": _delay,
    "refusal": _refusal,
    "outage": _outage,
    "noise": _noise,
    "fleet": _fleet,
}


def _row(tool: Tool, setting: Setting, **more: Any) -> Json:
    return {"tool": tool.name, "setting": setting.name, **more}


def _brief(seen: Sequence[float]) -> str:
    ordered = sorted(seen)
    if not ordered:
        return "none"
    return f"{len(ordered)}, median {ordered[len(ordered) // 2]:.2f} s, last {ordered[-1]:.2f} s"


def _tell(line: str) -> None:
    print(f"bench peers: {line}", file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Print the raw results, one JSON object a line."""
    try:
        asyncio.run(measure(Plan.parse(argv[0])))
    except LabError as error:
        print(f"bench peers: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
