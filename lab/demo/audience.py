"""The users: the lab's traffic generator as a process of its own, and what it counts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lab.demo.scene import Second, Users
from lab.errors import LabError

LOOK_S = 0.25
_REMEMBERED = 120
"""Seconds of history: more than a strip is wide."""


class Counts:
    """Turns the generator's running totals into what the view shows."""

    def __init__(self) -> None:
        self._history: deque[Second] = deque(maxlen=_REMEMBERED)
        self._since: tuple[float, Mapping[str, int], int] | None = None

    def take(self, totals: Mapping[str, Any]) -> Users:
        """Take note of the totals; what users got so far."""
        outcomes = {name: row["outcomes"] for name, row in totals["revisions"].items()}
        answers = {name: row["count"] for name, row in totals["revisions"].items()}
        failed = sum(row["count"] for row in totals["results"] if row["status"] != 200)
        now = totals["updated"]
        if self._since is None:
            self._since = now, answers, failed
        begun, before, failed_before = self._since
        if now - begun >= 1.0:
            new = {name: count - before.get(name, 0) for name, count in answers.items()}
            self._history.append(Second(new, failed - failed_before))
            self._since = now, answers, failed
        p95 = {name: row["p95_ms"] for name, row in totals["revisions"].items()}
        last = {name: row["last_done"] for name, row in totals["revisions"].items()}
        return Users(outcomes, p95, last, tuple(self._history))


@asynccontextmanager
async def audience(
    rps: float, host: str, stats: Path, report: Callable[[Users], None]
) -> AsyncIterator[None]:
    """Send `rps` requests a second to `host` while the block runs, and report what users got.

    Raises LabError in the generator's words if it ends before the block does.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lab.traffic", "--until-stopped", "--quiet"),
        *(f"--rps={rps}", f"--host={host}", f"--stats={stats}", "--json"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for the demo, which then ends it
    )
    watching = asyncio.create_task(_watch(process, stats, report))
    try:
        yield
        if watching.done():
            watching.result()
    finally:
        watching.cancel()
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _watch(
    process: asyncio.subprocess.Process, stats: Path, report: Callable[[Users], None]
) -> None:
    counts = Counts()
    while process.returncode is None:
        await asyncio.sleep(LOOK_S)
        if (totals := _read(stats)) is not None:
            report(counts.take(totals))
    assert process.stderr is not None
    words = (await process.stderr.read()).decode().strip()
    raise LabError(f"The traffic generator ended:\n{words}")


def _read(stats: Path) -> dict[str, Any] | None:
    """The generator's totals, None if there are none yet; it replaces the file as a whole."""
    try:
        totals: dict[str, Any] = json.loads(stats.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return totals
