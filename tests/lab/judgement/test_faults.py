"""Each kind of harm is found by the check that is meant for it, which says so in one sentence.

One policy for all: what another check could take for its own would show.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from lab import Lab
from tests.lab.judgement.cases import Case, Ended, live
from tests.lab.main_job.cluster import Api

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


def above(name: str, limit: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "rollback": {"above": limit}, **more}


def below(name: str, limit: str) -> dict[str, Any]:
    return {"name": name, "rollback": {"below": limit}}


POLICY: Mapping[str, Any] = {
    "metrics": [
        above("error-rate", "20%"),
        above("escalation-rate", "50%", unit="Conversation"),
        above("tool-error-rate", "20%"),
        above("hang-rate", "20%", deadline="3s"),
        above("hallucination-rate", "20%"),
        above("model-drift", "1%"),
        above("latency-p50", "500ms"),
        above("latency-p95", "1s"),
        above("cost-per-call", "0.10"),
        {"name": "tokens-per-call", "baseline": {"worseBy": "3"}},
        below("accuracy", "70%"),
        below("quality-score", "2"),
        below("satisfaction", "2"),
        below("retrieval-accuracy", "60%"),
    ]
}
ENV = {
    "AGENT_EVAL_SHARE": "1",
    "AGENT_FEEDBACK_SHARE": "1",
    "AGENT_CONVERSATION_IDLE_S": "3",
}


def case(fault: str, trigger: str, says: str) -> Case:
    users = ("--sessions=2000",)
    return Case(trigger, fault, POLICY, trigger, says, env=ENV, traffic=users)


# A total failure is convicted by the severe tier, at its own level (50 %).
CASES = [
    case("LATENCY_MS=800", "latency-p50", r"500 ?ms|0\.5 ?s"),
    case("LATENCY_MS=1500 LATENCY_TAIL=0.3", "latency-p95", r"\b1 ?s\b"),  # the median is as it was
    case("COST_USD=0.5", "cost-per-call", r"0\.5\d.*0\.10?\b"),
    case("TOKENS=5000", "tokens-per-call", r"baseline"),
    case("SCORE=1", "quality-score", r"\b2\b"),
    case("SATISFACTION=1", "satisfaction", r"\b2\b"),
    case("WRONG_RATE=0.7", "accuracy", r"is below [57]0\.0%"),
    case("HANG_RATE=0.6", "hang-rate", r"is above [25]0\.0%"),
    case("HALLUCINATION_RATE=0.6", "hallucination-rate", r"is above [25]0\.0%"),
    case("RETRIEVAL_RATE=0.8", "retrieval-accuracy", r"is below [56]0\.0%"),
    case("MODEL=gpt-3.5-turbo", "model-drift", r"100\.0%"),
    case("ESCALATION_RATE=0.9", "escalation-rate", r"is above [57]\d\.0%"),
    case("TOOL_ERROR_RATE=0.6", "tool-error-rate", r"is above [25]0\.0%"),
]


@pytest.fixture(scope="module")
def ended(lab: Lab, admin: Api, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ended]:
    return live(lab, admin, tmp_path_factory.mktemp("faults"), CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_check_that_is_meant_for_it_takes_it_back_and_says_why(
    ended: Mapping[str, Ended], case: Case
) -> None:
    found = ended[case.name]
    assert (found.trigger, found.rolled_back) == (case.trigger, True), found
    assert re.search(case.says, found.message), found.message


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_other_check_is_blamed(ended: Mapping[str, Ended], case: Case) -> None:
    assert ended[case.name].failed == {case.trigger}
