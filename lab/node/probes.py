"""Readiness, liveness and startup probes, as a kubelet does them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from lab.node.client import Json
from lab.node.spec import ConfigError

EAGER_S = 0.2
"""Pause between attempts before the first success, in seconds.

A kubelet would wait a whole period; the lab's pods are ready sooner. Failures of this time
count once per period.
"""

Check = Callable[[], Awaitable[str | None]]
"""One attempt: None for success, else what was wrong, as one sentence."""


@dataclass(frozen=True)
class ProbeTimes:
    """A probe's numbers, in seconds and counts, with Kubernetes' defaults."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @staticmethod
    def of(probe: Json) -> ProbeTimes:
        """Read a probe's spec."""
        return ProbeTimes(
            initial_delay=probe.get("initialDelaySeconds", 0),
            period=probe.get("periodSeconds", 10),
            timeout=probe.get("timeoutSeconds", 1),
            successes=probe.get("successThreshold", 1),
            failures=probe.get("failureThreshold", 3),
        )


@dataclass(frozen=True)
class Tally:
    """Results in a row; ``verdict`` changes when a threshold is reached."""

    verdict: bool | None = None
    streak: int = 0
    last: bool | None = None

    def add(self, success: bool, times: ProbeTimes) -> Tally:
        """Return the tally with one more result."""
        streak = self.streak + 1 if success == self.last else 1
        needed = times.successes if success else times.failures
        verdict = success if streak >= needed else self.verdict
        return Tally(verdict, streak, success)


def port_number(container: Json, port: int | str) -> int:
    """Return a probe's port, looked up by name among the container's ports."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for entry in container.get("ports") or ():
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ConfigError(f'probe: the container has no port named "{port}"')


def network_check(
    probe: Json, container: Json, pod_ip: str, session: aiohttp.ClientSession
) -> Check | None:
    """Return the attempt for an httpGet or tcpSocket handler, None for other handlers."""
    timeout = ProbeTimes.of(probe).timeout
    if "httpGet" in probe:
        handler = probe["httpGet"]
        scheme = handler.get("scheme", "HTTP").lower()
        host, port = handler.get("host", pod_ip), port_number(container, handler["port"])
        url = f"{scheme}://{host}:{port}/{handler.get('path', '/').lstrip('/')}"
        headers = {entry["name"]: entry["value"] for entry in handler.get("httpHeaders") or ()}
        return lambda: _http(session, url, headers, timeout)
    if "tcpSocket" in probe:
        handler = probe["tcpSocket"]
        host, port = handler.get("host", pod_ip), port_number(container, handler["port"])
        return lambda: _tcp(host, port, timeout)
    return None


async def _http(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], limit: float
) -> str | None:
    try:
        async with session.get(
            url, headers=headers, timeout=aiohttp.ClientTimeout(limit), ssl=False
        ) as answer:
            if 200 <= answer.status < 400:
                return None
            return f"HTTP probe failed with statuscode: {answer.status}"
    except TimeoutError:
        return f'Get "{url}": no answer in {limit} s'
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f'Get "{url}": {error}'


async def _tcp(host: str, port: int, limit: float) -> str | None:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), limit)
    except TimeoutError:
        return f"dial tcp {host}:{port}: no answer in {limit} s"
    except OSError as error:
        return f"dial tcp {host}:{port}: {error}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def run_probe(times: ProbeTimes, check: Check, report: Callable[[bool, str], None]) -> None:
    """Probe until cancelled; ``report(verdict, why)`` is called when the verdict changes."""
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(times.initial_delay)
    why = await _eager(times, check, clock() + times.period)
    tally = Tally()
    while True:
        success = why is None
        after = tally.add(success, times)
        if after.verdict is not None and after.verdict != tally.verdict:
            report(after.verdict, why or "")
        tally = after
        await asyncio.sleep(times.period)
        why = await check()


async def _eager(times: ProbeTimes, check: Check, until: float) -> str | None:
    clock = asyncio.get_running_loop().time
    why = await check()
    while why is not None and clock() + EAGER_S < until:
        await asyncio.sleep(EAGER_S)
        why = await check()
    return why
