"""Where a story has led, and what must have been true on the way there."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tests.lab.history import History, Json
from tests.lab.story import NAME, STEPS, Story

KINDS = "agentdep,agr,deploy,svc,controllerrevision,httproute"
_IDLE = 1e-5
"""An idle backend has one request in a million."""


def outcome(story: Story) -> Json:
    """Everything that is there, without times, names of evidence and sentences."""
    found: dict[str, dict[str, Json]] = {}
    for item in story.objects(KINDS):
        found.setdefault(item["kind"], {})[item["metadata"]["name"]] = item
    agent, status = found["AgentDeployment"][NAME], found["AgentDeployment"][NAME]["status"]
    rollback = status.get("rollback")
    return {
        "phase": status["phase"],
        "stable": status["stableRevision"],
        "candidate": status.get("candidateRevision"),
        "running": status.get("progress"),
        "rollback": rollback and {k: rollback[k] for k in ("revision", "to", "phase", "trigger")},
        "rejected": status.get("rejectedRevisions", []),
        "conditions": {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]},
        "finalizers": agent["metadata"].get("finalizers", []),
        "shares": shares(found["HTTPRoute"][NAME]),
        "mirrors": [f for rule in found["HTTPRoute"][NAME]["spec"]["rules"] for f in rule.get("filters", ())],
        "serves": found["Service"][NAME]["spec"]["selector"]["phasegate.dev/revision"],
        "attempts": {
            name: (item["status"]["phase"], gates(item))
            for name, item in found["AgentRollout"].items()
        },
        "deployments": {n: d["spec"]["replicas"] for n, d in found["Deployment"].items()},
        "services": sorted(found["Service"]),
        "revisions": sorted(found["ControllerRevision"]),
    }  # fmt: skip


def shares(route: Json) -> dict[str, float]:
    """The share of the users' requests that each revision in the route gets, 0…1."""
    backends = next(rule for rule in route["spec"]["rules"] if rule["name"] == "main")[
        "backendRefs"
    ]
    total = sum(backend["weight"] for backend in backends)
    result: dict[str, float] = {}
    for backend in backends:
        revision = backend["name"].removeprefix(f"{NAME}-")
        result[revision] = result.get(revision, 0.0) + backend["weight"] / total
    return {revision: round(share, 4) for revision, share in result.items()}


def gates(attempt: Json) -> list[tuple[str, str, str]]:
    """The transitions that an AgentRollout records."""
    records = attempt.get("status", {}).get("gates", ())
    return [(gate["decision"], gate["fromPhase"], gate["toPhase"]) for gate in records]


def advanced(steps: int) -> list[tuple[str, str, str]]:
    """The records of an attempt that has entered so many phases."""
    entered = [("Started", "stable", STEPS[0])]
    return entered + [("Advanced", a, b) for a, b in pairwise(STEPS[:steps])]


def assert_never_above_its_step(history: History) -> None:
    """No version of the route gave a revision more than the status, as it then was, allowed.

    Versions have one order: a route that ran ahead of its status would be seen.
    """
    status: Mapping[str, Any] = {}
    highest = 0.0
    for version in history.all():
        if version["kind"] == "AgentDeployment":
            status = version.get("status", {})
        if version["kind"] != "HTTPRoute" or "stableRevision" not in status:
            continue
        for revision, share in shares(version).items():
            if revision != status["stableRevision"]:
                assert share <= _allowed(status, revision) + _IDLE, (status, version["spec"])
                highest = max(highest, share)
    assert highest >= 0.2, "no candidate was ever given users: nothing was tested"


def _allowed(status: Mapping[str, Any], revision: str) -> float:
    progress = status.get("progress")
    if progress is None or revision != status.get("candidateRevision"):
        return 0.0
    phase = progress["phase"]
    if phase["type"] == "Canary":
        return float(phase["weight"]) / 100
    return 1.0 if phase["type"] == "Full" else 0.0


def assert_records_only_grow(history: History) -> None:
    """A record of a transition is written once and stays as it is."""
    seen: dict[str, list[Json]] = {}
    for version in history.of_kind("AgentRollout"):
        name = version["metadata"]["name"]
        before, now = seen.get(name, []), version.get("status", {}).get("gates", [])
        assert now[: len(before)] == before, (before, now)
        seen[name] = now
    assert seen
    for records in seen.values():
        assert len({(g["decision"], g["fromPhase"], g["toPhase"]) for g in records}) == len(records)
