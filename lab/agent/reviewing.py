"""Where reviews go: counted by the agent itself, or sent to an evaluator that outlives it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Protocol

import aiohttp

from lab.agent.metrics import AgentMetrics
from lab.agent.opinion import Review
from lab.agent.settings import Settings

_TIMEOUT = aiohttp.ClientTimeout(total=5)


class Reviewer(Protocol):
    """Somebody who takes reviews."""

    def take(self, review: Review) -> None:
        """Take one; it may be a while until it counts."""


@asynccontextmanager
async def reviewing(settings: Settings, metrics: AgentMetrics) -> AsyncIterator[Reviewer]:
    """The reviewer that the settings want, for the block."""
    if not settings.evaluator_url:
        yield Own(settings.eval_delay_s, metrics.count)
        return
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        yield Remote(settings, http)


class Own:
    """Counts reviews in this process, `delay_s` seconds late; those it still has die with it."""

    def __init__(self, delay_s: float, count: Callable[[Review], None]) -> None:
        self._delay_s = delay_s
        self._count = count

    def take(self, review: Review) -> None:
        """Count it now, or when its time has come."""
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._count, review)
        else:
            self._count(review)


class Remote:
    """Sends answers to be reviewed to `lab.agent.evaluator`; the agent need not live to see it."""

    def __init__(self, settings: Settings, http: aiohttp.ClientSession) -> None:
        self._url = f"{settings.evaluator_url.rstrip('/')}/reviews"
        self._whose = {"revision": settings.revision, "mode": settings.mode}
        self._http = http
        self._sending: set[asyncio.Task[None]] = set()

    def take(self, review: Review) -> None:
        """Send it, beside the answer."""
        task = asyncio.create_task(self._send(self._whose | asdict(review)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, body: dict[str, Any]) -> None:
        try:
            async with self._http.post(self._url, json=body) as answer:
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as error:
            print(f"the review is lost: {self._url}: {error!r}", file=sys.stderr, flush=True)
