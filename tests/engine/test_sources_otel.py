"""The otel-genai preset (and the agent contract) on what a real process exposes.

The sample agent runs OpenTelemetry's Python SDK with its Prometheus exporter.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import pytest
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck
from phasegate.engine.sources import SOURCES

from tests.engine.scraped import PINNED, Sample, checked, counted, parse

CALLS = 60
BAD = {"FAULT_ERROR_RATE": "0.3", "FAULT_ESCALATION_RATE": "0.2", "FAULT_TOOL_ERROR_RATE": "0.5"}


class Seen(NamedTuple):
    """What users got, and what was scraped."""

    outcomes: Counter[str]
    samples: list[Sample]


@contextmanager
def agent(**environment: str) -> Iterator[httpx.Client]:
    """A sample agent as a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "AGENT_PORT": str(port),
        "AGENT_NAME": "support",
        "AGENT_REVISION": "bbbbbbbbbb",
        "AGENT_MODEL": PINNED,
        "AGENT_LATENCY_MS": "0",
        "AGENT_EVAL_SHARE": "1",
        "AGENT_FEEDBACK_SHARE": "1",
        "AGENT_CONVERSATION_IDLE_S": "0.01",
        "AGENT_DRAIN_S": "0",
        "TELEMETRY": "otel-genai",
        **environment,
    }
    process = subprocess.Popen([sys.executable, "-m", "lab.agent"], env={**os.environ, **settings})
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            while not _healthy(client):
                assert process.poll() is None
            yield client
    finally:
        process.terminate()
        process.wait()


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def used(**environment: str) -> Seen:
    """An agent, after some calls."""
    with agent(**environment) as client:
        outcomes = Counter(
            client.post(
                "/v1/chat", json={"session": f"s{n % 5}", "message": f"Where is order {n}?"}
            ).json()["outcome"]
            for n in range(CALLS)
        )
        return Seen(outcomes, parse(client.get("/metrics").text))


@pytest.fixture(scope="module")
def bad() -> Seen:
    return used(**BAD, OTEL_GENAI_TOKENS="both", FAULT_MODEL="gpt-4o-mini")


def rate(name: str, seen: Seen) -> tuple[float, float]:
    check = checked(name, "otel-genai")
    assert isinstance(check, RatioCheck)
    parts = counted(check, seen.samples)
    return parts[str(check.bad)], parts[str(check.total)]


def test_errors_are_those_that_users_saw(bad: Seen) -> None:
    assert bad.outcomes["error"] > 5
    assert rate("error-rate", bad) == (bad.outcomes["error"], CALLS)


def test_escalations_are_calls_of_the_tool_that_hands_over_to_a_person(bad: Seen) -> None:
    assert bad.outcomes["escalated"] > 2
    assert rate("escalation-rate", bad) == (bad.outcomes["escalated"], CALLS)


def test_tools_that_fail_are_told_from_those_that_do_not(bad: Seen) -> None:
    failed, all_of_them = rate("tool-error-rate", bad)
    assert 0 < failed < all_of_them


def test_the_model_that_answered_is_not_the_pinned_one(bad: Seen) -> None:
    drifted, answered = rate("model-drift", bad)
    assert drifted == answered > 0


def test_the_pinned_model_is_no_drift() -> None:
    drifted, answered = rate("model-drift", used(OTEL_GENAI_TOKENS="new"))
    assert drifted == 0 < answered


@pytest.mark.parametrize("name", ["latency-p50", "latency-p95", "latency-p99"])
def test_every_call_is_in_the_histogram_whose_edges_are_seconds(name: str, bad: Seen) -> None:
    check = checked(name, "otel-genai")
    assert isinstance(check, QuantileCheck)
    parts = counted(check, bad.samples)
    assert parts["gen_ai_invoke_agent_duration_seconds|inf"] == CALLS
    assert "gen_ai_invoke_agent_duration_seconds|3.0" in parts


def test_old_new_and_both_names_of_tokens_are_the_same_tokens() -> None:
    check = checked("tokens-per-call", "otel-genai")
    cost = checked("cost-per-call", "otel-genai")
    assert isinstance(check, MeanCheck)
    assert isinstance(cost, MeanCheck)
    found = []
    for way in ("old", "new", "both"):
        seen = used(OTEL_GENAI_TOKENS=way, FAULT_ERROR_RATE="0", AGENT_SEED="1")
        names = {sample.name for sample in seen.samples}
        assert ("gen_ai_client_token_usage_sum" in names) == (way != "new")
        assert ("gen_ai_client_inference_usage_input_tokens_total" in names) == (way != "old")
        parts, priced = counted(check, seen.samples), counted(cost, seen.samples)
        assert check.count.value(parts, 0.0) == CALLS
        assert cost.sum.unknown(priced, 0.0) == ()
        found.append((check.sum.value(parts, 0.0), cost.sum.value(priced, 0.0)))
    tokens, money = found[0]
    assert [way[0] for way in found] == [tokens] * 3
    assert [way[1] for way in found] == pytest.approx([money] * 3)
    assert tokens * 2.5e-6 < money < tokens * 1e-5


def test_a_model_without_a_price_is_named(bad: Seen) -> None:
    cost = checked("cost-per-call", "otel-genai")
    assert isinstance(cost, MeanCheck)
    assert cost.sum.unknown(counted(cost, bad.samples), 0.0) == ("gpt-4o-mini",)


@pytest.mark.parametrize("name", SOURCES["agent-contract"].metrics)
def test_the_same_agent_has_every_series_of_the_contract(name: str, bad: Seen) -> None:
    check = checked(name, "agent-contract")
    names = {sample.name for sample in bad.samples}
    # A histogram is read in both notations; this one has the classic.
    wanted = {s.name for s in check.selectors()} - {"agent_request_duration_seconds"}
    assert wanted <= names
    assert counted(check, bad.samples)
