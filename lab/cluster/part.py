"""One part of the lab: a process that is started, watched, stopped, paused and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.cluster.checks import Check
from lab.errors import LabError, StartFailed
from lab.node.process import Launch, Mount, Process, spawn
from lab.paths import State, checkout

POLL_S = 0.02
START_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0


@dataclass(frozen=True)
class Spec:
    """How a part is started and how one sees that it is ready."""

    name: str
    argv: tuple[str, ...]
    ready: Check
    address: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()


class Part:
    """The process of one Spec."""

    def __init__(self, spec: Spec, state: State, died: Callable[[Part], None]) -> None:
        self.spec = spec
        self._state = state
        self._died = died
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._wanted = False
        self._paused = False
        self._failed = False
        self._started = 0.0
        self.starts = 0
        self.exit_code: int | None = None

    @property
    def log(self) -> Path:
        """Everything the part has printed, over all its starts."""
        return self._state.log(self.spec.name)

    @property
    def running(self) -> bool:
        """Whether its process exists (a paused one does)."""
        return self._process is not None

    async def start(self, wait: bool = True) -> float:
        """Start it, if it is not running, and wait until it is ready; seconds that took.

        Raises StartFailed with its last words.
        """
        if self._process is None:
            self._launch()
        if wait:
            await self._until_ready()
        return time.monotonic() - self._started

    def _launch(self) -> None:
        # The environment decides what a part writes where; nothing of the user's may lead it
        # into the host's home or /tmp.
        home = {"HOME": str(self._state.dir), "TMPDIR": str(self._state.tmp)}
        launch = Launch(
            argv=self.spec.argv,
            env={**os.environ, **home, **self.spec.env},
            cwd=checkout(),
            log=self.log,
            scratch=self._state.tmp,
            netns=None,
            mounts=self.spec.mounts,
        )
        self._wanted, self._paused, self._failed = True, False, False
        self._started = time.monotonic()
        self.starts += 1
        self.exit_code = None
        self._process = spawn(launch)
        self._watch = asyncio.create_task(self._follow(self._process))

    async def _follow(self, process: Process) -> None:
        self.exit_code = await process.wait()
        self._process = None
        if self._wanted:
            self._wanted, self._failed = False, True
            self._died(self)

    async def _until_ready(self) -> None:
        deadline = self._started + START_TIMEOUT_S
        while not await self.spec.ready():
            if self._process is None:
                raise StartFailed(f"{self.spec.name} {self.how_it_ended()}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.spec.name} is not ready after {START_TIMEOUT_S:.0f} s; its last "
                    f"words:\n{self.last_words()}"
                )
            await asyncio.sleep(POLL_S)

    def how_it_ended(self) -> str:
        """Words on its end, with its last lines."""
        code = self.exit_code or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return f"{how}; its last words ({self.log}):\n{self.last_words()}"

    def last_words(self, lines: int = 12) -> str:
        """The last lines of its log, each indented."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 65536))
                tail = file.read().decode(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            tail = []
        return "\n".join(f"    {line}" for line in tail or ["(nothing)"])

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal; with SIGKILL when it has not ended after 10 s."""
        process, watch = self._process, self._watch
        self._wanted = False
        if process is None or watch is None:
            return
        if self._paused:
            self.resume()
        process.signal(number)
        _, pending = await asyncio.wait({watch}, timeout=STOP_GRACE_S)
        if pending:
            process.signal(signal.SIGKILL)
            await watch

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nobody answers."""
        self._existing().signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let a frozen one go on (SIGCONT)."""
        self._existing().signal(signal.SIGCONT)
        self._paused = False

    def reload(self) -> None:
        """Have it read its configuration again (SIGHUP)."""
        self._existing().signal(signal.SIGHUP)

    def _existing(self) -> Process:
        if self._process is None:
            raise LabError(f"{self.spec.name} is not running: lab part start {self.spec.name}")
        return self._process

    @property
    def state(self) -> str:
        """`up`, `paused`, `stopped` (somebody wanted that) or `failed` (nobody did)."""
        if self._process:
            return "paused" if self._paused else "up"
        return "failed" if self._failed else "stopped"

    def describe(self) -> dict[str, Any]:
        """What `lab status` shows; memory in MiB, age in seconds."""
        process = self._process
        return {
            "part": self.spec.name,
            "state": self.state,
            "pid": process.pid if process else None,
            "rss_mib": _rss_mib(process.pid) if process else 0,
            "age_s": round(time.monotonic() - self._started) if process else 0,
            "starts": self.starts,
            "address": self.spec.address,
            "log": str(self.log),
        }


def _rss_mib(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
