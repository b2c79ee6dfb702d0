"""Whether stored records are what was written: every entry, every list, and what others say of them.

Works on objects as they are stored, not on models: a field that this version does not know counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from phasegate.rollout.chain import CHAIN, KEPT, LISTS, Origin, link, point, without_nulls
from phasegate.rollout.recording import ENDS, FOLDABLE, MOST

Json = Mapping[str, Any]
_INCIDENT_ONLY: Final = frozenset({"seq", "hash", "what", "look"})


@dataclass(slots=True)
class Report:
    """What was found about one record, or about an agent."""

    name: str
    altered: list[str] = field(default_factory=list)
    """What cannot have been written by the operator like this, a sentence each."""
    notes: list[str] = field(default_factory=list)
    """What cannot be proven, and why that need not mean anything."""
    entries: int = 0
    """Entries whose hashes were checked."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known besides a record: who else names its head, and which decisions were about it."""

    heads: Sequence[tuple[str, Json]] = ()
    """Who says it, and the head."""
    actions: Sequence[Json] = ()
    """RolloutActions of the namespace, as they are stored."""


def verify(objects: Iterable[Mapping[str, Any]]) -> Iterator[Report]:
    """Every record and every agent of `objects`, namespace by namespace."""
    found: dict[tuple[str, str], list[Json]] = {}
    for item in objects:
        where = str(_map(item.get("metadata")).get("namespace", ""))
        found.setdefault((where, str(item.get("kind"))), []).append(item)
    for namespace in sorted({where for where, _ in found}):
        agents = found.get((namespace, "AgentDeployment"), [])
        records = found.get((namespace, "AgentRollout"), [])
        actions = found.get((namespace, "RolloutAction"), [])
        for record in sorted(records, key=_order):
            name = str(_map(record.get("metadata")).get("name", ""))
            report = verify_record(record, Evidence(heads_of(name, agents, records), actions))
            yield _placed(report, namespace, "AgentRollout")
        live = {str(_map(agent.get("metadata")).get("name", "")): agent for agent in agents}
        for name in sorted({*live, *(_agent(record) for record in records)}):
            mine = [record for record in records if _agent(record) == name]
            report = verify_agent(name, live.get(name, {}), mine)
            yield _placed(report, namespace, "AgentDeployment")


def verify_record(record: Json, evidence: Evidence) -> Report:
    """One AgentRollout, as it is stored."""
    metadata = _map(record.get("metadata"))
    spec, status = _map(record.get("spec")), _map(record.get("status"))
    name = str(metadata.get("name", ""))
    report = Report(name)
    origin = Origin(str(metadata.get("namespace", "")), name, spec)
    if spec.get("chain") not in (None, CHAIN):
        report.altered.append(f"this version does not know how it is chained: {spec['chain']!r}")
        return report
    for part in LISTS:
        _verify_list(part, origin, status, report)
    _verify_view(status, report, chained="chain" in spec)
    for who, head in evidence.heads:
        _verify_head(who, head, status, report)
    _verify_actions(name, status, evidence.actions, report)
    if "chain" not in spec:
        what = "its first entries are" if report.entries else "it is"
        report.notes.append(
            f"{what} from a version that did not chain records: not proven before that"
        )
    return report


def verify_agent(name: str, agent: Json, records: Sequence[Json]) -> Report:
    """Whether the records that there must be are there; `records`: all of this agent's.

    `agent` is empty where the agent itself is not known.
    """
    status, report = _map(agent.get("status")), Report(name)
    numbers = sorted((_int(_map(r.get("spec")).get("number")), _phase(r)) for r in records)
    current = str(status.get("currentRollout") or "")
    names = {str(_map(record.get("metadata")).get("name")) for record in records}
    head = _map(status.get("record"))
    if current and current not in names and head:
        report.altered.append(f"{current}: the record of the newest attempt is not there")
    for (before, phase), (after, _) in pairwise(numbers):
        if after <= before + 1:
            continue
        gone = f"{before + 1}" if after == before + 2 else f"{before + 1} to {after - 1}"
        if phase == "Succeeded":  # retention keeps the last success beyond its age
            report.notes.append(f"no record of attempt {gone}: beyond retention, or deleted")
        else:
            report.altered.append(f"the record of attempt {gone} is missing between two others")
    return report


def heads_of(name: str, agents: Iterable[Json], records: Iterable[Json]) -> list[tuple[str, Json]]:
    """Who names the head of the record `name`, of one namespace."""
    found: list[tuple[str, Json]] = []
    for agent in agents:
        who, status = _map(agent.get("metadata")).get("name"), _map(agent.get("status"))
        for part in ("record", "recordBefore"):
            head = _map(status.get(part))
            if head.get("name") == name:
                found.append((f"the status of agent {who}", head))
    for record in records:
        head = _map(_map(record.get("spec")).get("previous"))
        if head.get("name") == name:
            found.append((f"the record {_map(record.get('metadata')).get('name')}", head))
    return found


# --- one list ------------------------------------------------------------------------------------


