"""Small pictures made of text: bars, a strip over time, the ladder of phases."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

_LEVELS = " ▁▂▃▄▅▆▇█"
_TRACK = "grey23"


def bar(share: float, width: int, style: str) -> Text:
    """A bar over `share` (0 to 1) of the width, to half a character, on a dim track."""
    halves = round(min(1.0, max(0.0, share)) * width * 2)
    if share > 0:
        halves = max(1, halves)  # something is never shown as nothing
    whole, half = divmod(halves, 2)
    drawn = "━" * whole + "╸" * half
    return Text.assemble((drawn, style), ("━" * (width - len(drawn)), _TRACK))


def gauge(share: float, width: int) -> Text:
    """How near something bad is to certain (0 to 1): green, yellow from half way on, red at the end."""
    style = "green" if share < 0.5 else "yellow" if share < 1 else "bold red"
    return bar(share, width - 1, style).append("┃", "bold red" if share >= 1 else "grey62")


def strip(values: Sequence[float], width: int, style: str, top: float = 1.0) -> Text:
    """The latest `width` values as a row of little columns, the newest at the right."""
    recent = list(values[-width:])
    steps = len(_LEVELS) - 1
    marks = [
        _LEVELS[0 if value <= 0 else max(1, min(steps, round(value / top * steps)))]
        for value in recent
    ]
    return Text(" " * (width - len(marks))).append("".join(marks), style)


def ladder(
    labels: Sequence[str], at: int | None, done: float, failed: int | None, width: int
) -> tuple[Text, Text]:
    """The ladder of phases and the labels below it.

    Args:
        labels: what stands below the rungs.
        at: index of the running phase, `len(labels) - 1` at the end; None before the first.
        done: how much of it is over, 0 to 1: so far the line to the next rung is drawn.
        failed: index of the phase in which it was taken back.
        width: in characters.
    """
    margin = max(len(labels[0]), len(labels[-1])) // 2 + 1
    inner = width - 2 * margin - 1
    places = [margin + round(i * inner / (len(labels) - 1)) for i in range(len(labels))]
    reach = _reach(places, at, done) if failed is None else places[failed]
    rail, names = Text(" " * width), Text(" " * width)
    _put(rail, places[0], "╌" * (places[-1] - places[0]), _TRACK)
    _put(rail, places[0], "━" * (reach - places[0]), "green" if failed is None else "red")
    for index, (place, label) in enumerate(zip(places, labels, strict=True)):
        sign, style = _rung(index, at, failed, len(labels))
        _put(rail, place, sign, style)
        _put(names, place - len(label) // 2, label, style)
    return rail, names


def _put(line: Text, start: int, words: str, style: str) -> None:
    """Write over a part of the line."""
    end = start + len(words)
    line.plain = line.plain[:start] + words + line.plain[end:]
    line.stylize(style, start, end)


def _reach(places: Sequence[int], at: int | None, done: float) -> int:
    if at is None:
        return places[0]
    if at + 1 >= len(places):
        return places[-1]
    return places[at] + round(done * (places[at + 1] - places[at]))


def _rung(index: int, at: int | None, failed: int | None, count: int) -> tuple[str, str]:
    """The sign and style of one rung."""
    if index == failed:
        return "✗", "bold red"
    here = at if failed is None else failed
    if here is None or index > here:
        return "○", "grey50"
    return ("●", "green") if index < here or index == count - 1 else ("◉", "bold bright_white")
