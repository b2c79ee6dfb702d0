"""How a story ended, in words that do not depend on when: two runs of one story can be compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from phasegate.adapters.kinds import EVENT
from phasegate.control import kinds
from phasegate.control.ports import Kind

from tests.control.simulation import Simulation

_NUMBERS = re.compile(r"(?<![0-9a-f])[0-9][0-9.,:+%e-]*(?: ?(?:s|m|h))?(?![0-9a-f]{5,})")


def end_of(sim: Simulation) -> dict[str, Any]:
    """Everything that is left, without times and without numbers that hang on them."""
    return {
        "agent": _agent(sim),
        "route": repr(sim.plan and (sim.plan.slots, sim.plan.mirror, sim.plan.header)),
        "deployments": {_name(d): d["spec"]["replicas"] for d in sim.cluster.all(kinds.DEPLOYMENT)},
        "stable service": [
            s["spec"]["selector"] for s in sim.cluster.all(kinds.SERVICE) if _name(s) == "support"
        ],
        **{kind.plural: _names(sim, kind) for kind in (kinds.SERVICE, kinds.CONFIG_MAP)},
        "revisions": {_name(r): r["revision"] for r in sim.cluster.all(kinds.CONTROLLER_REVISION)},
        "records": {_name(r): _record(r) for r in sim.cluster.all(kinds.AGENT_ROLLOUT)},
        "actions": {
            _name(a): (a.get("status") or {}).get("outcome")
            for a in sim.cluster.all(kinds.ROLLOUT_ACTION)
        },
        "events": Counter((e["reason"], _words(e["note"])) for e in sim.cluster.all(EVENT)),
        "told outside": Counter(
            (note.news.reason, _words(note.news.message)) for note in sim.pager.told.values()
        ),
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What is not the same in both."""
    return [f"{key}: {_apart(one[key], other[key])}" for key in one if one[key] != other[key]]


def _apart(one: Any, other: Any) -> str:
    """What only one of them has."""
    if isinstance(one, Counter):
        return f"lost {dict(one - other)}, new {dict(other - one)}"
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other}, key=str)
        return "; ".join(
            f"{name}: {one.get(name)} is now {other.get(name)}"
            for name in names
            if one.get(name) != other.get(name)
        )
    return f"{one} is now {other}"


def _agent(sim: Simulation) -> object:
    found = sim.cluster.all(kinds.AGENT_DEPLOYMENT)
    if not found:
        return None
    status, metadata = found[0].get("status") or {}, found[0]["metadata"]
    plain = (
        *("phase", "step", "weight", "stableRevision", "stableDigest", "candidateRevision"),
        *("previousRevision", "currentRollout", "rollouts", "rejectedRevisions"),
    )
    rollback = status.get("rollback") or {}
    return {
        **{name: status.get(name) for name in plain},
        "rollback": [rollback.get(n) for n in ("revision", "to", "rollout", "phase", "trigger")],
        "safe": bool(rollback.get("safeAt")),
        "hold": ((status.get("progress") or {}).get("hold") or {}).get("by"),
        "running": (status.get("progress") or {}).get("phase"),
        "traffic": [(t["revision"], t["percent"], t["programmed"]) for t in status["traffic"]],
        "conditions": [(c["type"], c["status"], c["reason"]) for c in status["conditions"]],
        "finalizers": metadata.get("finalizers") or [],
    }


def _record(record: Mapping[str, Any]) -> object:
    status = record.get("status") or {}
    gates = [(g["decision"], g["fromPhase"], g["toPhase"]) for g in status.get("gates", ())]
    incident = (status.get("incident") or {}).get("trigger")
    acts = [(a["verb"], a["by"], a["name"]) for a in status.get("actions", ())]
    incidents = [(i["what"], i["phase"], i["trigger"]) for i in status.get("incidents", ())]
    spec = {k: v for k, v in record["spec"].items() if k != "previous"}  # its hashes hang on time
    ended = bool(status.get("endedAt"))
    return spec, status.get("phase"), gates, acts, incidents, ended, incident


def _names(sim: Simulation, kind: Kind) -> list[str]:
    return sorted(_name(item) for item in sim.cluster.all(kind))


def _name(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["name"])


def _words(note: str) -> str:
    """The sentence without what follows its numbers: how much was counted hangs on time."""
    return _NUMBERS.sub("#", note.partition(" passed: ")[0])
