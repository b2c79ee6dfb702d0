"""What is deleted for its age: never what runs, what an agent needs, or what is still young."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from phasegate.rollout.retention import Retention, outlived

NOW = datetime(2026, 11, 1, tzinfo=UTC)
RULE = Retention(attempts=2, age=timedelta(days=90))
OLD, YOUNG = 100, 10
Json = dict[str, Any]


def record(number: int, phase: str = "RolledBack", days: int = OLD, agent: str = "bot") -> Json:
    ended = {} if phase == "Progressing" else {"endedAt": at(days)}
    return {
        "kind": "AgentRollout",
        "metadata": {"name": f"{agent}-{number}"},
        "spec": {"agent": agent, "number": number},
        "status": {"phase": phase, **ended},
    }


def action(
    name: str, rollout: str | None, days: int = OLD, outcome: str | None = "Refused"
) -> Json:
    status = {"outcome": outcome, "rollout": rollout, "at": at(days)}
    return {
        "kind": "RolloutAction",
        "metadata": {"name": name},
        "spec": {"agent": "bot"},
        "status": {k: v for k, v in status.items() if v is not None},
    }


def at(days: int) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def gone(
    records: Sequence[Json], actions: Sequence[Json] = (), agents: Sequence[Json] = ()
) -> list[str]:
    found = outlived(agents, records, actions, RULE, NOW)
    return [item["metadata"]["name"] for item in found]


def test_the_newest_attempts_stay_however_old_and_the_oldest_goes_first() -> None:
    assert gone([record(4), record(2), record(1), record(3)]) == ["bot-1", "bot-2"]


def test_what_is_young_stays_however_many_there_are() -> None:
    assert gone([record(n, days=YOUNG) for n in range(1, 9)]) == []


def test_agents_are_counted_by_themselves() -> None:
    others = [record(n, agent="other") for n in (1, 2)]
    assert gone([*others, *(record(n) for n in (1, 2, 3))]) == ["bot-1"]


def test_what_runs_and_the_last_success_and_the_current_attempt_stay() -> None:
    records = [record(1, "Succeeded"), record(2, "Succeeded"), record(3, "Progressing")]
    records += [record(n) for n in (4, 5, 6)]
    agent = {"metadata": {"name": "bot"}, "status": {"currentRollout": "bot-4"}}
    assert gone(records, agents=[agent]) == ["bot-1"]


def test_a_record_that_does_not_say_when_it_ended_stays() -> None:
    strange = record(1)
    strange["status"]["endedAt"] = "some day"
    assert gone([strange, record(2), record(3)]) == []


def test_decisions_go_with_their_attempt_and_not_before_they_are_answered() -> None:
    records = [record(1), record(2), record(3)]
    actions = [
        action("of-the-first", "bot-1"),
        action("of-a-kept-one", "bot-3"),
        action("about-none", None),
        action("young", None, YOUNG),
        action("pending", None, outcome=None),
    ]
    assert gone(records, actions) == ["bot-1", "of-the-first", "about-none"]
