"""A scene as one picture that fills the terminal. Its parts keep their places, so nothing jumps."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.align import Align
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab.demo import bars
from lab.demo.scene import Check, Line, Scene, clock

STABLE, NEWCOMER = "cyan", "magenta"
SMALLEST = (80, 24)
"""Columns and rows below which a picture makes no sense."""
PROOF = 220.0
"""The odds at which the demo's policy takes a revision back: four tests (two ratios, each with its
tier for total failures) share a false rollback rate of 1 %."""
_ROOMY = 34
_TONES = {"story": "bold", "event": "", "warning": "bold red", "command": "green"}
_SIGNS = {"Pass": ("✓", "green"), "Fail": ("✗", "bold red")}
_CHECKS = 3


def draw(scene: Scene, width: int, height: int) -> RenderableType:
    """The whole picture for a terminal of this size."""
    roomy = height >= _ROOMY
    rail, evidence = (4, 3 + _CHECKS * 2) if roomy else (2, 3 + _CHECKS)
    layout = Layout()
    layout.split_column(
        Layout(_header(scene), size=4),
        Layout(_ladder(scene, width, roomy), size=rail),
        Layout(name="middle", size=8),
        Layout(_evidence(scene, width, roomy), size=evidence),
        Layout(_log(scene, height - 4 - rail - 8 - evidence - 2)),
    )
    half = width // 2
    layout["middle"].split_row(
        Layout(_split(scene, half), size=half), Layout(_users(scene, width - half))
    )
    return layout


def _panel(content: RenderableType, title: str) -> Panel:
    return Panel(
        content,
        title=f"[grey62]{title}[/]",
        title_align="left",
        border_style="grey37",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def _header(scene: Scene) -> RenderableType:
    top = Table.grid(expand=True)
    top.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    top.add_column(justify="right", no_wrap=True)
    act = f"Act {scene.act} of {scene.acts}" if scene.act else "Curtain up"
    minutes, rest = divmod(int(scene.elapsed), 60)
    top.add_row(
        Text.assemble(
            ("Phasegate", "bold cyan"),
            ("  ·  ", "dim"),
            act,
            ("  ·  ", "dim"),
            (scene.title, "bold"),
        ),
        Text(f"{minutes}:{rest:02d}", "bold"),
    )
    caption = Text(scene.caption, "italic", no_wrap=True, overflow="ellipsis")
    return Panel(Group(top, caption), border_style="cyan", box=box.ROUNDED, padding=(0, 1))


def _ladder(scene: Scene, width: int, roomy: bool) -> RenderableType:
    steps = scene.agent.steps
    if not steps:
        return Align.center(Text("the phases come with the agent", "dim"))
    names = [step.name for step in steps]
    labels = [*(step.label for step in steps), "stable"]
    running = scene.agent.running or scene.reached
    at = names.index(running) if running in names else None
    if scene.ended and scene.failed_at is None and at is not None:
        at = len(names)
    failed = names.index(scene.failed_at) if scene.failed_at in names else None
    line, below = bars.ladder(labels, at, scene.done(), failed, width)
    return Group(*([Text()] if roomy else []), line, below)


def _split(scene: Scene, width: int) -> RenderableType:
    """Desired and measured share of each revision; the measured one is what users saw."""
    room = max(6, width - 29)
    table = Table.grid(padding=(0, 1))
    for column in range(4):
        table.add_column(no_wrap=True, justify="right" if column == 3 else "left")
    for revision, style, role in _roles(scene):
        asked = scene.agent.percent(revision)
        measured = scene.users.measured(revision)
        name = Text(scene.name(revision), f"bold {style}")
        table.add_row(name, "asked", bars.bar(asked / 100, room, style), f"{asked} %")
        got = "—" if measured is None else f"{100 * measured:.1f} %"
        shown = bars.bar(measured or 0.0, room, style)
        table.add_row(Text(role, "dim"), "got", shown, got)
    copied = [share for share in scene.agent.shares if share.mirror]
    note = Text(no_wrap=True, overflow="ellipsis")
    if copied:
        note.append(f"copies of {copied[0].mirror} % go to ", "yellow")
        note.append(scene.name(copied[0].revision), f"bold {NEWCOMER}")
        note.append(", answers dropped", "yellow")
    return _panel(Group(table, note), "traffic: asked for, and what users got")


def _roles(scene: Scene) -> Iterable[tuple[str | None, str, str]]:
    """(revision, colour, role) of the two revisions that matter: always two rows."""
    yield scene.agent.stable, STABLE, "stable"
    newcomer = scene.newcomer
    if newcomer == scene.agent.stable:
        newcomer = None
    gone = scene.agent.rollback is not None and scene.agent.rollback.revision == newcomer
    role = "" if newcomer is None else "taken back" if gone else "on trial"
    yield newcomer, "red" if gone else NEWCOMER, role


def _users(scene: Scene, width: int) -> RenderableType:
    """What users got from whom, and the last minute second by second."""
    users = scene.users
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, min_width=3)
    for _ in range(4):
        table.add_column(no_wrap=True, justify="right")
    heads = ("answers", "failed", "handed over", "p95")
    table.add_row("", *(Text(head, "dim") for head in heads))
    for revision, style, _ in _roles(scene):
        failed = users.count(revision, "error")
        p95 = users.p95_ms.get(revision or "")
        table.add_row(
            Text(scene.name(revision), f"bold {style}"),
            f"{users.count(revision):,}",
            Text(f"{failed:,}", "bold red" if failed else ""),
            f"{users.count(revision, 'escalated'):,}",
            "—" if p95 is None else f"{p95:.0f} ms",
        )
    room = max(10, width - 18)
    shares = [second.share(scene.newcomer) for second in users.history]
    failures = [float(second.failed) for second in users.history]
    rate = sum(users.history[-1].answers.values()) if users.history else 0
    strips = Table.grid(padding=(0, 1))
    strips.add_row(Text("on trial", "dim"), bars.strip(shares, room, NEWCOMER))
    strips.add_row(Text("failed /s", "dim"), bars.strip(failures, room, "red", top=12))
    lost = Text(f"{rate} requests/s, {users.lost} lost on the way", "dim")
    return _panel(Group(table, strips, lost), "users")


def _evidence(scene: Scene, width: int, roomy: bool) -> RenderableType:
    """Each check with its verdict, how far the evidence against it has come, and its sentence."""
    room = 16
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=1)
    table.add_column(no_wrap=True, width=16, overflow="ellipsis")
    table.add_column(no_wrap=True, width=room)
    table.add_column(ratio=1)
    lines = 2 if roomy else 1
    space = (width - room - 24) * lines
    for check in scene.agent.checks[:_CHECKS]:
        sign, style = _SIGNS.get(check.verdict, ("…", "yellow"))
        table.add_row(
            Text(sign, style),
            Text(check.name, "bold"),
            bars.gauge(check.suspicion(PROOF), room),
            _sentence(check, space, lines),
        )
    if not scene.agent.checks:
        table.add_row("", Text("no evidence yet", "dim"), "", "")
    said = Text(scene.told(scene.agent.message), "dim italic", no_wrap=True, overflow="ellipsis")
    return _panel(
        Group(said, table),
        f"evidence: a bar that is full is proof, {PROOF:.0f} to 1 against chance",
    )


def _sentence(check: Check, space: int, lines: int) -> Text:
    """The operator's sentence on exactly this many lines."""
    words = check.message if len(check.message) <= space - 8 else check.message[: space - 9] + "…"
    text = Text(words, "red" if check.verdict == "Fail" else "")
    if lines == 1:
        text.no_wrap, text.overflow = True, "ellipsis"
    elif len(words) < space // 2 - 4:
        text.append("\n")
    return text


def _log(scene: Scene, rows: int) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, min_width=15)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for line in list(scene.lines)[-max(1, rows) :]:
        table.add_row(*_cells(line))
    return _panel(table, "what happened")


def _cells(line: Line) -> tuple[Text, Text, Text]:
    tone = _TONES[line.tone]
    return Text(clock(line.at), "dim"), Text(line.title, tone or "cyan"), Text(line.text, tone)
