"""The kinds as the API server serves them: columns, scale, selectors, defaults, round trip."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phasegate.api.agentdeployment import (
    AgentDeploymentSpec,
    AgentDeploymentStatus,
    Phase,
    Progress,
    TrafficShare,
)
from phasegate.api.agentrollout import AgentRolloutSpec, AgentRolloutStatus
from phasegate.api.base import MAX_MESSAGE, Condition, SpecModel, StatusModel
from phasegate.api.crds import KINDS, CustomKind
from phasegate.api.records import GateRecord, RollbackRecord
from phasegate.api.rollbackpolicy import RollbackPolicySpec, RollbackPolicyStatus
from phasegate.api.rolloutaction import RolloutActionSpec, RolloutActionStatus
from phasegate.api.verdicts import CheckSummary
from phasegate.rollout.phases import PRESETS, mirrors

from tests.lab.api.apiserver import (
    DIGEST,
    OPERATOR,
    OTHER_REVISION,
    REVISION,
    ApiServer,
    changed,
    good,
)

pytestmark = pytest.mark.lab

NOW = datetime(2026, 11, 21, 9, 30, 15, 123456, tzinfo=UTC)
LONG = "x" * MAX_MESSAGE
CHECK = CheckSummary(
    name="error-rate",
    level="rollback",
    verdict="Fail",
    reason="Breached",
    message=LONG,
    estimate="7.1%",
    limit="5%",
    since=NOW,
)
GATE = GateRecord(
    from_phase="canary-5",
    to_phase="stable",
    decision="RolledBack",
    reason="Breached",
    message=LONG,
    at=NOW,
    by="alice@example.com",
    checks=(CHECK,) * 3,
)
ROLLBACK = RollbackRecord(
    revision=REVISION,
    digest=DIGEST,
    to=OTHER_REVISION,
    rollout="support-agent-1",
    phase="canary-5",
    trigger="error-rate",
    message=LONG,
    since=NOW,
    decided_at=NOW,
    safe_at=NOW,
    seconds_to_safe="0.4",
)
READY = Condition(
    type="Ready", status="True", reason="Stable", message="all is well", last_transition_time=NOW
)
AGENT_STATUS = AgentDeploymentStatus(
    observed_generation=3,
    phase="Progressing",
    step="canary-5 (3/5)",
    weight=5,
    message="canary-5: the candidate gets 5 % of the users' requests",
    stable_revision=OTHER_REVISION,
    stable_digest=DIGEST,
    candidate_revision=REVISION,
    candidate_digest=DIGEST,
    previous_warm_until=NOW,
    current_rollout="support-agent-1",
    rollouts=1,
    traffic=(TrafficShare(revision=REVISION, percent=5, programmed=True, measured="4.9%"),),
    checks=(CHECK,) * 64,
    progress=Progress(
        phase=Phase(name="canary-5", type="Canary", weight=5, min_duration="30m"),
        entered_at=NOW,
        started_at=NOW,
    ),
    last_gate=GATE,
    rollback=ROLLBACK,
    rejected_revisions=(REVISION,),
    next_decision_at=NOW,
    replicas=2,
    ready_replicas=2,
    selector="phasegate.dev/agent=support-agent",
    conditions=(READY,),
)
STATUSES: dict[str, StatusModel] = {
    "AgentDeployment": AGENT_STATUS,
    "RollbackPolicy": RollbackPolicyStatus(observed_generation=1, conditions=(READY,)),
    "RolloutAction": RolloutActionStatus(
        outcome="Accepted", message=LONG, rollout="support-agent-1", at=NOW
    ),
    "AgentRollout": AgentRolloutStatus(
        phase="RolledBack",
        message=LONG,
        started_at=NOW,
        ended_at=NOW,
        gates=(GATE,) * 64,
        incident=ROLLBACK,
    ),
}
SPECS: dict[str, type[SpecModel]] = {
    "AgentDeployment": AgentDeploymentSpec,
    "RollbackPolicy": RollbackPolicySpec,
    "RolloutAction": RolloutActionSpec,
    "AgentRollout": AgentRolloutSpec,
}


def dumped(model: StatusModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def create_with_status(api: ApiServer, kind: str) -> None:
    operator = api.as_user(OPERATOR)
    if kind == "RollbackPolicy":  # of which the operator tells nothing yet
        operator = api.grant(OPERATOR, ("phasegate.dev", "rollbackpolicies/status", "patch"))
    assert (operator if kind == "AgentRollout" else api).create(good(kind)).accepted
    answer = operator.patch(good(kind), {"status": dumped(STATUSES[kind])}, "status")
    assert answer.accepted, answer.message


def kubectl(kubeconfig: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "kubectl"), *arguments]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.parametrize("kind", SPECS)
def test_what_the_server_stores_is_what_the_models_read(api: ApiServer, kind: str) -> None:
    create_with_status(api, kind)
    stored = api.get(good(kind)).body

    spec = SPECS[kind].model_validate(stored["spec"])
    assert spec == SPECS[kind].model_validate(good(kind)["spec"])
    # Nothing is lost on the way: no field is pruned, none is added by the server.
    assert stored["status"] == dumped(STATUSES[kind])
    assert type(STATUSES[kind]).model_validate(stored["status"]) == STATUSES[kind]


def test_get_tells_the_story_in_one_line(api: ApiServer, kubeconfig: Path) -> None:
    create_with_status(api, "AgentDeployment")
    header, line = kubectl(kubeconfig, "get", "agentdep", "-n", api.namespace).splitlines()
    columns = "NAME PHASE STEP STABLE CANDIDATE WEIGHT READY MESSAGE AGE"
    assert header.split() == columns.split()
    for part in ("support-agent", "Progressing", "canary-5 (3/5)", REVISION, " 5 ", " True "):
        assert part in line
    assert "gets 5 % of the users' requests" in line


@pytest.mark.parametrize("kind", KINDS, ids=[kind.kind for kind in KINDS])
def test_every_kind_has_its_short_name_category_and_columns(
    api: ApiServer, kubeconfig: Path, kind: CustomKind
) -> None:
    create_with_status(api, kind.kind)
    for name in (kind.plural, "phasegate"):
        listed = kubectl(kubeconfig, "get", name, "-n", api.namespace, "-o", "name")
        assert str(good(kind.kind)["metadata"]["name"]) in listed
    wide = kubectl(kubeconfig, "get", kind.short, "-n", api.namespace, "-o", "wide")
    header = wide.splitlines()[0]
    assert header.split() == ["NAME", *(column.name.upper() for column in kind.columns)]


def test_explain_documents_the_fields_that_users_write(kubeconfig: Path, server: ApiServer) -> None:
    text = kubectl(kubeconfig, "explain", "agentdep.spec.strategy.phases.minDuration")
    assert "The phase takes at least this long." in text


def test_objects_are_selected_by_field(api: ApiServer) -> None:
    for kind in KINDS:
        create_with_status(api, kind.kind)
        for path in kind.selectable:
            stored: Any = api.get(good(kind.kind)).body
            for step in path.removeprefix(".").split("."):
                stored = stored[step]
            selector = path.removeprefix(".")
            hit = api.list(kind.kind, fieldSelector=f"{selector}={stored}")
            miss = api.list(kind.kind, fieldSelector=f"{selector}=none-such")
            assert (len(hit.body["items"]), len(miss.body["items"])) == (1, 0)


def test_scaling_changes_replicas_and_nothing_else(api: ApiServer) -> None:
    create_with_status(api, "AgentDeployment")
    agent = good("AgentDeployment")
    before = api.get(agent).body["spec"]
    scale = api.patch(agent, {"spec": {"replicas": 7}}, "scale").body

    assert scale["status"] == {"replicas": 2, "selector": "phasegate.dev/agent=support-agent"}
    assert api.get(agent).body["spec"] == {**before, "replicas": 7}


def test_defaults_are_stored_as_documented(api: ApiServer) -> None:
    strategy = {"strategy": {"phases": [{"name": "full", "type": "Full"}]}}
    agent = changed(good("AgentDeployment"), {"spec": {"replicas": None, "exposure": None}})
    agent = changed(agent, {"spec": strategy})
    stored = api.create(agent).body["spec"]

    assert (stored["replicas"], stored["exposure"]) == (1, "CustomerFacing")
    assert stored["strategy"]["phases"] == [
        {
            "name": "full",
            "type": "Full",
            "minDuration": "0s",
            "minSamples": 50,
            "approval": "NotRequired",
        }
    ]
    assert AgentDeploymentSpec.model_validate(stored) == AgentDeploymentSpec.model_validate(
        agent["spec"]
    )


@pytest.mark.parametrize(("preset", "phases"), PRESETS.items())
def test_a_preset_may_be_written_out_as_phases(
    module_api: ApiServer, preset: str, phases: tuple[Phase, ...]
) -> None:
    written = [phase.model_dump(mode="json", by_alias=True, exclude_none=True) for phase in phases]
    strategy = {"strategy": {"preset": None, "phases": written}}
    answer = module_api.create(changed(good("AgentDeployment"), {"spec": strategy}), dry_run=True)
    assert answer.accepted, answer.message


@pytest.mark.parametrize(("preset", "phases"), PRESETS.items())
def test_only_presets_that_rehearse_ask_about_side_effects(
    module_api: ApiServer, preset: str, phases: tuple[Phase, ...]
) -> None:
    change = {"strategy": {"preset": preset, "phases": None}, "agent": {"sideEffects": None}}
    answer = module_api.create(changed(good("AgentDeployment"), {"spec": change}), dry_run=True)
    assert answer.accepted != any(mirrors(phase) for phase in phases), answer.message


# What users might write, right and wrong, where a value of any sort belongs.
TEXTS = (
    *(
        "",
        "0",
        "5",
        "30",
        "1.5",
        "5%",
        "100%",
        "100.0%",
        "0.05%",
        "30s",
        "1h30m",
        "2d",
        "-1s",
        "٣s",
    ),
    *(
        "Dark",
        "Canary",
        "Full",
        "Phased",
        "None",
        "DryRun",
        "error-rate",
        "a\n",
        "a.b",
        "/x\n",
        " ",
    ),
)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 200),
    st.sampled_from(TEXTS),
    st.sampled_from([[], {}, [None], [{}], {"a": "b"}, {"preset": "Canary"}, {"above": "5%"}]),
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a manifest's spec, pod template aside."""
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = [at] if at else []
    for key, child in children:
        if key != "template":
            found += paths(child, (*at, key))
    return found


def with_value(spec: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the spec with another value in one place."""
    if not path:
        return value
    if not isinstance(spec, list | dict):
        raise TypeError(spec)
    copy: Any = list(spec) if isinstance(spec, list) else dict(spec)
    copy[path[0]] = with_value(spec[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("kind", ["AgentDeployment", "RollbackPolicy", "RolloutAction"])
@pytest.mark.timeout(300)
def test_the_models_read_whatever_the_server_accepts(module_api: ApiServer, kind: str) -> None:
    spec = good(kind)["spec"]
    accepted = set()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from(paths(spec)), ODD), min_size=1, max_size=2))
    def check(edits: list[tuple[tuple[Any, ...], Any]]) -> None:
        edited = spec
        for path, value in edits:
            try:
                edited = with_value(edited, path, value)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier edit took this place away
        answer = module_api.create({**good(kind), "spec": edited}, dry_run=True)
        assert answer.status < 500, answer.message
        assert "rule evaluation" not in answer.message, answer.message
        assert "no such" not in answer.message, answer.message
        if answer.accepted:
            SPECS[kind].model_validate(answer.body["spec"])
        accepted.add(answer.accepted)

    check()
    assert accepted == {True, False}
