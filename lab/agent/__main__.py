"""`python -m lab.agent`: run the sample agent; its settings are environment variables."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from prometheus_client import disable_created_metrics

from lab.agent.server import serve
from lab.agent.settings import read
from lab.errors import LabError


async def run() -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(read(os.environ), stop)


def main() -> int:
    """Run the agent; a wrong setting ends it with one sentence."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        asyncio.run(run())
    except LabError as error:
        print(f"sample agent: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
