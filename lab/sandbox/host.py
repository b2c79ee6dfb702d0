"""The host process of a lab: builds the parts, makes the namespaces, forwards ports, cleans up."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.errors import AlreadyRunning, LabError
from lab.parts.build import parts
from lab.paths import State, cache_dir, checkout
from lab.sandbox.forward import Forward, forwarding
from lab.sandbox.namespaces import unshare_command


@dataclass(frozen=True)
class Options:
    """How to bring a lab up."""

    forwards: tuple[Forward, ...] = ()
    # Parts to leave out, for those who bring their own (a benchmark's other controller).
    without: tuple[str, ...] = ()
    # The lab ends when this process does; 0: it lives until it is told to end.
    owner: int = 0


def run(state: State, options: Options) -> int:
    """Bring the lab up and stay until it ends; the exit code.

    Ends on SIGINT, SIGTERM, SIGHUP, on `lab down`, and with the owner, however that ends.
    Raises LabError before anything is started.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)  # until the event loop takes signals
    if options.owner:
        end_with(options.owner)
    with locked(state) as lock:
        wrapper = unshare_command()
        built = parts()
        clean(state)
        for log in state.logs.glob("*.log"):
            if log != state.output:  # that one is being written to
                log.unlink()
        for directory in (state.logs, state.tmp):
            directory.mkdir(exist_ok=True)
        state.dir.chmod(0o700)  # tokens and keys are in there
        try:
            return asyncio.run(_run(state, options, wrapper, built.dir, lock))
        finally:
            clean(state)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)


def end_with(owner: int) -> None:
    """Send SIGTERM here as soon as process `owner` has ended, SIGKILL included."""
    try:
        pidfd = os.pidfd_open(owner)
    except ProcessLookupError:
        sys.exit(128 + signal.SIGTERM)

    def watch() -> None:
        select.select([pidfd], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def locked(state: State, wait: bool = False) -> Iterator[int]:
    """Hold the lab's lock; yields its descriptor, which init inherits.

    So the lock is free exactly when the host process and everything inside have ended.
    Raises AlreadyRunning if it is taken (with `wait`, waits for it instead).
    """
    state.lock.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"A lab {state.name!r} is running already: end it with 'lab down --name "
                f"{state.name}', or give the new one another --name."
            ) from error
        yield fd
    finally:
        os.close(fd)


def clean(state: State) -> None:
    """Remove the lab's files, but for its logs, which people may want to read afterwards."""
    for entry in state.dir.iterdir():
        if entry in (state.lock, state.first, state.logs):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


async def _run(state: State, options: Options, wrapper: list[str], built: Path, lock: int) -> int:
    lifeline, held = os.pipe()
    supervisor = [sys.executable, "-m", "lab.cluster.supervisor", state.name, str(built)]
    supervisor += [f"--without={part}" for part in options.without]
    init = [sys.executable, "-m", "lab.sandbox.init", str(lifeline), *supervisor]
    async with forwarding(state, options.forwards) as addresses:
        for target, address in addresses.items():
            print(f"lab {state.name}: {address} leads to {target} inside", flush=True)
        process = await asyncio.create_subprocess_exec(
            *wrapper,
            *init,
            env=_environment(),
            pass_fds=(lifeline, lock),
            # A Ctrl-C is for the host process, which then ends all of it at once.
            start_new_session=True,
        )
        os.close(lifeline)
        return await _until_ended(process, held)


def _environment() -> dict[str, str]:
    # `python -m lab…` must work from any directory; proxies of the host do not exist inside.
    path = os.pathsep.join(filter(None, (str(checkout()), os.environ.get("PYTHONPATH"))))
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return {**env, "PYTHONPATH": path, "PHASEGATE_CACHE": str(cache_dir())}


async def _until_ended(process: asyncio.subprocess.Process, held: int) -> int:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    ended = asyncio.ensure_future(process.wait())
    stop = asyncio.ensure_future(asked.wait())
    await asyncio.wait((ended, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    os.close(held)  # if init is still there, it ends now
    code = await ended
    return 0 if asked.is_set() else code


def wait_for_end(state: State) -> None:
    """Return when no process of the lab is left."""
    try:
        with locked(state, wait=True):
            clean(state)  # in case the host process was killed
    except OSError as error:
        raise LabError(f"Cannot reach the lab's lock {state.lock}: {error}") from error
