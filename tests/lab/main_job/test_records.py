"""Records of real rollouts verify; an edit past admission is found. Lived once, then looked at."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.main_job.cluster import Json, until
from tests.lab.main_job.manifests import BAD_PROMPT, BETTER_PROMPT, CANARY, FULL, NAME
from tests.lab.main_job.story import Story, says

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

OPERATOR = "system:serviceaccount:phasegate-system:phasegate"
Lived = Story


def phasegate(story: Story, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("phasegate"))
    return story.lab.exec([program, *arguments, "-n", story.api.namespace], check=False)


def verify(story: Story) -> subprocess.CompletedProcess[str]:
    return phasegate(story, "verify", NAME)


@pytest.fixture(scope="module")
def lived(told: Story) -> Lived:
    """An attempt that a person approved, and one that was taken back from users."""
    told.stable(CANARY, {**FULL, "approval": "Required"}, approvals={"author": "MayApprove"})
    told.users()
    told.prompt(BETTER_PROMPT)
    asked = told.until("asks", lambda version: says(version, "AwaitingApproval") == "True")
    action = told.act("Approve", asked["status"]["candidateRevision"])
    outcome = told.outcome(action)
    assert outcome["outcome"] == "Accepted", outcome
    told.rollout(1, "Succeeded")
    told.prompt(BAD_PROMPT)
    told.rollout(2, "RolledBack")

    def whole() -> bool:
        """Both entries of the incident are written, and the agent's status knows of them."""
        agent = told.api.get("agentdeployments", NAME)["status"]
        incidents = told.api.get("agentrollouts", f"{NAME}-2")["status"].get("incidents", ())
        newest = f"2:{incidents[-1]['hash']}" if len(incidents) == 2 else None
        return newest is not None and (agent.get("record") or {}).get("incidents") == newest

    until("the incident is recorded", whole)
    return told


def test_what_the_operator_wrote_verifies(lived: Lived) -> None:
    done = verify(lived)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("OK") == 3


def test_the_record_says_who_approved_and_how_many_calls_were_affected(lived: Lived) -> None:
    first, second = (lived.api.get("agentrollouts", f"{NAME}-{n}")["status"] for n in (1, 2))
    assert [(act["verb"], act["by"]) for act in first["actions"]] == [("Approve", "admin")]
    assert [gate["seconds"] >= 3 for gate in first["gates"][1:]] == [True, True]
    taken, safe = second["incidents"]
    assert "agent_requests_total" in taken["look"][0]["selector"]
    assert float(taken["callsPerSecond"]) > 5
    assert safe["affectedCalls"] > 0
    assert second["incident"]["affectedCalls"] == safe["affectedCalls"]


def test_an_export_verifies_without_the_cluster(lived: Lived, tmp_path: Path) -> None:
    written = phasegate(lived, "export", NAME, "--out", str(tmp_path))
    assert written.returncode == 0, written.stderr
    (file,) = tmp_path.iterdir()
    kinds = {item["kind"] for item in json.loads(file.read_text())["items"]}
    assert kinds == {"AgentDeployment", "AgentRollout", "RolloutAction", "ControllerRevision"}
    program = str(Path(sys.executable).with_name("phasegate"))
    done = subprocess.run([program, "verify", "-f", str(file)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_is_old_enough_to_be_pruned(lived: Lived) -> None:
    done = phasegate(lived, "prune", "--dry-run")
    assert done.stdout == "0 objects would be deleted\n", done.stderr


def soften(status: Json) -> None:
    status["gates"][-1]["checks"][0]["message"] = "all was well"


def drop_the_approval(status: Json) -> None:
    del status["actions"][0]


def cut_the_end(status: Json) -> None:
    """So that nothing in the record itself speaks against it."""
    del status["gates"][-1], status["endedAt"]
    status |= {"phase": "Progressing", "message": status["gates"][-1]["message"]}


@pytest.mark.parametrize(
    ("number", "edit", "words"),
    [
        (2, soften, "does not fit its hash"),
        (1, drop_the_approval, "entry 1 is missing"),
        (1, cut_the_end, "gates: entry 3 is missing, which the record support-2 knows of"),
    ],
)
def test_an_edit_past_admission_is_found(
    lived: Lived, number: int, edit: Callable[[Json], None], words: str
) -> None:
    """Only the operator may write records, so the administrator acts as if it were the operator."""
    name = f"{NAME}-{number}"
    before = lived.api.get("agentrollouts", name)["status"]
    forged = copy.deepcopy(before)
    edit(forged)
    try:
        patch(lived, name, forged)
        done = verify(lived)
        assert done.returncode == 1, done.stdout
        assert f"ALTERED  AgentRollout {lived.api.namespace}/{name}" in done.stdout
        assert words in done.stdout
    finally:
        patch(lived, name, before)
    assert verify(lived).returncode == 0


def patch(story: Story, name: str, status: Json) -> None:
    change = json.dumps([{"op": "add", "path": "/status", "value": status}])
    story.lab.kubectl(
        *("patch", "agentrollouts", name, "-n", story.api.namespace, "--subresource=status"),
        *("--type=json", f"--patch={change}", f"--as={OPERATOR}"),
        "--as-group=system:masters",
    )
