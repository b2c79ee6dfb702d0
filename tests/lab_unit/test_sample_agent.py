"""The sample agent: its behaviour, its faults, its metrics, its HTTP side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from statistics import mean
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from lab.agent.behaviour import Turn, decide
from lab.agent.faults import FaultError, Faults, parse
from lab.agent.metrics import DURATION_BUCKETS, AgentMetrics
from lab.agent.opinion import Review
from lab.agent.reviewing import reviewing
from lab.agent.server import Agent, Recorder
from lab.agent.settings import Settings, SettingsError, read
from lab.agent.telemetry import GenAiTelemetry

BASE = {
    "AGENT_REVISION": "0123456789",
    "AGENT_SYSTEM_PROMPT": "You help customers.",
    "AGENT_MODEL": "gpt-4o-2024-11-20",
    "AGENT_LATENCY_MS": "0",
}


def settings(**more: str) -> Settings:
    return read(BASE | more)


def turns(agent: Settings, count: int = 2000, faulty: bool = True) -> list[Turn]:
    return [decide(agent, f"s{n}", "Where is my order?", faulty) for n in range(count)]


def share(found: list[Turn], outcome: str) -> float:
    return sum(turn.outcome == outcome for turn in found) / len(found)


def test_the_same_question_gets_the_same_turn_and_the_seed_changes_it() -> None:
    agent = settings(FAULT_ERROR_RATE="0.5")
    assert turns(agent, 50) == turns(agent, 50)
    assert turns(agent, 50) != turns(settings(FAULT_ERROR_RATE="0.5", AGENT_SEED="2"), 50)
    assert turns(agent, 50) != turns(settings(AGENT_REVISION="x", FAULT_ERROR_RATE="0.5"), 50)


def test_a_revision_without_faults_is_good_but_not_perfect() -> None:
    found = turns(settings())
    assert share(found, "success") > 0.95
    assert 0 < share(found, "escalated") < 0.05
    assert not any(turn.safety_flag for turn in found)


@pytest.mark.parametrize(
    ("knob", "outcome"), [("FAULT_ERROR_RATE", "error"), ("FAULT_ESCALATION_RATE", "escalated")]
)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_outcome_rates_are_what_the_knob_says(knob: str, outcome: str, rate: float) -> None:
    calm = {"FAULT_ERROR_RATE": "0"} if knob != "FAULT_ERROR_RATE" else {}
    found = turns(settings(**{knob: str(rate), **calm}))
    assert share(found, outcome) == pytest.approx(rate, abs=0.04)


def test_every_other_knob_does_its_harm() -> None:
    flagged = turns(settings(FAULT_SAFETY_RATE="0.2"))
    assert sum(bool(t.safety_flag) for t in flagged) / 2000 == pytest.approx(0.2, abs=0.04)
    hanging = turns(settings(FAULT_HANG_RATE="0.2"))
    assert sum(t.hangs for t in hanging) / 2000 == pytest.approx(0.2, abs=0.04)
    tools = [c for t in turns(settings(FAULT_TOOL_ERROR_RATE="0.2")) for c in t.tool_calls]
    errors = sum(call.outcome == "error" for call in tools)
    assert errors / len(tools) == pytest.approx(0.2, abs=0.04)
    wrong = reviews(FAULT_WRONG_RATE="0.5")
    assert sum(r.passed for r in wrong) / len(wrong) == pytest.approx(0.5, abs=0.05)
    inventive = reviews(FAULT_HALLUCINATION_RATE="0.3")
    assert sum(r.made_up for r in inventive) / len(inventive) == pytest.approx(0.3, abs=0.05)
    retrievals = [r for t in turns(settings(FAULT_RETRIEVAL_RATE="0.4")) for r in t.relevant]
    assert sum(retrievals) / len(retrievals) == pytest.approx(0.6, abs=0.05)
    assert turns(settings(FAULT_MODEL="gpt-3"), 1)[0].model == "gpt-3"
    before, after = turns(settings(), 1)[0], turns(settings(FAULT_LATENCY_MS="250"), 1)[0]
    assert after.extra_seconds - before.extra_seconds == pytest.approx(0.25)


def reviews(**more: str) -> list[Review]:
    found = turns(settings(AGENT_EVAL_SHARE="1", **more))
    return [turn.review for turn in found if turn.review is not None]


def test_healthy_answers_are_liked_and_a_fault_sets_how_much() -> None:
    assert mean([r.score for r in reviews()]) > 4
    for wanted in (0.0, 2.5, 4.8):
        scores = [r.score for r in reviews(FAULT_SCORE=str(wanted))]
        assert mean(scores) == pytest.approx(wanted, abs=0.05)
        assert min(scores) >= 0
        assert max(scores) <= 5
    liked = [t.feedback for t in turns(settings()) if t.feedback is not None]
    assert mean(liked) > 3.5
    fed_up = [t.feedback for t in turns(settings(FAULT_SATISFACTION="2")) if t.feedback is not None]
    assert mean(fed_up) == pytest.approx(2, abs=0.1)


def test_a_slow_tail_leaves_the_others_alone() -> None:
    slow = turns(settings(FAULT_LATENCY_MS="900", FAULT_LATENCY_TAIL="0.1"))
    assert {turn.extra_seconds for turn in slow} == {0.0, 0.9}
    assert sum(turn.extra_seconds > 0 for turn in slow) / 2000 == pytest.approx(0.1, abs=0.03)


def test_cost_and_tokens_follow_prompt_model_and_knobs() -> None:
    base = turns(settings(), 1)[0]
    longer = turns(settings(AGENT_SYSTEM_PROMPT="You help customers." * 100), 1)[0]
    assert longer.input_tokens > base.input_tokens
    assert longer.cost_usd > base.cost_usd
    cheaper = turns(settings(AGENT_MODEL="gpt-4o-mini"), 1)[0]
    assert cheaper.cost_usd < base.cost_usd
    dear = turns(settings(FAULT_COST_USD="0.5", FAULT_TOKENS="1000"), 1)[0]
    assert dear.output_tokens == base.output_tokens + 1000
    assert dear.cost_usd == pytest.approx(base.cost_usd + 0.5 + 1000 * 10 / 1e6)


def test_one_fault_does_not_shift_the_chance_of_another() -> None:
    plain, faulty = turns(settings()), turns(settings(FAULT_ERROR_RATE="0.5"))
    assert [t.tool_calls for t in plain] == [t.tool_calls for t in faulty]
    assert [t.output_tokens for t in plain] == [t.output_tokens for t in faulty]


def test_a_revision_is_healthy_before_its_faults_begin() -> None:
    agent = settings(FAULT_ERROR_RATE="1", FAULT_AFTER_S="10")
    assert share(turns(agent, faulty=False), "error") < 0.02
    assert share(turns(agent), "error") == 1


@pytest.mark.parametrize("mode", ["dark", "shadow"])
def test_tools_run_dry_in_rehearsal_and_still_show_errors(mode: str) -> None:
    found = turns(settings(AGENT_MODE=mode, FAULT_TOOL_ERROR_RATE="0.2"))
    outcomes = {call.outcome for turn in found for call in turn.tool_calls}
    assert outcomes == {"dry_run", "error"}
    live = {call.outcome for turn in turns(settings()) for call in turn.tool_calls}
    assert live == {"success", "error"}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Be kind. degrade: ERROR_RATE=0.3", Faults(error_rate=0.3)),
        ("degrade: FAULT_ERROR_RATE=0.3.", Faults(error_rate=0.3)),
        ("Degrade: wrong_rate = 0.5; degrade: TOKENS=20", Faults(wrong_rate=0.5, tokens=20)),
        ("degrade: MODEL=gpt-4o-mini", Faults(model="gpt-4o-mini")),
        ("Never degrade the customer.", Faults()),
    ],
)
def test_a_prompt_can_carry_faults(prompt: str, expected: Faults) -> None:
    assert parse({}, prompt) == expected


def test_the_prompt_wins_over_the_environment() -> None:
    assert parse({"FAULT_ERROR_RATE": "0.1"}, "degrade: ERROR_RATE=0.2").error_rate == 0.2


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FAULT_EROR_RATE": "1"}, "FAULT_EROR_RATE: there is no such fault.*FAULT_ERROR_RATE"),
        ({"FAULT_ERROR_RATE": "30"}, "between 0 and 1"),
        ({"FAULT_ERROR_RATE": "30%"}, "must be a number"),
        ({"FAULT_LATENCY_MS": "-1"}, "must be a number, 0 or more"),
        ({"FAULT_LATENCY_TAIL": "2"}, "between 0 and 1"),
        ({"FAULT_SCORE": "5.5"}, "a mean of scores, between 0 and 5"),
        ({"FAULT_TOKENS": "nan"}, "must be a number"),
    ],
)
def test_a_wrong_fault_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(FaultError, match=words):
        parse(environ, "")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AGENT_MODE": "test"}, "AGENT_MODE=test"),
        ({"OTEL_GENAI_TOKENS": "all"}, "OTEL_GENAI_TOKENS=all: must be one of both, old, new"),
        ({"AGENT_TOOLS": "[{]"}, "AGENT_TOOLS is not JSON"),
        ({"AGENT_TOOLS": '["crm"]'}, 'objects with a "name"'),
        ({"AGENT_MODEL_PARAMETERS": "[]"}, "must be a JSON object"),
        ({"AGENT_PORT": "http"}, "AGENT_PORT=http"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read(environ)


def test_what_the_operator_stamps_is_read() -> None:
    agent = read(
        {
            "AGENT_MODEL_PARAMETERS": '{"temperature": "1.2"}',
            "AGENT_TOOLS": '[{"name": "crm", "digest": "sha256:1"}]',
            "AGENT_SYSTEM_PROMPT": "x",
        }
    )
    assert agent.temperature == 1.2
    assert agent.tools == ("crm",)
    assert len(agent.revision) == 10


def samples(agent: Settings, metrics: AgentMetrics) -> dict[str, float]:
    text, content_type = metrics.expose("")
    assert content_type.startswith("text/plain")
    return {
        f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}": s.value
        for family in text_string_to_metric_families(text.decode())
        for s in family.samples
    }


def test_every_counter_of_the_contract_is_there_at_zero() -> None:
    agent = settings(FAULT_MODEL="gpt-3", AGENT_TOOLS='[{"name": "crm"}]')
    values = samples(agent, AgentMetrics(agent))
    outcomes = ("success", "error", "escalated", "refused")
    models = ("gpt-3", "gpt-4o-2024-11-20")
    wanted = [
        *(f"agent_requests_total{{model={m},outcome={o}}}" for o in outcomes for m in models),
        *(f"agent_conversations_total{{outcome={o}}}" for o in outcomes),
        *(f"agent_tokens_total{{model={m},type={t}}}" for m in models for t in ("input", "output")),
        "agent_requests_started_total{}",
        "agent_cost_usd_total{}",
        "agent_eval_total{}",
        "agent_eval_passed_total{}",
        "agent_eval_score_sum{}",
        "agent_eval_score_count{}",
        "agent_feedback_score_sum{}",
        "agent_feedback_score_count{}",
        "agent_hallucinations_total{}",
        "agent_retrievals_total{}",
        "agent_retrievals_relevant_total{}",
        "agent_safety_flags_total{category=pii}",
        "agent_tool_calls_total{outcome=error,tool=crm}",
        "agent_tool_calls_total{outcome=success,tool=crm}",
        "agent_request_duration_seconds_count{}",
    ]
    assert {name: values[name] for name in wanted} == dict.fromkeys(wanted, 0.0)


def test_duration_buckets_have_opentelemetrys_edges_and_those_of_service_levels() -> None:
    otel = {round(0.1 * 2**n, 1) for n in range(13)}
    assert otel | {0.05, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0} <= set(DURATION_BUCKETS)


def test_no_regression_hides_between_two_edges() -> None:
    edges = [edge for edge in DURATION_BUCKETS if 0.1 <= edge <= 10]
    assert all(after <= before * 1.2501 for before, after in pairwise(edges))


@asynccontextmanager
async def serving(agent: Settings) -> AsyncIterator[TestClient[Any, Any]]:
    metrics = AgentMetrics(agent)
    recorders: list[Recorder] = [metrics, GenAiTelemetry(agent, metrics.registry)]
    async with reviewing(agent, metrics) as reviewer:
        application = Agent(agent, metrics, recorders, reviewer).application()
        async with TestClient(TestServer(application)) as client:
            yield client


async def metric(client: TestClient[Any, Any], name: str) -> float:
    text = await (await client.get("/metrics")).text()
    found = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
    return sum(map(float, found))


async def test_a_chat_is_answered_and_counted() -> None:
    async with serving(settings(FAULT_ERROR_RATE="0", AGENT_EVAL_SHARE="1")) as client:
        answers = []
        for number in range(20):
            body = {"session": "s", "message": f"question {number}"}
            response = await client.post("/v1/chat", json=body)
            assert response.status == 200
            answers.append(await response.json())
        assert {frozenset(answer) for answer in answers} == {
            frozenset({"answer", "revision", "outcome"})
        }
        assert {answer["revision"] for answer in answers} == {"0123456789"}
        assert await metric(client, "agent_requests_total") == 20
        assert await metric(client, "agent_request_duration_seconds_count") == 20
        assert await metric(client, "agent_cost_usd_total") > 0
        assert await metric(client, "agent_eval_total") > 10
        assert await metric(client, "gen_ai_invoke_agent_duration_seconds_count") == 20


async def test_an_error_is_a_500_with_the_revision() -> None:
    async with serving(settings(FAULT_ERROR_RATE="1")) as client:
        headers = {"x-session-id": "s", "x-agent-revision": "the-primary"}
        response = await client.post("/v1/chat", json={"message": "hi"}, headers=headers)
        assert response.status == 500
        answer = await response.json()
        assert (answer["outcome"], answer["revision"]) == ("error", "0123456789")
        assert (
            await metric(client, 'agent_requests_total{model="gpt-4o-2024-11-20",outcome="error"}')
            == 1
        )


async def test_a_hanging_request_ends_as_an_error_after_its_time() -> None:
    async with serving(settings(FAULT_HANG_RATE="1", AGENT_HANG_S="0.05")) as client:
        async with asyncio.timeout(5):
            response = await client.post("/v1/chat", json={"message": "hi"})
        assert response.status == 500
        assert await metric(client, "agent_requests_total{") == 1


async def test_what_hangs_has_begun_and_is_not_answered() -> None:
    async with serving(settings(FAULT_HANG_RATE="1")) as client:
        asking = asyncio.create_task(client.post("/v1/chat", json={"message": "hi"}))
        async with asyncio.timeout(5):
            while await metric(client, "agent_requests_started_total") == 0:
                pass
        assert await metric(client, "agent_requests_total{") == 0
        asking.cancel()


async def ask(client: TestClient[Any, Any], count: int) -> None:
    for number in range(count):
        body = {"session": f"s{number % 2}", "message": f"question {number}"}
        await client.post("/v1/chat", json=body)


@pytest.mark.parametrize(("which", "old", "new"), [("old", 1, 0), ("new", 0, 1), ("both", 1, 1)])
async def test_token_metrics_follow_either_convention(which: str, old: int, new: int) -> None:
    agent = settings(OTEL_GENAI_TOKENS=which, AGENT_TOOLS='[{"name": "crm"}]')
    async with serving(agent) as client:
        await ask(client, 1)
        before = await metric(client, "gen_ai_client_token_usage_count")
        after = await metric(client, "gen_ai_client_inference_usage_output_tokens_total")
        assert (before > 0, after > 0) == (bool(old), bool(new))


@pytest.mark.parametrize("body", ["", "{}", "[]", '"x"', '{"message": 1}', '{"session": "s"}'])
async def test_a_malformed_request_is_told_what_is_wanted(body: str) -> None:
    async with serving(settings()) as client:
        response = await client.post("/v1/chat", data=body)
        assert response.status == 400
        assert "message" in (await response.json())["error"]
        assert await metric(client, "agent_requests_total") == 0


async def test_health_follows_the_fault() -> None:
    async with serving(settings()) as client:
        assert (await client.get("/healthz")).status == 200
    async with serving(settings(FAULT_NOT_READY="1")) as client:
        assert (await client.get("/healthz")).status == 503


async def test_metrics_are_open_metrics_for_those_who_ask() -> None:
    async with serving(settings()) as client:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        response = await client.get("/metrics", headers=accept)
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await response.text()).endswith("# EOF\n")


@pytest.mark.parametrize(("mode", "status"), [("dark", 200), ("shadow", 200), ("live", 500)])
async def test_a_fault_may_show_only_with_real_users(mode: str, status: int) -> None:
    agent = settings(AGENT_MODE=mode, FAULT_ERROR_RATE="1", FAULT_LIVE_ONLY="1")
    async with serving(agent) as client:
        # A question that a healthy agent answers well.
        response = await client.post("/v1/chat", json={"session": "s", "message": "hi"})
        assert response.status == status


async def test_a_benchmark_can_make_it_fail_while_it_runs() -> None:
    async with serving(settings(AGENT_FAULT_CONTROL="1")) as client:
        assert (await client.post("/v1/chat", json={"message": "hi"})).status == 200
        changed = await client.post("/fault", json={"error_rate": 1})
        assert (await changed.json())["error_rate"] == 1
        assert (await client.post("/v1/chat", json={"message": "hi"})).status == 500
        await client.post("/fault", json={})
        assert (await client.post("/v1/chat", json={"message": "hi"})).status == 200


@pytest.mark.parametrize("body", ["[]", "x", '{"EROR_RATE": "1"}', '{"ERROR_RATE": "2"}'])
async def test_a_wrong_fault_changes_nothing(body: str) -> None:
    async with serving(settings(AGENT_FAULT_CONTROL="1")) as client:
        assert (await client.post("/fault", data=body)).status == 400
        assert (await client.post("/v1/chat", json={"message": "hi"})).status == 200


async def test_nobody_changes_the_faults_of_an_ordinary_agent() -> None:
    async with serving(settings()) as client:
        assert (await client.post("/fault", json={"ERROR_RATE": "1"})).status == 404
