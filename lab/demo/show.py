"""Where the play is seen: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live

from lab.demo.scene import Line, Scene, clock
from lab.demo.view import SMALLEST, draw

FRAMES_PER_S = 8


class Show(Protocol):
    """Shows scenes."""

    def update(self, scene: Scene) -> None:
        """Show this scene now."""


class Picture:
    """The whole terminal; drawn over in place, in one write per frame, so it does not flicker."""

    def __init__(self, live: Live, console: Console) -> None:
        self._live, self._console = live, console

    def update(self, scene: Scene) -> None:
        """Draw the scene."""
        width, height = self._console.size
        self._live.update(draw(scene, width, height), refresh=True)


class Lines:
    """One line per transition, with the time of day and what the caption says."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._caption = ""

    def update(self, scene: Scene) -> None:
        """Print what is new."""
        for line in scene.lines[self._told :]:
            self._print(line, scene)
        self._told = len(scene.lines)
        if scene.caption != self._caption:
            self._caption = scene.caption
            self._print(Line(scene.now, "story", scene.title, scene.caption), scene)

    def _print(self, line: Line, scene: Scene) -> None:
        self._console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


def plain(line: Line) -> str:
    """A line of the log as text."""
    return f"{clock(line.at)}  {line.title:<16}  {line.text}"


@contextmanager
def show(console: Console, plain: bool) -> Iterator[Show]:
    """The best way to show the play on this console; `plain` asks for lines."""
    small = console.width < SMALLEST[0] or console.height < SMALLEST[1]
    if plain or small or not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console)
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield Picture(live, console)
