"""A backtest as a picture. Needs matplotlib: ``pip install 'phasegate[plots]'``."""

from __future__ import annotations

import importlib.util
import math
from datetime import UTC
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from phasegate.api.errors import ConfigError
from phasegate.control.backtest import Backtest, Point
from phasegate.engine.verdict import CheckVerdict, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = MappingProxyType(
    {Verdict.PASS: "#2e7d32", Verdict.FAIL: "#c62828", Verdict.INCONCLUSIVE: "#c8c8c8"}
)
_LINE: Final = "#1f4e79"


def available() -> None:
    """Raises ConfigError if pictures cannot be drawn here."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures need matplotlib: pip install 'phasegate[plots]'")


def draw(found: Backtest, path: Path) -> None:
    """The estimate of each check over time, with its limit, above the verdict of the phase.

    The file's ending (``.svg``, ``.png``) says what it becomes. Raises ConfigError if it cannot be
    written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    checks = _checks(found)
    shown = [name for name in found.points if name in checks]
    figure = Figure(figsize=(9, 1.2 + 1.8 * max(1, len(shown))), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(
        len(shown) + 1, sharex=True, squeeze=False, height_ratios=[3.0] * len(shown) + [0.6]
    )[:, 0]
    for axes, name in zip(rows, shown, strict=False):
        _estimates(axes, checks[name], found.points[name])
    _verdicts(rows[-1], found)
    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    rows[-1].xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
    rows[-1].xaxis.set_major_formatter(formatter)
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot draw {path}: {error}") from error


def _checks(found: Backtest) -> dict[str, CheckVerdict]:
    """The last verdict of each check: its name, its limit."""
    last = found.last
    return {} if last is None else {check.check: check for check in last.judgement.checks}


def _estimates(axes: Axes, check: CheckVerdict, points: list[Point]) -> None:
    """One check: estimate, interval, limit."""
    known = [
        (_time(point.at), point.estimate)
        for point in points
        if point.estimate is not None and math.isfinite(point.estimate)
    ]
    axes.plot([at for at, _ in known], [value for _, value in known], color=_LINE, linewidth=1)
    wide = [point for point in points if point.interval is not None]
    axes.fill_between(
        [_time(point.at) for point in wide],
        [point.interval[0] for point in wide if point.interval is not None],
        [point.interval[1] for point in wide if point.interval is not None],
        color=_LINE,
        alpha=0.15,
        linewidth=0,
    )
    if check.limit is not None:
        axes.axhline(check.limit, color=_COLOURS[Verdict.FAIL], linewidth=1, linestyle="--")
    axes.set_title(f"{check.check}: {check.message}", fontsize=7, loc="left", wrap=True)
    axes.tick_params(labelsize=7)


def _verdicts(axes: Axes, found: Backtest) -> None:
    """A ribbon: what the verdict was, from each change to the next."""
    ends = [turn.now for turn in found.turns[1:]] + [
        found.until if found.failed is None else found.failed.now + 1
    ]
    for turn, end in zip(found.turns, ends, strict=True):
        axes.axvspan(_time(turn.now), _time(end), color=_COLOURS[turn.judgement.verdict])
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.set_title("verdict: green Pass, red Fail, grey Inconclusive", fontsize=7, loc="left")


def _time(at: float) -> float:
    """Unix seconds as matplotlib counts time: in days since 1970."""
    return at / 86400.0
