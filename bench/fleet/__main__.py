"""`python -m bench.fleet`: the numbers of a whole fleet as a table, and as JSON."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.machine import describe
from bench.report import Figure, show, write
from lab.errors import LabError
from lab.handle import Lab
from lab.parts.build import parts

_WITHOUT = ("kube-controller-manager", "node", "envoy-gateway", "envoy")
_SETTING = (
    "real: kube-apiserver, etcd, Prometheus (5 s scrapes, ten targets), the operator with its",
    "default settings; played: pods and gateway report ready at once, one process exports the",
    "metrics of all agents. All of it shares this machine with the operator.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; a LabError becomes one message."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--only", choices=("live", "idle"), help="one of both scenarios")
    options = parser.parse_args(argv)
    sizes = _sizes(quick=options.quick)
    machine = describe()
    parts()
    found: dict[str, Any] = {}
    try:
        for scenario in (options.only,) if options.only else ("live", "idle"):
            with Lab.up(f"fleet-{scenario}", without=_WITHOUT) as lab:
                found |= _inside(lab, scenario, sizes)
    except LabError as error:
        print(f"bench-fleet: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    figures = list(_figures(found))
    show(Console(highlight=False, width=140), "Phasegate, a fleet", machine, _SETTING, figures)
    if options.json:
        figures_json = [figure.json() for figure in figures]
        write(options.json, machine, figures=figures_json, raw=found)
    return 0


def _sizes(*, quick: bool) -> Mapping[str, str]:
    if quick:
        return {"live": "10,100", "rollbacks": "50", "idle": "100,1000", "window": "60"}
    return {"live": "10,100,1000", "rollbacks": "500", "idle": "1000,10000", "window": "120"}


def _inside(lab: Lab, scenario: str, sizes: Mapping[str, str]) -> dict[str, Any]:
    """Play a scenario inside the lab; its raw results. Raises LabError if it fails."""
    argv = [sys.executable, "-m", "bench.fleet.driver", scenario]
    argv += [f"--{name}={value}" for name, value in sizes.items()]
    done = subprocess.run(lab.command(argv), check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(f"The scenario {scenario!r} ended with exit code {done.returncode}.")
    raw: dict[str, Any] = json.loads(done.stdout)
    return raw


def _figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    for row in found.get("live", ()):
        yield from _steady(f"{row['rollouts']} rollouts", row, _LIVE.get(row["rollouts"], {}))
        per = 1000 * row["cores"] / row["rollouts"]
        yield _one(f"{row['rollouts']} rollouts, CPU of one", "ms/s", per, "must not grow")
    if herd := found.get("herd"):
        what = f"{herd['rollbacks']} of {herd['rollouts']} candidates fail at once"
        for name in ("visible_to_first", "visible_to_median", "visible_to_last"):
            words = name.replace("_to_", " → ").replace("visible", "bad sample visible")
            yield _one(f"{what}: {words} route", "s", herd[name], "")
        yield _one(f"{what}: first → last route", "s", herd["first_to_last"], "≤ 5 s")
    if "failover" in found:
        about = "leader killed → next leader's first rollback"
        yield _one(about, "s", found["failover"], "≤ lease (15 s) + 5 s")
    for row in found.get("idle", ()):
        yield from _steady(f"{row['agents']} idle", row, _IDLE.get(row["agents"], {}))
        yield _one(f"{row['agents']} idle, start-up", "s", row["start"], "≤ 60 s")


_LIVE: Mapping[int, Mapping[str, str]] = {
    100: {"requests": "≤ 0.5 /s"},
    1000: {"cores": "≤ 1", "rss_mib": "≤ 400 MiB", "queries": "≤ 2 /s"},
}
_IDLE: Mapping[int, Mapping[str, str]] = {10_000: {"cores": "≤ 0.01", "rss_mib": "≤ 700 MiB"}}
_UNITS = {"cores": "cores", "rss_mib": "MiB", "requests": "/s", "queries": "/s"}
_WORDS = {
    "cores": "processor",
    "rss_mib": "memory",
    "requests": "API requests",
    "queries": "Prometheus queries",
}


def _steady(name: str, row: Mapping[str, float], targets: Mapping[str, str]) -> Iterator[Figure]:
    for key, unit in _UNITS.items():
        yield _one(f"{name}, {_WORDS[key]}", unit, row[key], targets.get(key, ""))


def _one(name: str, unit: str, value: float, target: str) -> Figure:
    return Figure(name, unit, (value,), "", target)


if __name__ == "__main__":
    sys.exit(main())
