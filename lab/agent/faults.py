"""Fault knobs: from environment variables, and from `degrade: NAME=VALUE` in the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lab.errors import LabError

_DEGRADE = re.compile(r"degrade:\s*([A-Za-z_]+)\s*=\s*([^\s,;]+)", re.IGNORECASE)
PREFIX = "FAULT_"
TOP_SCORE = 5.0
"""Reviewers and users give 0 to 5."""


class FaultError(LabError):
    """A fault knob that does not exist, or a value that it cannot have."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with a revision. None: as its model is, no worse.

    Rates are shares of requests between 0 and 1 (of tool calls for `tool_error_rate`, of answers
    for `wrong_rate`, of reviewed answers for `hallucination_rate`; `retrieval_rate`: of retrievals,
    those that bring nothing relevant) and replace the model's own. `latency_ms`, `cost_usd` and
    `tokens` (output) are added to every request; with `latency_tail`, `latency_ms` to this share of
    them only. `score` and `satisfaction` are the means (0…5) of what reviewers and users give.
    `live_only`: healthy in rehearsal (`AGENT_MODE=dark|shadow`).
    """

    error_rate: float | None = None
    escalation_rate: float | None = None
    safety_rate: float | None = None
    tool_error_rate: float | None = None
    wrong_rate: float | None = None
    hang_rate: float | None = None
    hallucination_rate: float | None = None
    retrieval_rate: float | None = None
    latency_ms: float = 0.0
    latency_tail: float = 1.0
    score: float | None = None
    satisfaction: float | None = None
    cost_usd: float = 0.0
    tokens: int = 0
    model: str = ""
    after_s: float = 0.0
    live_only: bool = False
    not_ready: bool = False
    crash_after_s: float | None = None


def parse(environ: Mapping[str, str], prompt: str) -> Faults:
    """Read all knobs; the prompt's words win. Raises FaultError that names the knob."""
    faults = Faults()
    for name, value in _settings(environ, prompt):
        field = name.upper().removeprefix(PREFIX).lower()
        if field not in {known.name for known in fields(Faults)}:
            known = ", ".join(PREFIX + f.name.upper() for f in fields(Faults))
            raise FaultError(f"{name}: there is no such fault; there are {known}")
        faults = replace(faults, **{field: _value(name, field, value)})
    return faults


def _settings(environ: Mapping[str, str], prompt: str) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith(PREFIX) and value != "":
            yield name, value
    for match in _DEGRADE.finditer(prompt):
        # A sentence's full stop is not part of the number.
        yield match[1], match[2].rstrip(".")


def _value(name: str, field: str, text: str) -> Any:
    if field == "model":
        return text
    if field in ("live_only", "not_ready"):
        return text.lower() in ("1", "true", "yes", "on")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (0 <= number < float("inf")):
        raise FaultError(f"{name}={text}: must be a number, 0 or more")
    if (field.endswith("_rate") or field == "latency_tail") and number > 1:
        raise FaultError(f"{name}={text}: is a share of requests, between 0 and 1")
    if field in ("score", "satisfaction") and number > TOP_SCORE:
        raise FaultError(f"{name}={text}: is a mean of scores, between 0 and {TOP_SCORE:g}")
    return int(number) if field == "tokens" else number
