"""An attempt's record: what it says is never unsaid, and it stays small enough to be stored."""

from __future__ import annotations

from typing import Final

from phasegate.api.agentrollout import AgentRolloutStatus
from phasegate.api.records import GateRecord, Notice

MOST: Final = 64
"""Gates, and notices, of a record."""
MAX_BYTES: Final = 900_000
"""Of a record's status as JSON. The API server refuses objects of more than 1.5 MiB."""


def merged(known: AgentRolloutStatus, wanted: AgentRolloutStatus) -> AgentRolloutStatus:
    """`wanted` with all that the record says already: it may rest on an older look at it."""
    gates = _gates(known.gates, wanted.gates)
    told = wanted
    if known.gates and gates[-1] == known.gates[-1] and known.gates[-1] not in wanted.gates:
        told = known  # it knows of a transition that `wanted` does not: how it stands is its word
    return wanted.model_copy(
        update={
            "phase": told.phase,
            "message": told.message,
            "started_at": known.started_at or wanted.started_at,
            "ended_at": told.ended_at,
            "incident": wanted.incident or known.incident,
            "gates": gates,
            "notices": _notices(known.notices, wanted.notices),
        }
    )


def bounded(status: AgentRolloutStatus) -> AgentRolloutStatus:
    """`status` within MAX_BYTES.

    What only spares a restart something goes first: prices, policy, evidence. Then the numbers of
    the newest gates, as older ones have room already, then the oldest notices. What is left is at
    most 64 gates with a message of 2048 characters, less than 0.8 MB in any script.
    """
    kept = status.judged_by
    if kept is not None and _size(status) > MAX_BYTES:
        policy_only = kept.model_copy(update={"prices": None})
        status = status.model_copy(update={"judged_by": policy_only})
    for part in ("judged_by", "evidence"):
        if _size(status) > MAX_BYTES:
            status = status.model_copy(update={part: None})
    gates = list(status.gates)
    for at in reversed(range(len(gates))):
        if _size(status) <= MAX_BYTES:
            break
        gates[at] = gates[at].model_copy(update={"checks": ()})
        status = status.model_copy(update={"gates": tuple(gates)})
    while status.notices and _size(status) > MAX_BYTES:
        status = status.model_copy(update={"notices": status.notices[1:]})
    return status


def _gates(known: tuple[GateRecord, ...], wanted: tuple[GateRecord, ...]) -> tuple[GateRecord, ...]:
    news = [gate for gate in wanted if gate not in known]
    if len(known) == MOST:  # those that the record has let go do not come back
        news = [gate for gate in news if gate.at >= known[0].at]
    return (*known, *news)[-MOST:]


def _notices(known: tuple[Notice, ...], wanted: tuple[Notice, ...]) -> tuple[Notice, ...]:
    found = {(n.kind, n.check, n.since): n for n in known}
    for notice in wanted:
        before = found.get(key := (notice.kind, notice.check, notice.since))
        if before is None or before.until is None:
            found[key] = notice
    return tuple(found.values())[-MOST:]


def _size(status: AgentRolloutStatus) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())
