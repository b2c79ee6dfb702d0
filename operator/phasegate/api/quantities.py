"""Parsing of the strings the API uses for numbers: durations, percentages, factors."""

from __future__ import annotations

import re
from datetime import timedelta

from phasegate.api.errors import InvalidSpec

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_SECONDS = re.compile(r"([0-9]+)ms|(?:([0-9]+)m)?(?:([0-9]+(?:\.[0-9]+)?)s)?")


def parse_duration(text: str) -> timedelta:
    """``1h30m`` → timedelta. Units d, h, m, s in that order; raises InvalidSpec otherwise."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise InvalidSpec(f"{text!r} is not a duration; write for example 30s, 10m, 1h30m or 2d")
    seconds = sum(
        float(count) * _UNITS[unit]
        for count, unit in zip(match.groups(), "dhms", strict=True)
        if count
    )
    return timedelta(seconds=seconds)


def format_duration(delta: timedelta) -> str:
    """Timedelta → the same notation, whole seconds: ``1h30m``; ``0s`` for nothing."""
    rest = int(delta.total_seconds())
    parts = []
    for unit in "dhms":
        count, rest = divmod(rest, int(_UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_seconds(text: str) -> float:
    """The time an answer takes: ``800ms`` → 0.8, ``2.5s``, ``1m30s`` → 90.0; raises InvalidSpec."""
    match = _SECONDS.fullmatch(text)
    if match is None or not any(match.groups()):
        raise InvalidSpec(f"{text!r} is not a duration; write for example 800ms, 3s or 1m30s")
    milliseconds, minutes, seconds = (float(group or 0) for group in match.groups())
    return milliseconds / 1000 + minutes * 60 + seconds


def parse_percent(text: str) -> float:
    """``5%`` → 0.05; raises InvalidSpec."""
    if not text.endswith("%"):
        raise InvalidSpec(f"{text!r} is not a percentage; write for example 5% or 0.5%")
    try:
        value = float(text[:-1]) / 100
    except ValueError:
        raise InvalidSpec(f"{text!r} is not a percentage; write for example 5% or 0.5%") from None
    if not 0 <= value <= 1:
        raise InvalidSpec(f"{text!r} is not between 0% and 100%")
    return value
