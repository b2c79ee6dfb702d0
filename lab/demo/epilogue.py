"""What is printed when the curtain has fallen: it stays in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.demo.acts import Act, lateness
from lab.demo.scene import NO_REVISION, Rollback, Users
from lab.demo.show import plain
from lab.demo.stage import Stage


@dataclass(frozen=True)
class Result:
    """How an act ended. `took`: seconds from the change to its end."""

    act: Act
    revision: str
    took: float
    problems: tuple[str, ...]
    rollback: Rollback | None


def epilogue(console: Console, stage: Stage, results: Sequence[Result], took: float) -> None:
    """Print what happened, how the acts ended, and what users got; `took` in seconds."""
    if console.is_terminal:  # without one, the lines have been printed as they came
        for line in stage.scene().lines:
            console.print(plain(line), markup=False, soft_wrap=True)
    console.print()
    for result in results:
        _act(console, result, stage.users)
        for problem in result.problems:
            console.print(f"  NOT AS IT MUST BE: {problem}", style="bold red", soft_wrap=True)
        console.print()
    console.print(_users(stage))
    minutes, seconds = divmod(int(took), 60)
    console.print(f"{minutes} min {seconds} s in all.", style="dim")


def _act(console: Console, result: Result, users: Users) -> None:
    act, rollback = result.act, result.rollback
    sign = Text("✗ ", "bold red") if result.problems else Text("✓ ", "bold green")
    answers, failed = users.count(result.revision), users.count(result.revision, "error")
    told = "reached every user" if act.end == "Stable" else "was taken back"
    head = (
        f"{act.title}: {act.name} ({result.revision}) {told} {result.took:.0f} s after the change"
    )
    console.print(sign, Text(head, "bold"), sep="")
    if act.end == "RolledBack" and rollback is not None:
        console.print(f"  in       {rollback.phase}", markup=False)
        console.print(f"  because  {rollback.trigger}: {rollback.message}", soft_wrap=True)
        console.print(f"  safe     {rollback.seconds_to_safe} s after the decision", markup=False)
    if not answers:
        console.print("  users    none was answered by it")
        return
    told = f"{failed:,} of its {answers:,} answers to users failed"
    late = None if rollback is None else lateness(rollback, users)
    if act.end == "RolledBack" and late is not None:
        told += f"; the last one was given {late:+.2f} s after the decision"
    console.print(f"  users    {told}", soft_wrap=True)


def _users(stage: Stage) -> Table:
    """What users got, by revision and outcome."""
    users = stage.users
    table = Table(title="what users got", title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("revision", "answers", "share", "good", "handed over", "refused", "failed"):
        table.add_column(head, justify="left" if head == "revision" else "right", no_wrap=True)
    total = sum(users.count(revision) for revision in users.outcomes)
    for revision in (*stage.names, NO_REVISION):
        count = users.count(revision)
        if revision == NO_REVISION and not count:
            continue
        name = f"{stage.names[revision]} {revision}" if revision in stage.names else "no agent"
        outcomes = ("success", "escalated", "refused", "error")
        numbers = [f"{users.count(revision, outcome):,}" for outcome in outcomes]
        if revision == NO_REVISION:
            numbers = ["", "", "", f"{count:,}"]
        table.add_row(name, f"{count:,}", f"{count / max(1, total):.1%}", *numbers)
    return table
