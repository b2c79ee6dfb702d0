"""What the view shows: immutable values, read from the API server's objects and the users' counts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Json = Mapping[str, Any]
Tone = Literal["story", "event", "warning", "command"]

_PART = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str) -> float:
    """The length of an API duration such as `90s` or `1h30m`, in seconds."""
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(duration))


def moment(text: str | None) -> datetime | None:
    """A time of the API server's; None of none."""
    return None if text is None else datetime.fromisoformat(text)


@dataclass(frozen=True)
class Step:
    """One phase of the strategy. `least` in seconds; `weight` in percent of the users."""

    name: str
    type: str
    weight: int
    least: float

    @property
    def label(self) -> str:
        """As it stands on the ladder."""
        return f"{self.weight} %" if self.type == "Canary" else self.type.lower()


@dataclass(frozen=True)
class Share:
    """What one revision is meant to get: percent of the users, percent of them copied to it."""

    revision: str
    percent: int
    mirror: int


@dataclass(frozen=True)
class Check:
    """One check of the policy. `odds`: evidence against chance, to one; None where it has none."""

    name: str
    verdict: str
    reason: str
    message: str
    odds: float | None

    def suspicion(self, proof: float) -> float:
        """How far the evidence against the revision has come on the way to `proof` (odds), 0 to 1."""
        if self.verdict == "Fail":
            return 1.0
        return min(0.99, math.log(max(1.0, self.odds or 0.0)) / math.log(proof))


@dataclass(frozen=True)
class Rollback:
    """What the operator says about a rollback."""

    revision: str
    phase: str
    trigger: str
    message: str
    decided: datetime
    seconds_to_safe: str | None


@dataclass(frozen=True)
class Agent:
    """An AgentDeployment as the API server has it."""

    generation: int = 0
    observed: int = 0
    phase: str = ""
    message: str = ""
    stable: str | None = None
    candidate: str | None = None
    rollout: str | None = None
    running: str | None = None
    """Name of the running phase; None when no attempt runs."""
    running_since: datetime | None = None
    """When its traffic was in place."""
    shares: tuple[Share, ...] = ()
    checks: tuple[Check, ...] = ()
    rollback: Rollback | None = None
    ready: bool = False
    steps: tuple[Step, ...] = ()

    def percent(self, revision: str | None) -> int:
        """The share of the users that a revision is meant to get; 0 if it is not in the split."""
        return sum(share.percent for share in self.shares if share.revision == revision)


def read_agent(item: Json) -> Agent:
    """Read an AgentDeployment as the API server sends it."""
    spec, status = item.get("spec", {}), item.get("status", {})
    progress = status.get("progress") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    return Agent(
        generation=item.get("metadata", {}).get("generation", 0),
        observed=status.get("observedGeneration", 0),
        phase=status.get("phase", ""),
        message=status.get("message", ""),
        stable=status.get("stableRevision"),
        candidate=status.get("candidateRevision"),
        rollout=status.get("currentRollout"),
        running=progress["phase"]["name"] if progress else None,
        running_since=moment(progress.get("startedAt")),
        shares=tuple(
            Share(share["revision"], share["percent"], share.get("mirrorPercent", 0))
            for share in status.get("traffic", ())
        ),
        checks=tuple(_check(check) for check in status.get("checks", ())),
        rollback=_rollback(status.get("rollback")),
        ready=conditions.get("Ready") == "True",
        steps=tuple(_step(phase) for phase in spec.get("strategy", {}).get("phases", ())),
    )


def _step(phase: Json) -> Step:
    least = seconds(phase.get("minDuration", "0s"))
    return Step(phase["name"], phase["type"], phase.get("weight", 0), least)


def _check(check: Json) -> Check:
    odds = None if check.get("odds") is None else float(check["odds"])
    return Check(check["name"], check["verdict"], check["reason"], check["message"], odds)


def _rollback(record: Json | None) -> Rollback | None:
    if record is None:
        return None
    return Rollback(
        record["revision"],
        record["phase"],
        record["trigger"],
        record["message"],
        datetime.fromisoformat(record["decidedAt"]),
        record.get("secondsToSafe"),
    )


@dataclass(frozen=True)
class Second:
    """One second of the users' lives: answers by revision, and how many of all failed."""

    answers: Mapping[str, int]
    failed: int

    def share(self, revision: str | None) -> float:
        """The revision's share of the answers, 0 to 1."""
        total = sum(self.answers.values())
        return self.answers.get(revision or "", 0) / total if total else 0.0


@dataclass(frozen=True)
class Users:
    """What users got, from the traffic generator: outcomes by revision, and the last seconds."""

    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    p95_ms: Mapping[str, float | None] = field(default_factory=dict)
    last_done: Mapping[str, float] = field(default_factory=dict)
    """When users got the last answer of a revision, in seconds since the epoch."""
    history: tuple[Second, ...] = ()
    """Oldest first."""

    def count(self, revision: str | None, *outcomes: str) -> int:
        """Answers of a revision, of all outcomes or of those given."""
        known = self.outcomes.get(revision or "", {})
        return sum(n for name, n in known.items() if not outcomes or name in outcomes)

    @property
    def lost(self) -> int:
        """Requests that no agent answered: refused by the gateway, timed out, unreachable."""
        return self.count(NO_REVISION)

    def measured(self, revision: str | None, window: int = 4) -> float | None:
        """The revision's share of the answers of the last seconds, 0 to 1; None of no answers."""
        recent = self.history[-window:]
        total = sum(sum(second.answers.values()) for second in recent)
        if not total:
            return None
        return sum(second.answers.get(revision or "", 0) for second in recent) / total


NO_REVISION = "-"
"""Stands for answers that are not an agent's (see lab.traffic.tally)."""


@dataclass(frozen=True)
class Line:
    """One line of the log at the bottom."""

    at: datetime
    tone: Tone
    title: str
    text: str


@dataclass(frozen=True)
class Scene:
    """One picture."""

    act: int
    acts: int
    title: str
    caption: str
    elapsed: float
    now: datetime
    agent: Agent = field(default_factory=Agent)
    users: Users = field(default_factory=Users)
    names: Mapping[str, str] = field(default_factory=dict)
    """What the play calls a revision: `v1`, `v2`, …"""
    lines: Sequence[Line] = ()
    failed_at: str | None = None
    """The phase in which this act's revision was taken back."""
    reached: str | None = None
    """The last phase that this act's revision was in."""
    ended: bool = False

    def name(self, revision: str | None) -> str:
        """The revision's name in the play, or its hash."""
        return self.names.get(revision or "", revision or "—")

    def told(self, text: str) -> str:
        """A text with the play's names for revisions."""
        for revision, name in self.names.items():
            text = text.replace(revision, name)
        return text

    @property
    def newcomer(self) -> str | None:
        """The revision this act is about: on trial, or just decided on."""
        if self.agent.candidate is not None and self.agent.candidate != self.agent.stable:
            return self.agent.candidate
        return self.agent.rollback.revision if self.agent.rollback is not None else None

    def done(self) -> float:
        """How much of the running phase's time is over, 0 to 1."""
        since = self.agent.running_since
        step = next((s for s in self.agent.steps if s.name == self.agent.running), None)
        if since is None or step is None or not step.least:
            return 0.0
        return min(1.0, max(0.0, (self.now - since).total_seconds() / step.least))


def clock(at: datetime) -> str:
    """The time of day here."""
    return at.astimezone().strftime("%H:%M:%S")


def epoch(now: float) -> datetime:
    """Seconds since the epoch as a time."""
    return datetime.fromtimestamp(now, tz=UTC)
