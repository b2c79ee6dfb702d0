"""PID 1 of a lab: starts one command, reaps orphans, ends with the command or the lifeline.

    python -m lab.sandbox.init LIFELINE_FD COMMAND…

It does nothing else and imports next to nothing, because everything in the lab ends with it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Sequence

from lab.sandbox import network


def main(argv: Sequence[str]) -> int:
    """Run until the command exits (its exit code) or the lifeline closes (128 + SIGTERM)."""
    lifeline, command = int(argv[0]), list(argv[1:])
    os.set_inheritable(lifeline, False)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    woken, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    network.prepare()
    defaults = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
    child = os.posix_spawn(command[0], command, os.environ, setsigdef=defaults)
    while True:
        readable, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in readable:
            return 128 + signal.SIGTERM
        os.read(woken, 512)
        if (code := _reap(child)) is not None:
            return code


def _reap(child: int) -> int | None:
    """Collect everything that has ended; the exit code of `child` if it is among it."""
    result: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return result
        if pid == 0:
            return result
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            result = code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
