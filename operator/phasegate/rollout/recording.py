"""An attempt's record: what it says is never unsaid, and it stays small enough to be stored."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from phasegate.api.agentrollout import AgentRolloutStatus, RolloutPhase
from phasegate.api.records import (
    ActionRecord,
    Entry,
    Fold,
    GateRecord,
    IncidentRecord,
    Notice,
    RecordList,
    RollbackRecord,
)
from phasegate.rollout.chain import KEPT, LISTS, Origin, entries_of, fold_of, folded, sealed

MOST: Final = 64
"""Chained entries of a list."""
ROOM: Final = 262_144
"""Bytes of a record as JSON, without what only spares a restart something. Above it the oldest
notices and actions are folded, and new entries say less."""
BRIEF: Final = 512
"""Characters of a message where there is no room for more."""
MAX_BYTES: Final = 900_000
"""Of a record's status as JSON. The API server refuses objects of more than 1.5 MiB."""
ENDS: Final[Mapping[str, RolloutPhase]] = MappingProxyType(
    {
        "RolledBack": "RolledBack",
        "Superseded": "Superseded",
        "Cancelled": "Cancelled",
        "Stable": "Succeeded",
    }
)
"""What became of an attempt, by the decision of its last gate."""
FOLDABLE: Final[tuple[RecordList, ...]] = ("notices", "actions")
"""Lists that are folded for want of room; the others are when they have MOST entries."""


def key_of(entry: Entry) -> Hashable:
    """What tells an entry from the others of its list: the same thing is recorded once."""
    match entry:
        case GateRecord():
            return entry.at, entry.decision, entry.from_phase, entry.to_phase
        case ActionRecord():
            return entry.uid
        case IncidentRecord():
            return entry.what, entry.decided_at
        case Notice():
            return entry.kind, entry.check, entry.since, entry.until is not None
    raise AssertionError(f"no entry of a record: {entry!r}")


def holds(record: AgentRolloutStatus, entry: GateRecord | ActionRecord | None) -> bool:
    """Whether it is recorded already."""
    if entry is None:
        return True
    known = record.gates if isinstance(entry, GateRecord) else record.actions
    return any(key_of(entry) == key_of(one) for one in known)


def added(
    known: AgentRolloutStatus, news: Mapping[RecordList, Iterable[Entry]]
) -> AgentRolloutStatus:
    """`known`, and what it does not say yet; that is neither numbered nor hashed before it is written."""
    update: dict[str, Any] = {}
    for name, entries in news.items():
        before = entries_of(known, name)
        fresh = _unknown(before, fold_of(known, name), entries)
        if fresh:
            update[name] = (*before, *fresh)
    return _standing(known.model_copy(update=update))


def merged(
    known: AgentRolloutStatus, wanted: AgentRolloutStatus, origin: Origin
) -> AgentRolloutStatus:
    """What the record says, and what `wanted` adds to it: it may rest on an older look at it.

    What is new is the next of its list's chain.
    """
    status = wanted.model_copy(
        update={
            **{name: entries_of(known, name) for name in LISTS},
            "folded": known.folded,
            "incident": known.incident,
            "started_at": known.started_at or wanted.started_at,
        }
    )
    for name in LISTS:
        fold = fold_of(known, name)
        for entry in _unknown(entries_of(known, name), fold, entries_of(wanted, name)):
            status = _appended(status, name, entry, origin)
    incident = wanted.incident if not status.incidents else None
    return _standing(status.model_copy(update={"incident": status.incident or incident}))


def bounded(status: AgentRolloutStatus) -> AgentRolloutStatus:
    """`status` within MAX_BYTES: what only spares a restart something goes, as nothing else may."""
    kept = status.judged_by
    if kept is not None and _size(status) > MAX_BYTES:
        policy_only = kept.model_copy(update={"prices": None})
        status = status.model_copy(update={"judged_by": policy_only})
    for part in ("judged_by", "evidence"):
        if _size(status) > MAX_BYTES:
            status = status.model_copy(update={part: None})
    return status


