"""The process inside the lab that owns its parts: brings them up, watches them, takes requests.

python -m lab.cluster.supervisor NAME PARTS_DIR [--without PART …]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.cluster.bringup import bring_up
from lab.cluster.control import serve
from lab.cluster.parts import Cluster
from lab.errors import LabError, StartFailed
from lab.parts.build import Parts
from lab.paths import State


def main() -> int:
    """Run until the lab is told to end; the exit code."""
    parser = argparse.ArgumentParser(prog="lab.cluster.supervisor")
    parser.add_argument("name")
    parser.add_argument("parts", type=Path)
    parser.add_argument("--without", action="append", default=[])
    options = parser.parse_args()
    # Python does not raise the soft limit of open files by itself, and pods inherit it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        asyncio.run(_run(State.of(options.name), Parts(options.parts), options.without))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


async def _run(state: State, binaries: Parts, without: Sequence[str]) -> None:
    cluster = Cluster(state, binaries, without)
    async with serve(cluster):
        started = time.monotonic()
        ended = asyncio.ensure_future(cluster.ended.wait())
        coming = asyncio.ensure_future(bring_up(cluster))
        events: set[asyncio.Future[Any]] = {ended, coming, cluster.broken}
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return
        if cluster.broken.done():
            part = cluster.broken.result()
            raise StartFailed(f"{part.spec.name} {part.how_it_ended()}")
        coming.result()
        cluster.say(f"ready after {time.monotonic() - started:.1f} s")
        _announce(cluster.state, cluster.facts())
        cluster.ready.set()
        await ended


def _announce(state: State, facts: dict[str, Any]) -> None:
    unfinished = state.ready.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(facts, indent=2))
    unfinished.rename(state.ready)


if __name__ == "__main__":
    sys.exit(main())
