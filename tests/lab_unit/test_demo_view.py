"""What the demo shows, from statuses as the operator's own models write them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from phasegate.api.agentdeployment import (
    AgentDeploymentSpec,
    AgentDeploymentStatus,
    Progress,
    TrafficShare,
)
from phasegate.api.base import Condition, ConditionStatus
from phasegate.api.quantities import parse_percent
from phasegate.api.records import RollbackRecord
from phasegate.api.rollbackpolicy import RollbackPolicySpec
from phasegate.api.verdicts import CheckSummary
from phasegate.engine.compiling import compile_checks
from rich.console import Console
from rich.text import Text

from lab.agent.faults import parse
from lab.demo.acts import ACTS, MANIFESTS, Act, ended, problems
from lab.demo.audience import Counts
from lab.demo.bars import bar, gauge, ladder, strip
from lab.demo.scene import Agent, Users, read_agent, seconds
from lab.demo.show import Lines, show
from lab.demo.stage import Stage
from lab.demo.view import PROOF, draw
from lab.errors import LabError

V1, V2, V3 = "1" * 10, "2" * 10, "3" * 10
DIGEST = "sha256:" + "0" * 64
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
GOOD, BAD, SNEAKY = ACTS


def document(name: str, kind: str = "") -> dict[str, Any]:
    documents = yaml.safe_load_all((MANIFESTS / name).read_text())
    return next(d for d in documents if not kind or d["kind"] == kind)


SPEC = AgentDeploymentSpec.model_validate(document("agent.yaml")["spec"])


def item(status: AgentDeploymentStatus, generation: int = 2) -> dict[str, Any]:
    written = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    spec = document("agent.yaml")["spec"]
    return {"metadata": {"generation": generation}, "spec": spec, "status": written}


def ready(value: bool) -> tuple[Condition, ...]:
    status: ConditionStatus = "True" if value else "False"
    return (
        Condition(
            type="Ready", status=status, reason="Stable", message="", last_transition_time=NOW
        ),
    )


def stable(revision: str = V1, **more: Any) -> AgentDeploymentStatus:
    return AgentDeploymentStatus(
        observed_generation=2,
        phase="Stable",
        stable_revision=revision,
        traffic=(TrafficShare(revision=revision, percent=100),),
        conditions=ready(True),
        **more,
    )


def check(verdict: Any, bad: int, calls: int) -> CheckSummary:
    return CheckSummary(
        name="error-rate",
        level="rollback",
        verdict=verdict,
        reason="Breached" if verdict == "Fail" else "StillUncertain",
        message=f"candidate {bad / calls:.1%} ({bad}/{calls}), gate 5.0%, rollback level 15.0%",
        estimate=f"{bad / calls:.6g}",
        limit="0.15",
    )


def trying(phase: str, revision: str = V2, begun: float | None = 3) -> AgentDeploymentStatus:
    """An attempt in `phase`, whose traffic has been in place for `begun` seconds."""
    found = next(p for p in SPEC.strategy.phases if p.name == phase)
    started = None if begun is None else NOW - timedelta(seconds=begun)
    weight = found.weight or (100 if found.type == "Full" else 0)
    mirrored = found.mirror_percent or 0
    return AgentDeploymentStatus(
        observed_generation=2,
        phase=found.type,
        stable_revision=V1,
        candidate_revision=revision,
        current_rollout="support-1",
        progress=Progress(phase=found, entered_at=NOW, started_at=started),
        traffic=(
            TrafficShare(revision=V1, percent=100 - weight),
            TrafficShare(revision=revision, percent=weight, mirror_percent=mirrored),
        ),
        checks=(check("Inconclusive", 2, 40),),
        message=f"{phase}: collecting evidence",
        conditions=ready(False),
    )


def taken_back(
    phase: str, revision: str = V2, trigger: str = "error-rate"
) -> AgentDeploymentStatus:
    record = RollbackRecord(
        revision=revision,
        digest=DIGEST,
        to=V1,
        rollout="support-2",
        phase=phase,
        trigger=trigger,
        message="candidate 41.0% (16/39) over the last 4 s; odds against chance 2,375:1",
        decided_at=NOW,
        safe_at=NOW,
        seconds_to_safe="0.05",
    )
    return AgentDeploymentStatus(
        observed_generation=2,
        phase="RolledBack",
        stable_revision=V1,
        candidate_revision=revision,
        current_rollout="support-2",
        rollback=record,
        traffic=(
            TrafficShare(revision=V1, percent=100),
            TrafficShare(revision=revision, percent=0),
        ),
        checks=(check("Fail", 16, 39),),
        conditions=ready(False),
    )


def totals(at: float, **answers: dict[str, int]) -> dict[str, Any]:
    names = {"v1": V1, "v2": V2, "none": "-"}
    results = [
        {
            "revision": names[name],
            "outcome": outcome,
            "status": {"error": 500, "http-503": 503}.get(outcome, 200),
            "count": count,
        }
        for name, outcomes in answers.items()
        for outcome, count in outcomes.items()
    ]
    revisions = {
        names[name]: {"count": sum(o.values()), "outcomes": o, "p95_ms": 42.0, "last_done": at}
        for name, o in answers.items()
    }
    return {"updated": at, "results": results, "revisions": revisions}


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr("lab.demo.stage.time.time", NOW.timestamp)
    stage = Stage(NOW.timestamp() - 42, "the beginning")
    stage.see_agent(item(stable()))
    stage.names[V1] = "v1"
    return stage


def picture(stage: Stage, width: int = 120, height: int = 38) -> str:
    console = Console(record=True, width=width, height=height, file=io.StringIO())
    console.print(draw(stage.scene(), width, height))
    return console.export_text()


def line_with(words: str, text: str) -> str:
    return next(line for line in text.splitlines() if words in line)


def story(stage: Stage) -> Iterator[str]:
    """Pictures of a good revision's way and of a bad one's end."""
    yield picture(stage)
    stage.open(GOOD)
    for phase in SPEC.strategy.phases:
        for begun in (None, 3, 20):
            stage.see_agent(item(trying(phase.name, begun=begun)))
            yield picture(stage)
    stage.see_agent(item(stable(V2)))
    yield picture(stage)
    stage.open(BAD)
    yield picture(stage)
    stage.see_agent(item(taken_back("dark", V3)))
    yield picture(stage)


def test_every_picture_fills_the_same_frame(stage: Stage) -> None:
    for shown in story(stage):
        lines = shown.splitlines()
        assert len(lines) == 38
        assert {len(line) for line in lines} == {120}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
def test_a_picture_fits_terminals_small_and_large(stage: Stage, width: int, height: int) -> None:
    stage.open(GOOD)
    stage.see_agent(item(trying("canary-20")))
    lines = picture(stage, width, height).splitlines()
    assert len(lines) == height
    assert max(map(len, lines)) == width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 38)])
def test_the_newest_line_of_the_log_is_the_last_one_shown(
    stage: Stage, width: int, height: int
) -> None:
    for number in range(40):
        stage.say("$", f"command {number}")
    assert "command 39" in picture(stage, width, height).splitlines()[-2]


def test_the_running_phase_is_lit_and_the_way_to_the_next_grows(stage: Stage) -> None:
    stage.open(GOOD)
    lengths = []
    for begun in (0, 3, 6):
        stage.see_agent(item(trying("canary-20", begun=begun)))
        rail = line_with("◉", picture(stage))
        assert rail.count("●") == 3  # dark, shadow, 5 %
        lengths.append(rail.count("━"))
    assert lengths == sorted(set(lengths))


def test_the_split_shows_what_was_asked_and_what_users_got(stage: Stage) -> None:
    stage.open(GOOD)
    stage.see_agent(item(trying("canary-20")))
    counts = Counts()
    for at in range(4):
        stage.see_users(counts.take(totals(at, v1={"success": 75 * at}, v2={"success": 25 * at})))
    shown = picture(stage)
    assert "80 %" in line_with("v1       asked", shown)
    assert "75.0 %" in line_with("stable   got", shown)
    assert "20 %" in line_with("v2       asked", shown)
    assert "25.0 %" in line_with("on trial got", shown)


def test_a_dark_phase_says_that_its_answers_are_dropped(stage: Stage) -> None:
    stage.open(BAD)
    stage.see_agent(item(trying("dark", V3)))
    assert "copies of 100 % go to v3, answers dropped" in picture(stage)


def test_a_rollback_is_marked_where_it_happened_with_its_reason(stage: Stage) -> None:
    stage.open(SNEAKY)
    stage.see_agent(item(trying("canary-20", V3)))
    stage.see_agent(item(taken_back("canary-20", V3)))
    shown = picture(stage)
    rail = line_with("✗━", shown) if "✗━" in shown else line_with("╌╌○", shown)
    assert rail.count("●") == 3
    assert rail.count("✗") == 1
    assert "candidate 41.0% (16/39)" in shown
    assert "taken back" in shown


def test_a_revision_gets_the_acts_name_and_the_caption_follows_its_phase(stage: Stage) -> None:
    stage.open(GOOD)
    assert stage.caption == GOOD.opening
    stage.see_agent(item(trying("dark", begun=None)))
    assert (stage.revision, stage.names[V2]) == (V2, "v2")
    assert stage.caption == GOOD.opening  # its traffic is not in place yet
    stage.see_agent(item(trying("dark")))
    assert stage.caption == GOOD.captions["dark"]


def test_a_revision_of_the_act_before_is_not_taken_for_the_new_one(stage: Stage) -> None:
    stage.open(BAD)
    stage.see_agent(item(taken_back("dark", V2)))
    stage.open(SNEAKY)
    stage.see_agent(item(taken_back("dark", V2)))
    assert stage.revision is None
    stage.see_agent(item(trying("dark", V3)))
    assert stage.revision == V3


def event(uid: str, note: str, kind: str = "AgentDeployment") -> dict[str, Any]:
    return {
        "metadata": {"uid": uid},
        "regarding": {"kind": kind},
        "type": "Normal",
        "reason": "PhaseAdvanced",
        "note": note,
        "eventTime": NOW.isoformat(),
    }


def test_without_a_terminal_each_transition_is_one_line_with_its_time(stage: Stage) -> None:
    file = io.StringIO()
    with show(Console(file=file, width=80), plain=False) as screen:
        assert isinstance(screen, Lines)
        stage.open(GOOD)
        stage.see_event(event("a", f"{V1} goes on"))
        stage.see_event(event("a", f"{V1} goes on"))
        stage.see_event(event("b", "a pod's own", kind="Pod"))
        stage.see_event(event("c", f"{V1} is {V1}"))
        for _ in range(3):
            screen.update(stage.scene())
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert f"PhaseAdvanced     v1 ({V1}) goes on" in lines[0]
    assert "PhaseAdvanced     v1 is v1" in lines[1]
    assert GOOD.opening in lines[2]
    assert all(line[2] == line[5] == ":" for line in lines)


# --- how an act has to end ------------------------------------------------------------------------


def record(revision: str, phase: str, trigger: str | None = None) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase}
    if trigger is not None:
        status["incident"] = {"trigger": trigger}
    return {"spec": {"revision": revision}, "status": status}


def seen(status: AgentDeploymentStatus) -> Agent:
    return read_agent(item(status))


def test_an_act_ends_when_the_agent_has_come_to_rest() -> None:
    assert not ended(seen(trying("full")), V2)
    assert not ended(seen(stable(V1)), V2)
    assert ended(seen(stable(V2)), V2)
    assert ended(seen(taken_back("dark")), V2)
    assert not ended(read_agent(item(stable(V2), generation=3)), V2)


def answered(after: float) -> Users:
    """Users whose last answer of V2 came so many seconds after its rollback."""
    return Users(last_done={V2: NOW.timestamp() + after})


def test_a_play_as_it_must_be_has_no_problems() -> None:
    assert problems(GOOD, V1, seen(stable(V2)), record(V2, "Succeeded"), Users()) == []
    back = record(V2, "RolledBack", "error-rate")
    assert problems(BAD, V1, seen(taken_back("dark")), back, Users()) == []
    assert problems(SNEAKY, V1, seen(taken_back("canary-5")), back, answered(1.5)) == []


BACK = record(V2, "RolledBack", "error-rate")


@pytest.mark.parametrize(
    ("act", "status", "written", "last", "words"),
    [
        (GOOD, taken_back("dark"), record(V2, "RolledBack"), 0, "the stable revision"),
        (GOOD, stable(V2), record(V2, "Progressing"), 0, "the attempt's record"),
        (BAD, stable(V2), record(V2, "Succeeded"), 0, "names no rollback"),
        (BAD, taken_back("canary-5"), BACK, 0, "taken back in canary-5, not in dark"),
        (BAD, taken_back("dark", trigger="safety-flags"), BACK, 0, "the trigger"),
        (BAD, taken_back("dark"), record(V2, "RolledBack", "x"), 0, "the record's trigger"),
        (SNEAKY, taken_back("canary-5"), BACK, 2.5, "answered a user 2.5 s after"),
    ],
)
def test_an_act_that_ends_otherwise_is_a_failure_with_its_reason(
    act: Act, status: AgentDeploymentStatus, written: dict[str, Any], last: float, words: str
) -> None:
    assert words in "; ".join(problems(act, V1, seen(status), written, answered(last)))


async def test_waiting_ends_with_the_change_or_with_what_the_agent_says(stage: Stage) -> None:
    await stage.until("nothing", lambda: True, 0)
    stage.see_agent(item(trying("dark")))
    with pytest.raises(LabError, match=r"the moon.*dark: collecting evidence"):
        await stage.until("the moon", lambda: False, 0)


# --- the manifests --------------------------------------------------------------------------------


def merged(into: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386, without deletions."""
    result = dict(into)
    for key, value in patch.items():
        both = isinstance(value, dict) and isinstance(into.get(key), dict)
        result[key] = merged(into[key], value) if both else value
    return result


