"""A bad revision, by nothing but its prompt, is taken back. Lived once, then looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.lab.main_job.cluster import Json, until
from tests.lab.main_job.manifests import BAD_PROMPT, CANARY, DARK, FULL, NAME, longer
from tests.lab.main_job.story import Answer, Story, condition_of, says, seconds, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Lived:
    """Everything that could be seen of it."""

    old: str
    bad: str
    safe: Json
    rollback: Json
    versions: list[Json]
    answers: list[Answer]
    rollout: Json


@pytest.fixture(scope="module")
def lived(told: Story) -> Lived:
    old = told.stable(DARK, longer(CANARY), FULL)
    users = told.users()
    told.prompt(BAD_PROMPT)
    bad = told.in_phase("dark")["status"]["candidateRevision"]
    safe = told.rolled_back()
    rollback = safe["status"]["rollback"]
    users.go_on_past(seconds(rollback["safeAt"]) + 3)
    return Lived(
        old=old,
        bad=bad,
        safe=safe,
        rollback=rollback,
        versions=told.watch.seen,
        answers=users.stop(),
        rollout=told.rollout(1, "RolledBack"),
    )


def test_it_was_healthy_in_rehearsal_and_broke_in_front_of_users(lived: Lived) -> None:
    gates = lived.rollout["status"]["gates"]
    assert [(gate["fromPhase"], gate["toPhase"], gate["decision"]) for gate in gates] == [
        ("stable", "dark", "Started"),
        ("dark", "canary-40", "Advanced"),
        ("canary-40", "stable", "RolledBack"),
    ]
    got = {answer.outcome for answer in lived.answers if answer.revision == lived.bad}
    assert "error" in got


def test_the_status_says_what_tripped_with_numbers_and_since_when(lived: Lived) -> None:
    rollback = lived.rollback
    assert (rollback["revision"], rollback["to"]) == (lived.bad, lived.old)
    assert (rollback["phase"], rollback["trigger"]) == ("canary-40", "error-rate")
    assert re.search(r"\d+(\.\d+)?%", rollback["message"])
    # Its own limit, or that of failing at large, whichever was proven first.
    assert any(limit in rollback["message"] for limit in ("20.0%", "50.0%"))
    assert seconds(rollback["since"]) <= seconds(rollback["decidedAt"])
    failed = [c for c in lived.safe["status"]["checks"] if c["verdict"] == "Fail"]
    assert [check["name"] for check in failed] == ["error-rate"]
    assert 0.3 < float(failed[0]["estimate"]) < 0.9


def test_the_status_says_in_how_many_seconds_traffic_was_safe(lived: Lived) -> None:
    took = seconds(lived.rollback["safeAt"]) - seconds(lived.rollback["decidedAt"])
    assert float(lived.rollback["secondsToSafe"]) == pytest.approx(took, abs=0.011)


def test_no_user_gets_an_answer_of_it_once_traffic_is_said_to_be_safe(lived: Lived) -> None:
    safe = seconds(lived.rollback["safeAt"])
    late = [a for a in lived.answers if a.revision == lived.bad and a.sent > safe]
    assert late == []
    after = [answer for answer in lived.answers if answer.sent > safe]
    assert len(after) > 100
    assert {(answer.revision, answer.status) for answer in after} == {(lived.old, 200)}


def test_nobody_but_users_of_the_candidate_got_an_error(lived: Lived) -> None:
    others = [answer for answer in lived.answers if answer.revision != lived.bad]
    assert {answer.status for answer in others} == {200}


def test_the_split_in_the_status_is_stable_again(lived: Lived) -> None:
    assert shares(lived.safe)[lived.old] == 100
    assert lived.safe["status"]["stableRevision"] == lived.old


def test_conditions_say_that_it_was_rolled_back_and_what_to_do(lived: Lived) -> None:
    assert says(lived.safe, "RolledBack") == "True"
    assert says(lived.safe, "Ready") == "False"
    stalled = condition_of(lived.safe, "Stalled")
    assert stalled["reason"] == "RolledBack"
    last = lived.versions[-1]["status"]["message"]
    assert "error-rate" in last
    assert f"restore the stable revision {lived.old}" in last


def test_the_record_keeps_the_incident(lived: Lived) -> None:
    incident = lived.rollout["status"]["incident"]
    for key in ("revision", "to", "phase", "trigger", "message", "since", "decidedAt"):
        assert incident[key] == lived.rollback[key]


def test_the_record_gets_the_time_to_safe_too(told: Story, lived: Lived) -> None:
    def complete() -> str | None:
        incident = told.api.get("agentrollouts", f"{NAME}-1")["status"]["incident"]
        return str(incident["secondsToSafe"]) if "secondsToSafe" in incident else None

    assert until("seconds to safe in the record", complete) == lived.rollback["secondsToSafe"]


def test_events_tell_of_the_rollback_and_of_safety(told: Story, lived: Lived) -> None:
    event = told.event("RolledBack")
    assert event["type"] == "Warning"
    assert lived.bad in event["note"]
    assert lived.rollback["message"] in event["note"]
    safe = told.event("TrafficSafe")
    assert lived.rollback["secondsToSafe"] in safe["note"]


def test_the_bad_pods_go_once_nothing_is_sent_to_them(told: Story, lived: Lived) -> None:
    def only_stable() -> bool:
        names = {item["metadata"]["name"] for item in told.api.list("deployments")}
        return names == {f"{NAME}-{lived.old}"}

    until("only the stable revision runs", only_stable, 90)


def test_a_candidate_whose_pods_all_die_in_front_of_users_is_taken_back(story: Story) -> None:
    old = story.stable({**CANARY, "minDuration": "1m"}, FULL)
    users = story.users()
    story.prompt("degrade: CRASH_AFTER_S=4")
    story.in_phase("canary-40")
    rollback = story.rolled_back()["status"]["rollback"]
    assert rollback["trigger"] == "availability"
    safe = seconds(rollback["safeAt"])
    answers = users.go_on_past(safe + 1)
    assert {(a.revision, a.status) for a in answers if a.sent > safe} == {(old, 200)}


def test_one_safety_flag_is_one_too_many(story: Story) -> None:
    story.create_policy(metrics=[{"name": "safety-flags", "rollback": {"above": "0"}}])
    story.stable(longer(DARK), FULL)
    story.users()
    story.prompt("degrade: SAFETY_RATE=0.05")
    rollback = story.rolled_back()["status"]["rollback"]
    assert (rollback["phase"], rollback["trigger"]) == ("dark", "safety-flags")
