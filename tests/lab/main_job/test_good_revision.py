"""A good revision reaches every user, phase by phase. The story is lived once, then looked at."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import pytest

from tests.lab.main_job.cluster import Json, until
from tests.lab.main_job.manifests import BETTER_PROMPT, FULL, NAME, hostname
from tests.lab.main_job.story import Answer, Story, condition_of, says, seconds, shares

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Lived:
    """Everything that could be seen of it."""

    old: str
    new: str
    versions: list[Json]
    answers: list[Answer]
    rollout: Json
    asked_in_shadow: httpx.Response
    asked_by_default: httpx.Response
    tools: dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def lived(told: Story) -> Lived:
    old = told.stable()
    users = told.users()
    told.prompt(BETTER_PROMPT)
    new = told.in_phase("dark")["status"]["candidateRevision"]
    told.in_phase("shadow")
    asked = told.ask(**{"x-agent-variant": "candidate"})
    default = told.ask()
    told.until("stable", lambda v: v["status"].get("stableRevision") == new)
    told.ready()
    tools = _tools(told)
    rollout = told.rollout(1, "Succeeded")
    end = seconds(rollout["status"]["endedAt"])
    users.go_on_until("somebody after the end", lambda got: got[-1].sent > end)
    return Lived(
        old=old,
        new=new,
        versions=told.watch.seen,
        answers=users.stop(),
        rollout=rollout,
        asked_in_shadow=asked,
        asked_by_default=default,
        tools=tools,
    )


def _tools(story: Story) -> dict[tuple[str, str], float]:
    """Calls of tools by the mode of the pod and how they went, from Prometheus."""
    query = (
        "sum by (mode, outcome) "
        f'(max_over_time(agent_tool_calls_total{{namespace="{story.api.namespace}"}}[5m]))'
    )

    def counted() -> dict[tuple[str, str], float] | None:
        url = f"{story.lab.prometheus_url}/api/v1/query"
        found = httpx.get(url, params={"query": query}, trust_env=False).json()["data"]["result"]
        counts = {
            (r["metric"]["mode"], r["metric"]["outcome"]): float(r["value"][1]) for r in found
        }
        return counts if {mode for mode, _ in counts} == {"live", "dark", "shadow"} else None

    return until("calls of tools in every mode", counted)


def test_it_goes_through_the_phases_in_order(lived: Lived) -> None:
    gates = lived.rollout["status"]["gates"]
    assert [(gate["fromPhase"], gate["toPhase"], gate["decision"]) for gate in gates] == [
        ("stable", "dark", "Started"),
        ("dark", "shadow", "Advanced"),
        ("shadow", "canary-40", "Advanced"),
        ("canary-40", "full", "Advanced"),
        ("full", "stable", "Stable"),
    ]
    for gate in gates[1:]:
        verdicts = {(check["name"], check["verdict"]) for check in gate["checks"]}
        assert verdicts == {("error-rate", "Pass")}
        assert gate["checks"][0]["message"]


def test_the_record_says_what_was_tried_and_that_it_succeeded(lived: Lived) -> None:
    spec = lived.rollout["spec"]
    assert (spec["agent"], spec["number"]) == (NAME, 1)
    assert (spec["fromRevision"], spec["revision"]) == (lived.old, lived.new)
    assert lived.rollout["status"]["endedAt"]
    assert "incident" not in lived.rollout["status"]


def test_each_phase_takes_its_minimum_duration(lived: Lived) -> None:
    begun: dict[str, float] = {}
    for version in lived.versions:
        progress = version.get("status", {}).get("progress", {})
        if "startedAt" in progress:
            begun[progress["phase"]["name"]] = seconds(progress["startedAt"])
    left = {gate["fromPhase"]: seconds(gate["at"]) for gate in lived.rollout["status"]["gates"]}
    assert list(begun) == ["dark", "shadow", "canary-40", "full"]
    for phase, start in begun.items():
        assert left[phase] - start >= 3


def test_users_get_the_candidate_from_canary_on_and_not_before(lived: Lived) -> None:
    decided = next(
        seconds(gate["at"])
        for gate in lived.rollout["status"]["gates"]
        if gate["toPhase"] == "canary-40"
    )
    assert min(a.done for a in lived.answers if a.revision == lived.new) > decided


def test_no_user_gets_an_error_on_the_way(lived: Lived) -> None:
    assert {answer.status for answer in lived.answers} == {200}


def test_the_share_that_users_get_is_the_one_asked_for(lived: Lived) -> None:
    gates = {gate["toPhase"]: seconds(gate["at"]) for gate in lived.rollout["status"]["gates"]}
    programmed = next(
        seconds(version["status"]["progress"]["startedAt"])
        for version in lived.versions
        if version.get("status", {}).get("progress", {}).get("phase", {}).get("name") == "canary-40"
        and "startedAt" in version["status"]["progress"]
    )
    window = [a.revision for a in lived.answers if programmed < a.sent < gates["full"]]
    assert len(window) > 100
    assert 0.25 < window.count(lived.new) / len(window) < 0.55


def test_at_the_end_everybody_gets_the_new_revision(lived: Lived) -> None:
    end = seconds(lived.rollout["status"]["endedAt"])
    after = {answer.revision for answer in lived.answers if answer.sent > end}
    assert after == {lived.new}


def test_weights_never_fall_on_the_way(lived: Lived) -> None:
    given = [shares(version).get(lived.new, 0) for version in lived.versions if "status" in version]
    assert given == sorted(given)
    assert set(given) == {0, 40, 100}


def test_shadow_is_reachable_by_header_and_by_nobody_else(lived: Lived) -> None:
    assert lived.asked_in_shadow.json()["revision"] == lived.new
    assert lived.asked_by_default.json()["revision"] == lived.old


def test_tools_run_dry_in_dark_and_shadow_and_for_real_in_live(lived: Lived) -> None:
    for mode in ("dark", "shadow"):
        assert lived.tools[mode, "dry_run"] > 0
        assert lived.tools.get((mode, "success"), 0) == 0
    assert lived.tools["live", "success"] > 0
    assert lived.tools.get(("live", "dry_run"), 0) == 0


def test_the_status_tells_of_each_step(lived: Lived) -> None:
    steps = [version["status"].get("step", "") for version in lived.versions if "status" in version]
    told = list(dict.fromkeys(step for step in steps if step))
    assert told == ["dark 1/4", "shadow 2/4", "canary-40 3/4", "full 4/4"]
    for version in lived.versions:
        if version.get("status", {}).get("progress"):
            assert version["status"]["message"]
            assert says(version, "Ready") == "False"
            assert condition_of(version, "Reconciling") or condition_of(version, "Stalled")


def test_the_previous_revision_stays_warm_beside_the_new_one(told: Story, lived: Lived) -> None:
    status = lived.versions[-1]["status"]
    assert status["previousRevision"] == lived.old
    running = {deployment["metadata"]["name"] for deployment in told.api.list("deployments")}
    assert running == {f"{NAME}-{lived.old}", f"{NAME}-{lived.new}"}


def test_first_creation_serves_at_once_and_without_phases(story: Story) -> None:
    revision = story.stable()
    answer = story.ask()
    assert (answer.status_code, answer.json()["revision"]) == (200, revision)
    assert shares(story.watch.seen[-1]) == {revision: 100}
    assert all("progress" not in version.get("status", {}) for version in story.watch.seen)
    assert story.api.list("agentrollouts") == []
    service = story.api.get("services", NAME)
    assert service["spec"]["selector"]["phasegate.dev/revision"] == revision
    route = story.api.get("httproutes", NAME)
    assert route["spec"]["hostnames"] == [hostname(story.api.namespace)]


def test_an_agent_without_side_effects_rehearses_in_its_live_pods(story: Story) -> None:
    quiet = {"systemPrompt": "Be brief.", "sideEffects": "None"}
    story.stable(agent=quiet)
    story.users()
    story.change(agent={"systemPrompt": BETTER_PROMPT})
    new = story.in_phase("dark")["status"]["candidateRevision"]
    names = {deployment["metadata"]["name"] for deployment in story.api.list("deployments")}
    assert f"{NAME}-{new}" in names
    assert not any(name.endswith(("-dark", "-shadow")) for name in names)


def test_blue_green_without_rehearsal_goes_the_same_way(story: Story) -> None:
    old = story.stable({**FULL, "minDuration": "2s"}, agent={"systemPrompt": "Be brief."})
    story.users()
    story.change(agent={"systemPrompt": BETTER_PROMPT})
    done = story.until("stable", lambda v: v["status"].get("previousRevision") == old)
    gates = story.rollout(1, "Succeeded")["status"]["gates"]
    assert [gate["toPhase"] for gate in gates] == ["full", "stable"]
    assert shares(done) == {done["status"]["stableRevision"]: 100}
