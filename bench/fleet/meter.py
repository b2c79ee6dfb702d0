"""What the operator uses: processor, memory, requests at the API server, queries at Prometheus."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

from bench.probe import Usage, usage
from lab.handle import Lab

_QUERIES = 'prometheus_http_requests_total{code="200",handler="/api/v1/query'


@dataclass(frozen=True)
class Window:
    """Averages over some time of the leading operator."""

    seconds: float
    cores: float
    rss_mib: float
    requests: float
    """At the API server, per second."""
    queries: float
    """At Prometheus, per second."""
    passes: float
    """Per second."""

    def json(self) -> dict[str, Any]:
        """As a mapping."""
        return asdict(self)


@dataclass(frozen=True)
class _Reading:
    usage: Usage
    requests: float
    queries: float
    passes: float


class Meter:
    """Reads /proc and the metrics of one replica and of Prometheus."""

    def __init__(self, lab: Lab, session: aiohttp.ClientSession, part: str = "operator") -> None:
        self._lab = lab
        self._session = session
        self._part = part

    async def over(self, seconds: float) -> Window:
        """What is used in the next `seconds`."""
        before = await self._read()
        await asyncio.sleep(seconds)
        after = await self._read()
        span = after.usage.at - before.usage.at
        return Window(
            seconds=span,
            cores=(after.usage.cpu_s - before.usage.cpu_s) / span,
            rss_mib=after.usage.rss_mib,
            requests=(after.requests - before.requests) / span,
            queries=(after.queries - before.queries) / span,
            passes=(after.passes - before.passes) / span,
        )

    async def counters(self) -> tuple[float, float]:
        """Passes so far, and agents waiting for one."""
        text = await self._text(f"{self._address()}/metrics")
        return _sum(text, "phasegate_reconciles_total"), _sum(text, "phasegate_queue_depth")

    async def _read(self) -> _Reading:
        own = await self._text(f"{self._address()}/metrics")
        provider = await self._text(f"{self._lab.prometheus_url}/metrics")
        return _Reading(
            usage(int(self._describe()["pid"])),
            _sum(own, "phasegate_api_requests_total"),
            _sum(provider, _QUERIES),
            _sum(own, "phasegate_reconciles_total"),
        )

    def _describe(self) -> dict[str, Any]:
        found = (part for part in self._lab.status()["parts"] if part["part"] == self._part)
        return dict(next(found))

    def _address(self) -> str:
        return str(self._describe()["address"])

    async def _text(self, url: str) -> str:
        async with self._session.get(url) as answer:
            return await answer.text()


def _sum(text: str, prefix: str) -> float:
    lines = (line for line in text.splitlines() if line.startswith(prefix))
    return sum(float(line.rpartition(" ")[2]) for line in lines)