def _verify_list(part: Any, origin: Origin, status: Json, report: Report) -> None:
    entries = [_map(entry) for entry in _list(status.get(part))]
    fold = next((_map(f) for f in _list(status.get("folded")) if _map(f).get("list") == part), {})
    first = next((n for n, e in enumerate(entries) if "hash" in e or "seq" in e), len(entries))
    before, chained = entries[:first], entries[first:]
    if before and "chain" in origin.spec:
        report.altered.append(f"{part}: {_count(len(before))} without number and hash")
    previous, expected = origin.hash(part, before), 1
    if fold:
        previous, expected = str(fold.get("hash")), _int(fold.get("entries")) + 1
        if before or len(chained) < (KEPT if part in FOLDABLE else MOST):
            report.altered.append(f"{part}: folded, although there was no need to")
    for entry in chained:
        told = f"{part}: entry {entry.get('seq')}"
        if entry.get("seq") != expected:
            report.altered.append(f"{told} stands where entry {expected} should be")
        if link(previous, entry) != entry.get("hash"):
            report.altered.append(f"{told} does not fit its hash, or the entry before it")
        previous, expected = str(entry.get("hash")), _int(entry.get("seq")) + 1
        report.entries += 1


def _verify_head(who: str, head: Json, status: Json, report: Report) -> None:
    """The record must still say what it said when somebody took note of it."""
    for part in LISTS:
        known = point(head.get(part))
        if known is None:
            continue
        seq, digest = known
        entries = [_map(e) for e in _list(status.get(part))]
        at = {_int(entry.get("seq")): entry.get("hash") for entry in entries if "seq" in entry}
        fold = next(
            (_map(f) for f in _list(status.get("folded")) if _map(f).get("list") == part), {}
        )
        folded = _int(fold.get("entries")) if fold else 0
        if seq < folded:
            continue
        if seq == folded:
            at[seq] = fold.get("hash")
        if seq not in at:
            report.altered.append(f"{part}: entry {seq} is missing, which {who} knows of")
        elif at[seq] != digest:
            report.altered.append(f"{part}: entry {seq} is not the one that {who} knows of")


# --- what follows from the entries ----------------------------------------------------------------


def _verify_view(status: Json, report: Report, *, chained: bool) -> None:
    """Phase, message, times and incident follow from gates and incidents."""
    gates = [_map(gate) for gate in _list(status.get("gates"))]
    if gates and (chained or "hash" in gates[-1]):
        last, phase = gates[-1], ENDS.get(str(gates[-1].get("decision")))
        expected = {
            "phase": phase or "Progressing",
            "message": last.get("message") or None,
            "endedAt": last.get("at") if phase else None,
        }
        if gates[0].get("seq") == 1:
            expected["startedAt"] = gates[0].get("at")
        for name, value in expected.items():
            if (status.get(name) or None) != value:
                report.altered.append(f"{name} is not what the gates say")
    elif chained and not gates and status:
        report.altered.append("gates: there is none, and every attempt begins with one")
    incidents = [_map(entry) for entry in _list(status.get("incidents"))]
    taken = next((e for e in reversed(incidents) if e.get("what") == "TakenBack"), None)
    if taken is None:
        if chained and "incident" in status:
            report.altered.append("incident is not what the incidents say")
        return
    both = [e for e in incidents if e.get("decidedAt") == taken.get("decidedAt")]
    whole = {k: v for e in both for k, v in e.items() if k not in _INCIDENT_ONLY}
    if without_nulls(_map(status.get("incident"))) != whole:
        report.altered.append("incident is not what the incidents say")


def _verify_actions(name: str, status: Json, actions: Iterable[Json], report: Report) -> None:
    """What people decided about the attempt is in its record, as they said it."""
    entries = {str(_map(e).get("uid")): _map(e) for e in _list(status.get("actions"))}
    folded = any(_map(f).get("list") == "actions" for f in _list(status.get("folded")))
    chained = any("hash" in _map(gate) for gate in _list(status.get("gates"))[:1])
    for action in actions:
        outcome, metadata = _map(action.get("status")), _map(action.get("metadata"))
        if outcome.get("rollout") != name or outcome.get("outcome") != "Accepted":
            continue
        entry, told = entries.get(str(metadata.get("uid"))), f"RolloutAction {metadata.get('name')}"
        if entry is None:
            if chained and not folded:
                report.altered.append(f"actions: {told} was accepted and is not recorded")
        elif not _same(entry, _map(action.get("spec"))):
            report.altered.append(f"actions: entry {entry.get('seq')} is not what {told} says")


def _same(entry: Json, spec: Json) -> bool:
    groups = tuple(entry.get("groups") or ()) == tuple(spec.get("actorGroups") or ())
    return groups and (entry.get("by"), entry.get("verb")) == (spec.get("actor"), spec.get("verb"))


# --- stored JSON ---------------------------------------------------------------------------------


def _agent(record: Json) -> str:
    return str(_map(record.get("spec")).get("agent", ""))


def _phase(record: Json) -> str:
    return str(_map(record.get("status")).get("phase", ""))


def _map(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _count(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _placed(report: Report, namespace: str, kind: str) -> Report:
    report.name = f"{kind} {namespace}/{report.name}"
    return report


def _order(record: Json) -> tuple[str, int]:
    return _agent(record), _int(_map(record.get("spec")).get("number"))