def test_the_policy_is_one() -> None:
    policy = RollbackPolicySpec.model_validate(document("policy.yaml")["spec"])
    assert {act.trigger for act in ACTS if act.trigger} <= {m.name for m in policy.metrics}


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_every_change_is_to_the_prompt_and_its_version_only(act: Act) -> None:
    before = document("agent.yaml")["spec"]
    spec = merged(before, document(act.change)["spec"])
    AgentDeploymentSpec.model_validate(spec)
    assert spec["agent"]["systemPrompt"] != before["agent"]["systemPrompt"]
    assert {**spec, "agent": {}} == {**before, "agent": {}}
    changed = {key for key in spec["agent"] if spec["agent"][key] != before["agent"][key]}
    assert changed == {"version", "systemPrompt"}


def test_only_the_bad_prompts_carry_faults() -> None:
    faults = [parse({}, document(act.change)["spec"]["agent"]["systemPrompt"]) for act in ACTS]
    assert [fault.error_rate for fault in faults] == [None, 0.4, 0.4]
    assert [fault.live_only for fault in faults] == [False, False, True]


def test_every_phase_of_the_strategy_has_its_caption() -> None:
    assert all({p.name for p in SPEC.strategy.phases} == set(act.captions) for act in ACTS)


# --- small pictures -------------------------------------------------------------------------------


