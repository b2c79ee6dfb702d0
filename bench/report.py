"""Numbers as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured quantity. `unit` is that of all values; `about` says what was measured."""

    name: str
    unit: str
    values: tuple[float, ...]
    about: str
    target: str = ""

    @property
    def median(self) -> float:
        """The middle value (of two middle ones the mean)."""
        ordered = sorted(self.values)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

    def row(self) -> tuple[str, ...]:
        """name, n, median, max, target."""
        if not self.values:
            return self.name, "0", "—", "—", self.target
        return (
            self.name,
            str(len(self.values)),
            f"{digits(self.median)} {self.unit}",
            f"{digits(max(self.values))} {self.unit}",
            self.target,
        )

    def json(self) -> dict[str, Any]:
        """Everything, with median and maximum."""
        if not self.values:
            return asdict(self)
        return {**asdict(self), "median": self.median, "max": max(self.values)}


def digits(value: float) -> str:
    """Three digits that mean something."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def show(
    console: Console,
    title: str,
    machine: Mapping[str, str],
    setting: Sequence[str],
    figures: Sequence[Figure],
) -> None:
    """Print the machine, how was measured, the table, and what each row means."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("", "n", "median", "max", "target"):
        justify: JustifyMethod = "left" if head in ("", "target") else "right"
        table.add_column(head, justify=justify, no_wrap=not head)
    for figure in figures:
        table.add_row(*figure.row())
    console.print(table)
    for figure in figures:
        if figure.about:
            console.print(f"  {figure.name}: {figure.about}", markup=False, soft_wrap=True)
    console.print()
    for line in setting:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print()
    for name, value in machine.items():
        console.print(f"  {name + ':':<11}{value}", markup=False, soft_wrap=True)


def write(file: Path, machine: Mapping[str, str], **content: Any) -> None:
    """Write what was measured, when and on what, for programs."""
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"measured": measured, "machine": machine, **content}
    file.write_text(json.dumps(whole, indent=2) + "\n")
