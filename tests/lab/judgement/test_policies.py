"""The policies of the five documents, as they are shipped, each broken by faults of its own.

What cannot be broken here in a minute (spikes of volume and spend, edges of latency) is broken in
simulation: tests/engine/test_policies_of_the_documents.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Lab
from tests.lab.judgement.cases import Case, Ended, live
from tests.lab.main_job.cluster import Api

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(300)]

POLICIES = Path(__file__).parents[3] / "config/samples/policies"
ENV = {"AGENT_EVAL_SHARE": "1", "AGENT_FEEDBACK_SHARE": "1"}


def case(document: str, fault: str, trigger: str, says: str, **more: Any) -> Case:
    policy: dict[str, Any] = yaml.safe_load((POLICIES / f"{document}.yaml").read_text())["spec"]
    return Case(f"{document} {trigger}", fault, policy, trigger, says, env=ENV, **more)


CASES = [
    case("000", "LATENCY_MS=400", "latency-p95", r"baseline"),
    case("000", "SAFETY_RATE=0.1", "safety-flags", r"limit 0", alert=True),
    case("001", "COST_USD=0.5", "spend-per-day", r"\b50\b", alert=True, planned="1m"),
    case("001", "RETRIEVAL_RATE=0.8", "retrieval-accuracy", r"70\.0%", alert=True),
    case("001", "SATISFACTION=1", "satisfaction", r"\b3\b", alert=True),
    case("002", "SCORE=1", "quality-score", r"baseline"),
    case("002", "SAFETY_RATE=0.03", "safety-violations", r"limit 0"),
    case("002", "TOKENS=3000", "tokens-per-call", r"baseline"),
    case("003", "ESCALATION_RATE=0.9", "escalation-rate", r"above 50\.0%"),
    case("003", "SAFETY_RATE=0.3", "personal-data", r"limit 0"),
    case("003", "WRONG_RATE=0.7", "accuracy", r"baseline"),
    case("003", "MODEL=gpt-4o-2024-08-06", "model-drift", r"100\.0%", alert=True),
    case("004", "ERROR_RATE=0.6", "error-rate", r"is above \d+\.0%"),
    case("004", "COST_USD=2", "cost-per-call", r"\b1\b"),
    case("004", "ESCALATION_RATE=0.9", "success-rate", r"20\.0%", alert=True),
]


@pytest.fixture(scope="module")
def ended(lab: Lab, admin: Api, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ended]:
    return live(lab, admin, tmp_path_factory.mktemp("policies"), CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_document_is_kept(ended: Mapping[str, Ended], case: Case) -> None:
    found = ended[case.name]
    assert (found.trigger, found.rolled_back) == (case.trigger, not case.alert), found
    assert re.search(case.says, found.message), found.message
