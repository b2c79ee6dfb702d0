"""Pieces of CEL that several models' rules share.

A rule must not fail on a value that another rule refuses: the user would read two messages, one of
them about CEL. So whatever reads a duration or a percentage looks first whether it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from phasegate.api.base import DURATION, LIMIT, Cel


def immutable(what: str) -> Cel:
    """A spec that never changes; ``what`` says what to do instead."""
    return Cel("self == oldSelf", f"cannot be changed: {what}")


def one_of(values: Iterable[str]) -> str:
    """The values as a CEL list of strings."""
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def number(path: str) -> str:
    """The number in a limit, without its percent sign."""
    return f"double({path}.replace('%', ''))"


def ordered_durations(low: str, high: str) -> str:
    """Low <= high, as far as both are given and are durations."""
    guard = _given((low, high), DURATION.matches)
    return f"{guard} ? duration({low}) <= duration({high}) : true"


def ordered_limits(low: str, high: str) -> str:
    """Low <= high, as far as both are given and are limits in the same notation."""
    guard = _given((low, high), LIMIT.matches)
    counts = f"{low}.endsWith('%') == {high}.endsWith('%') && !{low}.matches('[ms]$')"
    durations = f"{low}.matches('[ms]$') && {high}.matches('[ms]$')"
    return (
        f"{guard} ? ({durations} ? duration({low}) <= duration({high})"
        f" : {counts} && !{high}.matches('[ms]$') ? {number(low)} <= {number(high)} : true) : true"
    )


def _given(paths: Iterable[str], matches: Callable[[str], str]) -> str:
    return " && ".join(f"{_has(path)} && {matches(path)}" for path in paths)


def _has(path: str) -> str:
    """Every step of ``self.a.b`` is there."""
    steps = path.split(".")
    return " && ".join(f"has({'.'.join(steps[:end])})" for end in range(2, len(steps) + 1))
