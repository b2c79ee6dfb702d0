"""The agent contract's Prometheus series. Who the agent is, the scrape's target labels say."""

from __future__ import annotations

from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder

from lab.agent.behaviour import SAFETY_CATEGORIES, Turn
from lab.agent.opinion import Outcome, Review
from lab.agent.settings import Settings

# OpenTelemetry's buckets for gen_ai.invoke_agent.duration, 0.1·2^n, and the edges that service
# levels are written with (0.25, 0.5, 1, 2, 3, 5, 10 s). A regression between two edges cannot be
# seen: none is more than 1.25 times the one before from 0.1 to 10 s, where agents live.
DURATION_BUCKETS = (
    *(0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3),
    *(0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 1.6, 2.0, 2.5, 3.0, 3.2, 4.0, 5.0, 6.0, 6.4),
    *(8.0, 10.0, 12.8, 15.0, 20.0, 25.6, 30.0, 51.2, 60.0, 102.4, 204.8, 409.6),
)
Metric = TypeVar("Metric", Counter, Histogram)
SCORE_BUCKETS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)


class ReviewMetrics:
    """The series of reviewed answers; `labels` say whose, where it is not the process's own."""

    def __init__(self, registry: CollectorRegistry, labels: tuple[str, ...] = ()) -> None:
        self._reviewed = Counter("agent_eval", "Answers reviewed", labels, registry=registry)
        self._passed = Counter(
            "agent_eval_passed", "Answers found right", labels, registry=registry
        )
        self._made_up = Counter(
            "agent_hallucinations", "Reviewed answers with inventions", labels, registry=registry
        )
        self._score = Histogram(
            "agent_eval_score", "Reviewer's score, 0 to 5", labels,
            buckets=SCORE_BUCKETS, registry=registry,
        )  # fmt: skip

    def count(self, review: Review, *whose: str) -> None:
        """Count one review, of the revision that the label values name."""
        _of(self._reviewed, whose).inc()
        _of(self._passed, whose).inc(review.passed)
        _of(self._made_up, whose).inc(review.made_up)
        _of(self._score, whose).observe(review.score)


def _of(metric: Metric, whose: tuple[str, ...]) -> Metric:
    return metric.labels(*whose) if whose else metric


class AgentMetrics:
    """The series of one agent process; every counter is there from the start, at 0.

    Only the series of reviews are not, where another process counts them.
    """

    def __init__(self, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self._make()
        reviews_here = not settings.evaluator_url
        self._reviews = ReviewMetrics(self.registry) if reviews_here else None
        for model in {settings.model, settings.faults.model or settings.model}:
            for outcome in get_args(Outcome):
                self._requests.labels(outcome, model)
            for kind in ("input", "output"):
                self._tokens.labels(kind, model)
        for outcome in get_args(Outcome):
            self._conversations.labels(outcome)
        for category in SAFETY_CATEGORIES:
            self._flags.labels(category)
        for tool in settings.tools:
            for outcome in ("error", "dry_run" if settings.dry else "success"):
                self._tool_calls.labels(tool, outcome)

    def _make(self) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, buckets=buckets, registry=self.registry)

        self._started = counter("agent_requests_started", "Requests taken on")
        self._requests = counter("agent_requests", "Requests answered", "outcome", "model")
        self._seconds = histogram(
            "agent_request_duration_seconds", "Time to answer", DURATION_BUCKETS
        )
        self._tokens = counter("agent_tokens", "Model tokens", "type", "model")
        self._cost = counter("agent_cost_usd", "Cost of model calls")
        self._flags = counter("agent_safety_flags", "Safety flags", "category")
        self._tool_calls = counter("agent_tool_calls", "Calls of tools", "tool", "outcome")
        self._retrievals = counter("agent_retrievals", "Looks into the knowledge base")
        self._relevant = counter("agent_retrievals_relevant", "Those that brought something")
        self._feedback = histogram("agent_feedback_score", "Users' feedback, 0 to 5", SCORE_BUCKETS)
        self._conversations = counter("agent_conversations", "Conversations ended", "outcome")

    def began(self) -> None:
        """Count a request that is taken on."""
        self._started.inc()

    def record(self, turn: Turn, seconds: float) -> None:
        """Count one finished request that took so long."""
        self._requests.labels(turn.outcome, turn.model).inc()
        self._seconds.observe(seconds)
        self._tokens.labels("input", turn.model).inc(turn.input_tokens)
        self._tokens.labels("output", turn.model).inc(turn.output_tokens)
        self._cost.inc(turn.cost_usd)
        for call in turn.tool_calls:
            self._tool_calls.labels(call.tool, call.outcome).inc()
        self._retrievals.inc(len(turn.relevant))
        self._relevant.inc(sum(turn.relevant))
        if turn.safety_flag is not None:
            self._flags.labels(turn.safety_flag).inc()
        if turn.feedback is not None:
            self._feedback.observe(turn.feedback)

    def count(self, review: Review) -> None:
        """Count one review. Only where no other process does."""
        assert self._reviews is not None, "the evaluator counts reviews"
        self._reviews.count(review)

    def conversation(self, outcome: Outcome) -> None:
        """Count a conversation that is over."""
        self._conversations.labels(outcome).inc()

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type: OpenMetrics where accepted, else text."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type
