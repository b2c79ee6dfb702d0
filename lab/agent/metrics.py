"""The agent contract's Prometheus series. Who the agent is, the scrape's target labels say."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder

from lab.agent.behaviour import SAFETY_CATEGORIES, Turn
from lab.agent.settings import Settings

# OpenTelemetry's buckets for gen_ai.invoke_agent.duration, 0.1·2^n, and the edges that service
# levels are written with (0.25, 0.5, 1, 3, 10 s), finer below 0.1 s where the lab's agents live.
DURATION_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.4, 0.5, 0.8, 1.0, 1.6, 3.0, 3.2),
    *(6.4, 10.0, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
)
SCORE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class AgentMetrics:
    """The series of one agent process; every counter is there from the start, at 0."""

    def __init__(self, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self._settings = settings
        self._make()
        for outcome in ("success", "error", "escalated", "refused"):
            self._requests.labels(outcome)
        for kind in ("input", "output"):
            self._tokens.labels(kind)
        for category in SAFETY_CATEGORIES:
            self._flags.labels(category)
        for tool in settings.tools:
            for outcome in ("error", "dry_run" if settings.dry else "success"):
                self._tool_calls.labels(tool, outcome)
        for model in {settings.model, settings.faults.model or settings.model}:
            self._models.labels(model)

    def _make(self) -> None:
        own = self.registry
        self._requests = Counter("agent_requests", "Requests", ["outcome"], registry=own)
        self._seconds = Histogram(
            "agent_request_duration_seconds",
            "Time to answer",
            buckets=DURATION_BUCKETS,
            registry=own,
        )
        self._tokens = Counter("agent_tokens", "Model tokens", ["type"], registry=own)
        self._cost = Counter("agent_cost_usd", "Cost of model calls", registry=own)
        self._score = Histogram(
            "agent_eval_score", "Reviewer's score", buckets=SCORE_BUCKETS, registry=own
        )
        self._reviewed = Counter("agent_eval", "Answers reviewed", registry=own)
        self._passed = Counter("agent_eval_passed", "Answers found right", registry=own)
        self._flags = Counter("agent_safety_flags", "Safety flags", ["category"], registry=own)
        self._tool_calls = Counter(
            "agent_tool_calls", "Calls of tools", ["tool", "outcome"], registry=own
        )
        self._models = Counter(
            "agent_model_answers", "Answers by the model that gave them", ["model"], registry=own
        )

    def record(self, turn: Turn, seconds: float) -> None:
        """Count one finished request that took so long."""
        self._requests.labels(turn.outcome).inc()
        self._seconds.observe(seconds)
        self._tokens.labels("input").inc(turn.input_tokens)
        self._tokens.labels("output").inc(turn.output_tokens)
        self._cost.inc(turn.cost_usd)
        for call in turn.tool_calls:
            self._tool_calls.labels(call.tool, call.outcome).inc()
        if turn.outcome != "error":
            self._models.labels(turn.model).inc()
        if turn.safety_flag is not None:
            self._flags.labels(turn.safety_flag).inc()
        if turn.score is not None:
            self._score.observe(turn.score)
            self._reviewed.inc()
            self._passed.inc(1 if turn.passed else 0)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type: OpenMetrics where accepted, else text."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type