def drawn(text: Text) -> int:
    """Length of the bar itself: all that is not track."""
    return text.spans[0].end


def test_a_bar_is_as_long_as_its_share() -> None:
    assert [drawn(bar(share, 8, "red")) for share in (0.5, 1, 7)] == [4, 8, 8]
    assert bar(0.3, 8, "").plain[:3] == "━━╸"
    assert bar(0.001, 8, "").plain[0] == "╸"
    assert {len(bar(share / 10, 8, "").plain) for share in range(11)} == {8}


@pytest.mark.parametrize(
    ("share", "style"), [(0.25, "green"), (0.5, "yellow"), (0.99, "yellow"), (1, "bold red")]
)
def test_a_gauge_turns_red_at_its_end(share: float, style: str) -> None:
    shown = gauge(share, 9)
    assert shown.plain.endswith("┃")
    assert shown.spans[0].style == style
    assert drawn(shown) == round(8 * share)


@pytest.mark.parametrize(
    ("verdict", "odds", "suspicion"),
    [
        ("Inconclusive", None, 0),
        ("Pass", "0.2", 0),
        ("Inconclusive", "20", 0.5),
        ("Inconclusive", "5e3", 0.99),  # held for another reason: proof is the operator's word
        ("Fail", "400", 1),
        ("Fail", None, 1),
    ],
)
def test_suspicion_grows_with_the_odds(verdict: str, odds: str | None, suspicion: float) -> None:
    summary = check(verdict, 1, 9).model_copy(update={"odds": odds})
    status = stable(V1, checks=(summary,))
    assert seen(status).checks[0].suspicion(400) == pytest.approx(suspicion)


