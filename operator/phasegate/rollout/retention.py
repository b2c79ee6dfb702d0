"""Which records and decisions have been kept for long enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

Json = Mapping[str, Any]


class Retention(NamedTuple):
    """What is kept of every agent: its newest attempts, and all that are younger than an age."""

    attempts: int = 20
    age: timedelta = timedelta(days=90)


def outlived(
    agents: Iterable[Json],
    records: Sequence[Json],
    actions: Iterable[Json],
    rule: Retention,
    now: datetime,
) -> Iterator[Json]:
    """Records and RolloutActions of one namespace that need not be kept, the oldest first.

    Never the record of an attempt that runs, of an agent's current one, or of its last success; and
    no decision without an outcome, or about an attempt whose record is kept.
    """
    current = {_map(agent.get("status")).get("currentRollout") for agent in agents}
    gone = []
    for name in sorted({_agent(record) for record in records}):
        mine = sorted((r for r in records if _agent(r) == name), key=_number, reverse=True)
        gone += [
            record
            for record in reversed(_beyond(mine, rule.attempts))
            if _name(record) not in current and _older(record, "endedAt", rule, now)
        ]
    yield from gone
    kept = {_name(record) for record in records} - {_name(record) for record in gone}
    for action in actions:
        answered = _map(action.get("status"))
        old = answered.get("outcome") and _older(action, "at", rule, now)
        if old and answered.get("rollout") not in kept:
            yield action


def _beyond(newest_first: Sequence[Json], attempts: int) -> list[Json]:
    """Ended attempts after the newest ones, without the last success."""
    last = next((r for r in newest_first if _phase(r) == "Succeeded"), None)
    return [
        record
        for record in newest_first[attempts:]
        if record is not last and _phase(record) not in ("", "Progressing")
    ]


def _older(item: Json, field: str, rule: Retention, now: datetime) -> bool:
    """Older than the rule's age, by its own word; what has no time is not."""
    try:
        at = datetime.fromisoformat(str(_map(item.get("status")).get(field)))
    except ValueError:
        return False
    return at.tzinfo is not None and now - at > rule.age


def _agent(record: Json) -> str:
    return str(_map(record.get("spec")).get("agent", ""))


def _name(item: Json) -> str:
    return str(_map(item.get("metadata")).get("name", ""))


def _phase(record: Json) -> str:
    return str(_map(record.get("status")).get("phase", ""))


def _number(record: Json) -> int:
    number = _map(record.get("spec")).get("number")
    return number if isinstance(number, int) else 0


def _map(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}
