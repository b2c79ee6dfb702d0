"""`python -m bench.judgement`: every table of docs/judgement.md, from seeds."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table as Shown

from bench.judgement.cost import cost
from bench.judgement.guarantees import gates, grey, validity
from bench.judgement.rollouts import bursts, detection, healthy
from bench.judgement.shapes import Cell, Scale, Table
from bench.machine import describe
from bench.report import write

SEED = 20261121
FULL = Scale(runs=100, hours=48, seed=SEED)
QUICK = Scale(runs=12, hours=24, seed=SEED)

_TABLES: Mapping[str, Callable[[Scale], Table]] = MappingProxyType(
    {
        "cost": cost,
        "validity": validity,
        "healthy": healthy,
        "bursts": bursts,
        "detection": detection,
        "gates": gates,
        "grey": grey,
    }
)
_WIDTH: Final = 160
"""Columns of a page that is no terminal."""
_MORE: Mapping[str, int] = MappingProxyType({"validity": 4, "gates": 4, "grey": 2})
"""These need more runs to say anything, and each is short."""


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.judgement", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rollouts")
    parser.add_argument("--only", action="append", choices=list(_TABLES), help="one table")
    parser.add_argument("--runs", type=int, help="rollouts per row")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--markdown", action="store_true", help="as docs/judgement.md has them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    options = parser.parse_args(argv)
    scale = QUICK if options.quick else FULL
    if options.runs is not None:
        scale = Scale(options.runs, scale.hours, scale.seed)
    machine = describe()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    found: list[Table] = []
    for table in _simulate(options.only or list(_TABLES), scale, options.jobs):
        found.append(table)
        if options.markdown:
            print(markdown(table))
        else:
            show(console, table)
    for name, value in {**machine, "seed": str(scale.seed)}.items():
        console.print(f"  {name + ':':<11}{value}", markup=False, soft_wrap=True)
    if options.json:
        tables = [asdict(table) for table in found]
        write(options.json, machine, scale=asdict(scale), tables=tables)
    return 0


def _simulate(names: Sequence[str], scale: Scale, jobs: int) -> Iterator[Table]:
    """Costs are measured first and alone; the others side by side, shown in order."""
    rest = [name for name in names if name != "cost"]
    if "cost" in names:
        yield cost(scale)
    with ProcessPoolExecutor(max(1, jobs)) as pool:
        yield from pool.map(_table, rest, [scale] * len(rest))


def _table(name: str, scale: Scale) -> Table:
    began = time.monotonic()
    table = _TABLES[name](Scale(scale.runs * _MORE.get(name, 1), scale.hours, scale.seed))
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return table


def show(console: Console, table: Table) -> None:
    """One table, and what it means."""
    shown = Shown(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, head in enumerate(table.heads):
        shown.add_column(head, justify="right" if index else "left")
    for row in table.rows:
        shown.add_row(*map(text, row))
    console.print(shown)
    console.print(f"  {table.about}", markup=False, soft_wrap=True)
    console.print()


def markdown(table: Table) -> str:
    """The same for a document."""
    rows = [table.heads, ["---", *["--:"] * (len(table.heads) - 1)]]
    rows += [[text(cell) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    about = table.about[0].upper() + table.about[1:]
    return "\n".join((f"### {table.title}", "", *lines, "", f"{about}.", ""))


def text(cell: Cell) -> str:
    """A share with as many digits as mean something."""
    if cell is None:
        return "—"
    return cell if isinstance(cell, str) else f"{cell:.3f}".rstrip("0").rstrip(".") or "0"


if __name__ == "__main__":
    sys.exit(main())
