"""`python -m bench.peers`: build the peers, bring a lab up, measure, print one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.machine import describe
from bench.peers.build import MODULES, peers, version
from bench.peers.plan import PARTS, Plan
from bench.peers.report import show
from bench.report import write
from lab.errors import LabError
from lab.handle import Lab

# Pods, gateway and metrics are the benchmark's own; these would only take the processor's time.
_WITHOUT = ("node", "envoy", "envoy-gateway", "prometheus")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; a LabError becomes one message."""
    options = _options(argv)
    machine = describe()
    try:
        peers()
        with Lab.up(options.name, without=_WITHOUT) as lab:
            found = _inside(lab, _plan(options))
    except LabError as error:
        print(f"bench peers: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    show(console, found)
    versions = {name: version(name) for name in MODULES}
    for name, value in {**versions, **machine}.items():
        console.print(f"  {name + ':':<15}{value}", markup=False, soft_wrap=True)
    if options.json:
        plan = json.loads(_plan(options).text())
        write(options.json, machine, versions=versions, plan=plan, found=found)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--runs", type=int, default=30, help="rollbacks per setting (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small numbers, some minutes")
    parser.add_argument("--parts", default=",".join(PARTS), help="of %(default)s")
    parser.add_argument("--tools", default="phasegate,argo,flagger", help="of %(default)s")
    parser.add_argument("--fleets", default="100,500", help="sizes of fleets (%(default)s)")
    parser.add_argument(
        "--fleet-rps", type=float, default=20.0, help="calls/s of each agent there (%(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of noise (%(default)s)")
    parser.add_argument(
        "--no-slow", action="store_true", help="leave out settings that take minutes for one run"
    )
    parser.add_argument("--refusals", type=int, default=6, help="of route writes (%(default)s)")
    parser.add_argument("--name", default="peers", help="what to call the lab (%(default)s)")
    options = parser.parse_args(argv)
    if unknown := set(options.parts.split(",")) - set(PARTS):
        parser.error(f"--parts: there is no {', '.join(sorted(unknown))}")
    return options


def _plan(options: argparse.Namespace) -> Plan:
    plan = Plan(
        parts=tuple(options.parts.split(",")),
        tools=tuple(options.tools.split(",")),
        runs=options.runs,
        refusals=options.refusals,
        slow=not options.no_slow,
        noise_minutes=options.minutes,
        fleets=tuple(int(size) for size in options.fleets.split(",")),
        fleet_rps=options.fleet_rps,
    )
    return replace(plan.quick(), runs=min(options.runs, 3)) if options.quick else plan


def _inside(lab: Lab, plan: Plan) -> dict[str, list[Any]]:
    """Run the plan inside the lab; the raw rows of each part, as far as it got."""
    found: dict[str, list[Any]] = {}
    argv = lab.command([sys.executable, "-m", "bench.peers.inside", plan.text()])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seen = json.loads(line)
            found.setdefault(seen["part"], []).append(seen["row"])
    if process.returncode != 0:
        said = f"the measuring ended with exit code {process.returncode}; what there is:"
        print(f"bench peers: {said}", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
