"""Local processes as containers: started in a pod's network, watched, ended with all children."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.errors import LabError

POD_MARK = "LAB_POD_DIR"
"""Environment variable that marks every process of a pod (children inherit it)."""


class StartError(LabError):
    """The program of a container cannot be run at all."""


@dataclass(frozen=True)
class Mount:
    """One file or directory of the node to be seen at ``target`` in the container."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Launch:
    """Everything needed to start one process. ``netns``: an open file descriptor, None: ours."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    scratch: Path
    netns: int | None
    mounts: tuple[Mount, ...] = ()


class Process:
    """A running process, leader of its own session and process group."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """Process id as the node sees it."""
        return self._popen.pid

    def _reap(self) -> None:
        code = self._popen.poll()
        if code is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.kill()  # what the leader left behind
        if not self._ended.done():
            self._ended.set_result(code)

    async def wait(self) -> int:
        """Return the exit code; negative: the signal that ended it."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask the main process to end, and only that, as a container runtime does."""
        if not self._ended.done():
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the whole group."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group; a group that is gone is fine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def spawn(launch: Launch) -> Process:
    """Start a process; its output goes to the end of the log. Raises StartError."""
    program = launch.argv[0]
    if shutil.which(program, path=launch.env.get("PATH")) is None:
        raise StartError(f'exec: "{program}": executable file not found in $PATH')
    if not launch.cwd.is_dir() and not launch.mounts:
        raise StartError(f"workingDir {launch.cwd}: no such directory")
    with launch.log.open("ab") as log:
        try:
            popen = subprocess.Popen(
                [*_entry(launch), *launch.argv],
                env=dict(launch.env),
                cwd=launch.scratch if launch.mounts else launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=() if launch.netns is None else (launch.netns,),
            )
        except OSError as error:
            raise StartError(f'exec: "{program}": {error.strerror}') from error
    return Process(popen)


def _entry(launch: Launch) -> tuple[str, ...]:
    """Return the words that put a command into the pod's network and mounts; they only exec."""
    words: tuple[str, ...] = ()
    if launch.netns is not None:
        words = ("nsenter", f"--net=/proc/self/fd/{launch.netns}", "--")
    if launch.mounts:
        plan = launch.scratch / f"mounts-{launch.log.stem}.json"
        content = {"mounts": [asdict(mount) for mount in launch.mounts], "cwd": str(launch.cwd)}
        plan.write_text(json.dumps(content), encoding="utf-8")
        script = Path(__file__).with_name("enter.py")
        words += (sys.executable, "-I", "-S", str(script), str(plan), str(launch.scratch))
    return words


def inside(pid: int, netns: int | None, mounts: bool) -> tuple[str, ...]:
    """Return the words that run a command where process ``pid`` runs (exec probes, preStop)."""
    words = ["nsenter", f"--target={pid}"]
    if netns is not None:
        words.append("--net")
    if mounts:
        words += ["--mount", "--root"]
    return (*words, "--wd", "--")


async def run_command(
    argv: tuple[str, ...], env: Mapping[str, str], limit: float
) -> tuple[int, str]:
    """Run a short command to its end; returns (exit code, output).

    Raises TimeoutError when it takes longer than ``limit`` seconds; it is killed then.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), limit)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode or 0, output.decode("utf-8", "replace")[:1024]


def kill_marked(directory: Path) -> int:
    """Kill every process whose pod directory is ``directory`` or below; returns how many.

    Finds also those that left their process group, and those of a node agent that was killed.
    """
    mark, killed = f"{POD_MARK}={directory}".encode(), 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            if any(item == mark or item.startswith(mark + b"/") for item in variables):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return killed