def incident_of(entries: Sequence[IncidentRecord]) -> RollbackRecord | None:
    """The newest incident in one piece."""
    taken = next((e for e in reversed(entries) if e.what == "TakenBack"), None)
    if taken is None:
        return None
    both = [e for e in entries if e.decided_at == taken.decided_at]
    told = {k: v for e in both for k, v in e.model_dump(exclude_none=True).items()}
    return RollbackRecord.model_validate(
        {k: v for k, v in told.items() if k in RollbackRecord.model_fields}
    )


def _unknown(
    known: Sequence[Entry], fold: Fold | None, wanted: Iterable[Entry]
) -> tuple[Entry, ...]:
    """Those of `wanted` that are news; what was folded does not come back."""
    keys = {key_of(entry) for entry in known}
    since = _at(known[0]) if known and fold is not None else None
    found: dict[Hashable, Entry] = {}
    for entry in wanted:
        if key_of(entry) not in keys and (since is None or _at(entry) > since):
            found.setdefault(key_of(entry), entry)
    return tuple(found.values())


def _at(entry: Entry) -> datetime:
    """When it was said."""
    match entry:
        case GateRecord() | ActionRecord():
            return entry.at
        case IncidentRecord():
            return entry.safe_at or entry.decided_at
        case Notice():
            return entry.until or entry.since
    raise AssertionError(f"no entry of a record: {entry!r}")


def _appended(
    status: AgentRolloutStatus, name: RecordList, entry: Entry, origin: Origin
) -> AgentRolloutStatus:
    """The record with one more entry, which has to find its room."""
    if _durable(status) + len(entry.model_dump_json()) > ROOM:
        status = _with_room(status, len(entry.model_dump_json()))
        if _durable(status) + len(entry.model_dump_json()) > ROOM:
            entry = _brief(entry)
    if _chained(entries_of(status, name)) >= MOST:
        status = _folded(status, name, _chained(entries_of(status, name)) - MOST + 1)
    chain = entries_of(status, name)
    new = sealed(entry, chain, fold_of(status, name), name, origin)
    return status.model_copy(update={name: (*chain, new)})


def _with_room(status: AgentRolloutStatus, needed: int) -> AgentRolloutStatus:
    """Without the oldest of what may be folded, until `needed` bytes are free."""
    for name in FOLDABLE:
        while _durable(status) + needed > ROOM and _chained(entries_of(status, name)) > KEPT:
            status = _folded(status, name, 1)
    return status


def _folded(status: AgentRolloutStatus, name: RecordList, entries: int) -> AgentRolloutStatus:
    rest, fold = folded(entries_of(status, name), name, entries)
    others = tuple(f for f in status.folded if f.list != name)
    return status.model_copy(update={name: rest, "folded": (*others, fold) if fold else others})


def _brief(entry: Entry) -> Entry:
    """An entry that says less: the sentence, no numbers of each check, no links."""
    update: dict[str, Any] = {
        name: text[:BRIEF]
        for name in ("message", "reason")
        if isinstance(text := getattr(entry, name, None), str)
    }
    if isinstance(entry, GateRecord):
        update["checks"] = ()
    elif isinstance(entry, ActionRecord):
        update["evidence"] = ()
    return entry.model_copy(update=update)


def _standing(status: AgentRolloutStatus) -> AgentRolloutStatus:
    """How it stands, which follows from its entries."""
    if not status.gates:
        return status
    last = status.gates[-1]
    phase = ENDS.get(last.decision)
    update: dict[str, Any] = {
        "phase": phase or "Progressing",
        "message": last.message,
        "ended_at": last.at if phase is not None else None,
        "started_at": status.started_at or status.gates[0].at,
    }
    if (incident := incident_of(status.incidents)) is not None:
        update["incident"] = incident
    return status.model_copy(update=update)


def _chained(entries: Sequence[Entry]) -> int:
    return sum(entry.hash is not None for entry in entries)


def _durable(status: AgentRolloutStatus) -> int:
    """Bytes of what stays when the attempt is over."""
    return _size(status.model_copy(update={"judged_by": None, "evidence": None}))


def _size(status: AgentRolloutStatus) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())