def test_a_full_bar_means_what_the_policy_says() -> None:
    policy = RollbackPolicySpec.model_validate(document("policy.yaml")["spec"])
    tests = sum(made.tests("rollback") for made in compile_checks(policy))
    assert tests / parse_percent(policy.false_rollback_rate) == pytest.approx(PROOF)


def test_a_strip_keeps_the_newest_at_the_right() -> None:
    assert strip([0, 0.5, 1], 5, "").plain == "   ▄█"[:2] + " ▄█"
    assert strip([1, 0, 0.01], 2, "").plain == " ▁"


def test_a_ladder_has_its_labels_below_its_rungs() -> None:
    line, below = ladder(["dark", "5 %", "stable"], 1, 0.5, None, 40)
    assert len(line.plain) == len(below.plain) == 40
    assert line.plain[below.plain.index("5 %") + 1] == "◉"


def test_durations_and_counts_are_read_as_they_are_written() -> None:
    assert [seconds(text) for text in ("8s", "1h30m", "500ms")] == [8, 5400, 0.5]
    users = Counts().take(totals(1, v1={"success": 5, "error": 1}, none={"http-503": 2}))
    assert (users.count(V1), users.count(V1, "error"), users.lost) == (6, 1, 2)
    assert Users().measured(V1) is None
