"""Other sources than the agent contract: a whole rollout is judged by them, Pass and Fail."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from lab import Lab
from tests.lab.judgement.cases import Case, Ended, live
from tests.lab.main_job.cluster import Api

pytestmark = [pytest.mark.lab, pytest.mark.soak, pytest.mark.timeout(240)]

ERRORS = {"name": "error-rate", "gate": {"below": "20%"}, "rollback": {"above": "20%"}}
SLOW = {"name": "latency-p95", "gate": {"below": "1s"}, "rollback": {"above": "1s"}}
TOKENS = {"name": "tokens-per-call", "rollback": {"above": "3000"}}
DRIFT = {"name": "model-drift", "rollback": {"above": "1%"}}
OTEL = {"TELEMETRY": "otel-genai"}

CASES = [
    Case(
        name="otel-genai: errors",
        fault="ERROR_RATE=0.6",
        policy={"source": "otel-genai", "metrics": [ERRORS, SLOW, DRIFT]},
        trigger="error-rate",
        says=r"is above 20\.0%",
        env={**OTEL, "OTEL_GENAI_TOKENS": "old"},
        live_only=True,
    ),
    Case(
        name="otel-genai: tokens as they were written",
        fault="TOKENS=9000",
        policy={"source": "otel-genai", "metrics": [ERRORS, TOKENS]},
        trigger="tokens-per-call",
        says=r"3,?000",
        env={**OTEL, "OTEL_GENAI_TOKENS": "old"},
    ),
    Case(
        name="otel-genai: tokens as they will be written",
        fault="TOKENS=9000",
        policy={"source": "otel-genai", "metrics": [ERRORS, TOKENS]},
        trigger="tokens-per-call",
        says=r"3,?000",
        env={**OTEL, "OTEL_GENAI_TOKENS": "new"},
    ),
    Case(
        name="envoy-gateway: errors",
        fault="ERROR_RATE=0.6",
        policy={"source": "envoy-gateway", "metrics": [ERRORS, SLOW]},
        trigger="error-rate",
        says=r"is above 20\.0%",
        live_only=True,
    ),
    Case(
        name="envoy-gateway: latency",
        fault="LATENCY_MS=1500",
        policy={"source": "envoy-gateway", "metrics": [ERRORS, SLOW]},
        trigger="latency-p95",
        says=r"\b1 ?s\b",
        live_only=True,
    ),
]


@pytest.fixture(scope="module")
def ended(lab: Lab, admin: Api, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ended]:
    return live(lab, admin, tmp_path_factory.mktemp("sources"), CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_fault_is_found_in_the_sources_series(ended: Mapping[str, Ended], case: Case) -> None:
    found = ended[case.name]
    assert (found.trigger, found.rolled_back) == (case.trigger, True), found
    assert re.search(case.says, found.message), found.message


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.live_only], ids=lambda case: case.name
)
def test_its_evidence_let_the_rehearsal_pass_and_the_canary_fail(
    ended: Mapping[str, Ended], case: Case
) -> None:
    assert list(ended[case.name].phases) == ["dark", "canary-40"]
