"""Open-loop traffic: requests leave at their times, however long the answers take."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from lab.traffic.tally import NO_REVISION, Result

TOPICS = (
    "Where is my order?",
    "I would like a refund for my last order.",
    "Please open a ticket: the app shows an empty page.",
    "Can you look up my address in the CRM?",
    "How do I change my plan?",
    "My invoice shows the wrong amount.",
    "The delivery was late again.",
    "What is your return policy?",
)


@dataclass(frozen=True)
class Plan:
    """What to send: `rps` requests a second from `sessions` sessions, for `duration` s or None.

    `max_in_flight` bounds the requests without an answer; a request whose time comes while that
    many are open is not sent and counted as such. `timeout` in seconds. `headers` go with each.
    """

    url: str
    rps: float
    sessions: int
    duration: float | None
    max_in_flight: int
    timeout: float
    headers: dict[str, str]
    seed: int


class Clock:
    """Time since the epoch that never jumps: read once, then counted on by the monotonic clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.perf_counter()

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return time.perf_counter() + self._offset


class Generator:
    """Sends a plan's requests and hands each result to `report`."""

    def __init__(self, plan: Plan, report: Callable[[Result], None]) -> None:
        self._plan = plan
        self._report = report
        self._clock = Clock()
        self._chance = random.Random(plan.seed)
        self._turns = [0] * plan.sessions
        self._open: set[asyncio.Task[None]] = set()
        self.not_sent = 0

    @property
    def in_flight(self) -> int:
        """Requests without an answer so far."""
        return len(self._open)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until the plan's time is over or `stop` is set, then wait for the last answers."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=self._plan.timeout)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await self._send_all(session, stop)
            if self._open:
                await asyncio.wait(self._open)

    async def _send_all(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        begun, number = self._clock(), 0
        while not stop.is_set():
            due = number / self._plan.rps
            if self._plan.duration is not None and due >= self._plan.duration:
                return
            ahead = begun + due - self._clock()
            if ahead > 0:
                try:
                    await asyncio.wait_for(stop.wait(), ahead)
                except TimeoutError:
                    pass
                else:
                    return
            number += 1
            if len(self._open) >= self._plan.max_in_flight:
                self.not_sent += 1
                await asyncio.sleep(0)
                continue
            task = asyncio.create_task(self._one(session))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        number = self._chance.randrange(self._plan.sessions)
        self._turns[number] += 1
        name = f"session-{number:05d}"
        # The turn's number makes each message new: an agent answers the same message the same way.
        topic = TOPICS[self._chance.randrange(len(TOPICS))]
        body = {"session": name, "message": f"{topic} (question {self._turns[number]})"}
        headers = self._plan.headers | {"x-session-id": name}
        sent = self._clock()
        try:
            async with session.post(self._plan.url, json=body, headers=headers) as answer:
                status, text = answer.status, await answer.text()
        except TimeoutError:
            result = Result(sent, self._clock(), NO_REVISION, "timeout", 0)
        except (aiohttp.ClientError, OSError):
            result = Result(sent, self._clock(), NO_REVISION, "unreachable", 0)
        else:
            result = Result(sent, self._clock(), *_read(status, text), status)
        self._report(result)


def _read(status: int, text: str) -> tuple[str, str]:
    """Return (revision, outcome) of an answer; one that is not an agent's has no revision."""
    try:
        body = json.loads(text)
        return str(body["revision"]), str(body["outcome"])
    except (ValueError, KeyError, TypeError):
        return NO_REVISION, f"http-{status}"
