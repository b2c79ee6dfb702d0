"""Processes of the benchmark inside the lab: Prometheus and the tool that is measured."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from bench.probe import Usage, usage
from lab.errors import LabError
from lab.parts.build import Parts

PROMETHEUS = "127.0.0.1:19090"
_START_S = 60.0
_POLL_S = 0.05
_GRACE_S = 10.0


@dataclass
class Running:
    """A process; what it prints is in `log`."""

    argv: Sequence[str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it (again)."""
        with self.log.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                *self.argv, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; with SIGKILL where the signal does not do."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), _GRACE_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    def usage(self) -> Usage:
        """CPU and memory so far. Raises LabError, with its last words, if it has ended."""
        self.check()
        assert self.process is not None
        return usage(self.process.pid)

    def check(self) -> None:
        """Raises LabError, with its last words, if it has ended."""
        if self.process is None or self.process.returncode is not None:
            words = self.log.read_text(errors="replace")[-1500:]
            raise LabError(f"{Path(self.argv[0]).name} has ended:\n{words}")


@asynccontextmanager
async def running(argv: Sequence[str], log: Path) -> AsyncIterator[Running]:
    """A process for the block."""
    process = Running(argv, log)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


class Prometheus:
    """A Prometheus of the benchmark's own, which scrapes the exporter and nothing else."""

    def __init__(self, parts: Parts, folder: Path, target: str, scrape_s: int) -> None:
        self.url = f"http://{PROMETHEUS}"
        folder.mkdir(parents=True, exist_ok=True)
        interval = f"{scrape_s}s"
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [
                {
                    "job_name": "agents",
                    "honor_labels": True,
                    "static_configs": [{"targets": [target]}],
                }
            ],
        }
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        argv = (
            *(str(parts.binary("prometheus")), f"--config.file={path}"),
            *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={PROMETHEUS}"),
            "--log.level=warn",
        )
        self.running = Running(argv, folder / "prometheus.log")

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await self.running.start()
        async with aiohttp.ClientSession() as session, asyncio.timeout(_START_S):
            while not await _answers(session, f"{self.url}/-/ready"):
                self.running.check()
                await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """End it; its data stays."""
        await self.running.stop()

    async def asked(self) -> float:
        """How many queries (instant and range) it has answered since it was started."""
        total = 0.0
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                query = 'handler="/api/v1/query"' in line or 'handler="/api/v1/query_range"' in line
                if line.startswith("prometheus_http_requests_total{") and query:
                    total += float(line.rpartition(" ")[2])
        return total


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False


def inherit_nothing() -> None:
    """Take the lab's own addresses out of the environment: the tools are told theirs."""
    for name in ("KUBECONFIG", "PHASEGATE_GATEWAY_URL", "PHASEGATE_PROMETHEUS_URL"):
        os.environ.pop(name, None)
