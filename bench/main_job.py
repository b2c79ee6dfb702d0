"""The main job's numbers: how soon a bad revision loses its users, and what the operator costs."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from bench.machine import describe
from bench.report import Figure, show, write
from lab.errors import LabError
from lab.handle import Lab
from lab.parts.build import Parts, parts

RPS = 100.0
REPETITIONS = 24
STARTS = 3
LONGEST_S = 13 * 60.0
_ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "idle": "with one agent, its users and nothing to do",
        "busy": "while one attempt after the other runs",
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; a LabError becomes one message."""
    parser = argparse.ArgumentParser(prog="python -m bench.main_job", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--name", default="bench", help="what to call the lab (%(default)s)")
    options = parser.parse_args(argv)
    try:
        return _bench(options)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _bench(options: argparse.Namespace) -> int:
    machine = describe()
    until = time.time() + LONGEST_S
    built = parts()
    starts: list[float] = []
    for _ in range(STARTS - 1):
        with _started(options.name, starts):
            pass
    with _started(options.name, starts) as lab:
        lab.start_operator()
        raw = _inside(lab, options.repetitions, until)
    figures = [*_build(built), *_figures(raw), *_usages(raw), _starts(starts)]
    show(Console(highlight=False), "Phasegate, the main job", machine, _setting(raw), figures)
    if options.json:
        figures_json = [figure.json() for figure in figures]
        write(options.json, machine, figures=figures_json, raw=raw)
    return 0


@contextmanager
def _started(name: str, starts: list[float]) -> Iterator[Lab]:
    """A lab for the block; how long it took to its first routed request goes into `starts`."""
    began = time.monotonic()
    with Lab.up(name) as lab:
        starts.append(time.monotonic() - began)
        yield lab


def _inside(lab: Lab, repetitions: int, until: float) -> dict[str, Any]:
    """Run the repetitions inside the lab; their raw results. Raises LabError if they fail."""
    argv = [sys.executable, "-m", "bench.inside", f"--repetitions={repetitions}"]
    argv += [f"--until={until}", f"--rps={RPS}"]
    done = subprocess.run(lab.command(argv), check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(f"The benchmark ended with exit code {done.returncode}.")
    raw: dict[str, Any] = json.loads(done.stdout)
    return raw


def _build(built: Parts) -> Iterator[Figure]:
    recorded = (built.dir / "complete").read_text().strip()
    if recorded:
        about = "building the Go parts, once per machine, as recorded by that build"
        yield Figure("lab parts, first time", "s", (float(recorded),), about)


def _starts(starts: Sequence[float]) -> Figure:
    about = "`lab up` to the first routed request, with the parts built"
    return Figure("lab start", "s", tuple(starts), about, "≤ 20 s")


def _figures(raw: dict[str, Any]) -> Iterator[Figure]:
    """Delays from three beginnings to the route write and to the last answer users got."""
    rows = raw["repetitions"]

    def delays(start: str, end: str) -> tuple[float, ...]:
        return tuple(row[end] - row[start] for row in rows if row[start] is not None)

    yield Figure(
        "proof visible → route write",
        "s",
        delays("newest", "written"),
        "from the moment the newest sample before the write (the one that convinced) could be read "
        "from Prometheus to the write's arrival at a watch of the HTTPRoute: the operator's own part",
        "≤ 0.09 s, max 0.5 s",
    )
    yield Figure(
        "proof visible → last answer",
        "s",
        delays("newest", "last_answer"),
        "the same, to the last user's request that the candidate answered, through Envoy",
        "≤ 1 s",
    )
    yield Figure(
        "first bad sample → route write",
        "s",
        delays("first_bad", "written"),
        "from the moment the first sample with a failed answer in it could be read; proof beyond "
        "chance takes more scrapes, which come once a second",
    )
    yield Figure(
        "first bad sample → last answer",
        "s",
        delays("first_bad", "last_answer"),
        "the same, to the last user's request that the candidate answered",
    )
    yield Figure(
        "rate[10s] > 5 % → route write",
        "s",
        delays("breach", "written"),
        "from the moment at which rate(errors[10s]) / rate(all[10s]) was over the limit: how the "
        "same is measured of other tools",
    )
    yield Figure(
        "fault → last answer",
        "s",
        delays("flipped", "last_answer"),
        "what users notice: scrape, proof, route write, Envoy",
    )
    yield Figure(
        "route write → last answer",
        "s",
        delays("written", "last_answer"),
        "what is left to Envoy Gateway, Envoy and the requests in flight",
    )
    acts = raw["by_hand"]
    yield Figure(
        "RolloutAction Rollback created → route write",
        "s",
        tuple(row["written"] - row["sent"] for row in acts),
        "a person takes a healthy candidate back: from sending the request that creates the action, "
        "admission included, to the write's arrival at a watch of the HTTPRoute",
        "≤ 0.1 s median",
    )
    yield Figure(
        "RolloutAction Rollback created → last answer",
        "s",
        tuple(row["last_answer"] - row["sent"] for row in acts),
        "the same, to the last user's request that the candidate answered",
        "≤ 1 s",
    )
    late = tuple(float(row["sent_after_write"]) for row in rows)
    yield Figure(
        "sent after the write",
        "",
        late,
        "users' requests sent after the write that the candidate still answered, until Envoy knew",
    )


def _usages(raw: dict[str, Any]) -> Iterator[Figure]:
    """What the operator uses when nothing happens and while attempts run."""
    for name, title in (("idle", "idle"), ("busy", "rolling out")):
        about = _ABOUT[name]
        seen = raw[name]
        shares = tuple(
            100 * (after["cpu_s"] - before["cpu_s"]) / (after["at"] - before["at"])
            for before, after in itertools.pairwise(seen)
        )
        memory = tuple(item["rss_mib"] for item in seen)
        yield Figure(f"operator CPU, {title}", "%", shares, f"of one core, {about}")
        yield Figure(f"operator memory, {title}", "MiB", memory, f"resident, {about}")


def _setting(raw: dict[str, Any]) -> list[str]:
    rows = raw["repetitions"]
    looks = sum(row["looks"] for row in rows)
    watched = sum(row["watched_s"] for row in rows)
    return [
        f"{RPS:.0f} requests a second through Envoy, half of them to the candidate, which answers "
        "well until it fails every request; Prometheus scrapes once a second.",
        "Visible: a loop of instant queries for the raw counters sees the sample for the first "
        f"time; one look every {1000 * watched / max(1, looks):.1f} ms. All clocks are this machine's.",
    ]


if __name__ == "__main__":
    sys.exit(main())
