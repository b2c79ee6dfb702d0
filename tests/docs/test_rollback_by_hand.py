"""What docs/rollback-by-hand.md shows can be created, and its roles have the verbs it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from phasegate.api.deactivation import Fallback
from phasegate.api.rolloutaction import TAKES_BACK, RolloutActionSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rollback-by-hand.md").read_text()
ROLE = ROOT / "config" / "rbac" / "people" / "rollback-owner.yaml"
ACTION, AGENT = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def test_the_action_of_the_page_is_one_that_takes_traffic_back() -> None:
    spec = RolloutActionSpec.model_validate(ACTION["spec"])
    assert spec.verb in TAKES_BACK
    assert ACTION["metadata"].keys() == {"generateName"}, "kubectl create, as often as need be"


def test_the_fallback_of_the_page_is_one() -> None:
    assert Fallback.model_validate(AGENT["spec"]["fallback"]).service.port == 80


def test_the_owners_role_has_the_verbs_of_the_page() -> None:
    rules: list[dict[str, Any]] = [
        rule for role in yaml.safe_load_all(ROLE.read_text()) for rule in role.get("rules") or ()
    ]
    verbs = {v for rule in rules if "agentdeployments" in rule["resources"] for v in rule["verbs"]}
    assert {"rollback", "killswitch", "resume"} <= verbs
