"""The one table of the comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.report import digits

Json = Mapping[str, Any]
Cells = tuple[str, ...]

_TITLES: Mapping[str, str] = {
    "delay": "breach visible → route safe",
    "refusal": "route writes refused for 30 s: lift → safe",
    "outage": "Prometheus away for 90 s, healthy candidates",
    "noise": "healthy, noisy traffic",
    "fleet": "many rollouts × 7 metrics",
}


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by `share` of the values (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def show(console: Console, found: Mapping[str, Sequence[Json]]) -> None:
    """Print what was measured, part by part, and what each part means."""
    table = Table(title="Phasegate and its peers", title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("", "tool", "setting", "result"):
        table.add_column(head)
    for part, rows in found.items():
        for number, row in enumerate(rows):
            title = _TITLES[part] if number == 0 else ""
            table.add_row(title, *_ROWS[part](row), end_section=number == len(rows) - 1)
    console.print(table)
    for line in _ABOUT:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print()


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "never"
    middle, late = quantile(values, 0.5), quantile(values, 0.99)
    return f"median {digits(middle)} s, p99 {digits(late)} s, n {len(values)}"


def _delay(row: Json) -> Cells:
    runs = [run for run in row["runs"] if not run["premature"]]
    text = _spread([run["delay"] for run in runs])
    if before := sum(1 for run in runs if run["breach"] is None):
        text += f"; {before} safe before it was visible"
    if row["tool"] == "Phasegate" and (proof := _proof(runs)):
        text += f"; from its own proof: {proof}"
    if early := len(row["runs"]) - len(runs):
        text += f"; {early} taken back while all was well"
    return row["tool"], row["setting"], text + _again(runs)


def _proof(runs: Sequence[Json]) -> str:
    """From the newest sample that was visible before it acted."""
    return _spread([run["safe"] - run["newest"] for run in runs if run["newest"]])


def _refusal(row: Json) -> Cells:
    runs = row["runs"]
    return row["tool"], row["setting"], _spread([run["delay"] for run in runs]) + _again(runs)


def _again(runs: Sequence[Json]) -> str:
    back = sum(1 for run in runs if run["again"])
    return f"; {back} gave the bad revision users again" if back else ""


def _healthy(row: Json) -> Cells:
    taken = row["taken_back"]
    text = f"{len(taken)} of {row['candidates']} taken back"
    if taken:
        text += f" (first after {digits(taken[0])} s, median {digits(quantile(taken, 0.5))} s)"
    if "minutes" in row:
        text += f" in {row['minutes']:g} min"
    return row["tool"], row["setting"], text


def _fleet(row: Json) -> Cells:
    safe = row["safe"]
    text = (
        f"{digits(row['queries'])} queries/s, {digits(row['calls'])} API requests/s, "
        f"{digits(row['cpu'])} cores, {row['rss_mib']:.0f} MiB; "
    )
    if safe:
        last = f"{digits(safe[0])} / {digits(quantile(safe, 0.5))} / {digits(safe[-1])}"
        text += f"safe first / median / last {last} s"
    if len(safe) < row["rollouts"]:
        text += f"; {row['rollouts'] - row['given']} were taken back while all was well"
        text += f", {row['given'] - len(safe)} never safe"
    name = f"{row['tool']} × {row['rollouts']}, {row['rps']:g} calls/s each"
    return name, row["setting"], text


_ROWS = {
    "delay": _delay,
    "refusal": _refusal,
    "outage": _healthy,
    "noise": _healthy,
    "fleet": _fleet,
}

_ABOUT: tuple[str, ...] = (
    "Visible: a loop of instant queries sees rate(errors[10s]) / rate(all[10s]) > 5 % for the first "
    "time. Safe: the write that leaves the candidate without users, as it arrives at a watch. One "
    "who is safe before it is visible counts as 0 s.",
    "Everybody asks about the last 10 s, at every setting; calls come at 250 a second, a fifth to the "
    "candidate, which fails 1 % of them, then all. Prometheus scrapes once a second.",
    "Noisy: 10 calls a second, 1 % fail; about every 10 min a quarter of both revisions' calls fail "
    "for 20 s.",
    "Pods and gateway are played, for all alike; API server, controller manager, Prometheus and the "
    "three tools are real. Argo Rollouts writes TraefikServices, the others HTTPRoutes.",
)
