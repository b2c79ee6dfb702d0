"""What docs/decisions.md shows is what the models take, and names every verb."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from phasegate.api.agentdeployment import Strategy
from phasegate.api.people import Approvals
from phasegate.api.rolloutaction import RolloutActionSpec, Verb

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "decisions.md").read_text()
ACTION, AGENT = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def test_the_decision_can_be_created() -> None:
    spec = RolloutActionSpec.model_validate(ACTION["spec"])
    assert (spec.verb, spec.phase, spec.actor_groups) == ("Approve", "canary-5", ("legal",))
    assert spec.evidence[0].digest is not None


def test_the_approvals_can_be_asked_for() -> None:
    spec: dict[str, Any] = AGENT["spec"]
    assert Approvals.model_validate(spec["approvals"]).author == "MayNot"
    phases = Strategy.model_validate(spec["strategy"]).phases
    assert phases[-1].approvals is not None


@pytest.mark.parametrize("verb", get_args(Verb))
def test_every_verb_is_explained(verb: Verb) -> None:
    assert re.search(rf"^\| [^|]*`{verb}`[^|]*\|", PAGE, re.MULTILINE)


def test_every_shipped_role_is_named() -> None:
    for file in (ROOT / "config" / "rbac" / "people").glob("*.yaml"):
        if file.stem != "kustomization":
            assert f"-{file.stem}`" in PAGE
