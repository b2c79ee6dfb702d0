"""Watches the three places where a rollback can be seen: Prometheus, the API server, the users."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from lab.node.client import ApiClient

POLL_S = 0.003
"""Pause between two looks at Prometheus; with the query itself they come about every 5 ms."""
IDLE_WEIGHT = 1
_WINDOW = "3s"


class Samples:
    """When the candidate's raw samples became visible, in seconds since the epoch."""

    def __init__(self) -> None:
        self.first_bad: float | None = None
        """When the first sample with a new failed answer in it was visible."""
        self.first_bad_scraped: float | None = None
        """When that one was scraped, by its own time stamp."""
        self.newest: float | None = None
        """When the newest sample was visible."""
        self.breach: float | None = None
        """When `rate(errors[10s]) / rate(all[10s])` was over the limit."""
        self.looks = 0
        self.looked = asyncio.Event()
        """Set after the first look."""
        self._seen: dict[str, tuple[float, float]] = {}
        self._flipped: float | None = None

    def arm(self, flipped: float) -> None:
        """The candidate fails from now on."""
        self._flipped = flipped

    def take(self, result: list[Any], at: float) -> None:
        """Take note of one answer of Prometheus: raw samples of the candidate's counters."""
        self.looks += 1
        for series in result:
            labels = series["metric"]
            key = f"{labels['pod']}/{labels['outcome']}"
            scraped, value = float(series["values"][-1][0]), float(series["values"][-1][1])
            before = self._seen.get(key)
            self._seen[key] = scraped, value
            if before is None or scraped <= before[0]:
                continue
            self.newest = at
            failed = labels["outcome"] == "error" and value > before[1]
            if failed and self._flipped is not None and self.first_bad is None:
                self.first_bad, self.first_bad_scraped = at, scraped
        self.looked.set()


class Prometheus:
    """Instant queries; times are this process's own when the answer was there."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = f"{url}/api/v1/query"
        self._session = session

    async def query(self, text: str) -> list[Any]:
        """Return the result of a PromQL query."""
        async with self._session.post(self._url, data={"query": text}) as answer:
            body = await answer.json()
        result: list[Any] = body["data"]["result"]
        return result

    async def watch(self, agent: str, revision: str, seen: Samples, limit: float) -> None:
        """Look at the candidate's raw counters every few milliseconds until cancelled."""
        labels = f'agent="{agent}",revision="{revision}"'
        raw = f"agent_requests_total{{{labels}}}[{_WINDOW}]"
        bad = f'sum(rate(agent_requests_total{{{labels},outcome="error"}}[10s]))'
        share = f"{bad} / sum(rate(agent_requests_total{{{labels}}}[10s])) > {limit}"
        while True:
            seen.take(await self.query(raw), time.time())
            # Its result changes with the window, not with the scrapes only: seldom is enough.
            if seen.breach is None and not seen.looks % 4 and await self.query(share):
                seen.breach = time.time()
            await asyncio.sleep(POLL_S)


class Routes:
    """Follows an HTTPRoute; tells when each write arrived here."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, dict[str, Any]]] = []
        self._changed = asyncio.Event()

    async def follow(self, api: ApiClient, namespace: str) -> None:
        """Run until cancelled."""
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
        async for change in api.follow(path):
            now = time.time()
            self.arrived += [(now, item) for item in change.objects]
            self._changed.set()

    async def until(self, check: Callable[[dict[str, Any]], bool], since: float) -> float:
        """Wait for the first write after `since` that fulfils `check`; when it arrived."""
        while True:
            for at, item in self.arrived:
                if at >= since and check(item):
                    return at
            self._changed.clear()
            await self._changed.wait()


def weight(route: Mapping[str, Any], service: str) -> int:
    """The weight of a Service in a route's main rule: that with two backendRefs."""
    return max(
        (
            ref.get("weight", 1)
            for rule in route["spec"].get("rules", ())
            for ref in rule.get("backendRefs", ())
            if ref["name"] == service and len(rule["backendRefs"]) > 1
        ),
        default=0,
    )


@dataclass(frozen=True)
class Answers:
    """Answers that users got from one revision, from the traffic generator's record."""

    last_done: float
    sent_after: int
    """How many of those requests were sent after a given time."""


def answers(record: Path, revision: str, after: float) -> Answers:
    """Read the record; `after`: when the route write arrived."""
    last, late = 0.0, 0
    with record.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["revision"] == revision:
                last = max(last, entry["t_done"])
                late += entry["t"] > after
    return Answers(last, late)


@dataclass(frozen=True)
class Usage:
    """What a process has used: CPU seconds so far, memory now (MiB), at this time."""

    at: float
    cpu_s: float
    rss_mib: float


def usage(pid: int) -> Usage:
    """Read /proc of a process of this PID namespace."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime, stime
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return Usage(time.time(), ticks / 100, int(rss.split()[1]) / 1024)
