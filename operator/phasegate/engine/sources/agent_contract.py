"""The agent's own series: docs/agent-contract.md."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.amounts import Amount
from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources.base import (
    DriftSource,
    EventSource,
    Identity,
    MeanSource,
    RatioSource,
    Source,
    latency,
    money,
    narrowed,
    volume,
)

_CALLS: Final = Selector("agent_requests_total")
_TOOL_CALLS: Final = Selector("agent_tool_calls_total")
_REVIEWED: Final = Selector("agent_eval_total")
_CONVERSATIONS: Final = Selector("agent_conversations_total")
_HANG_SECONDS: Final = 60.0
"""An agent that needs longer says so in its policy: `deadline`."""


def _outcome(of: Selector, outcome: str) -> Selector:
    return narrowed(of, Matcher("outcome", "=", outcome))


def _score(name: str) -> MeanSource:
    """A score from 0 to 5 that comes when somebody, or something, has looked at the answer."""
    total, count = Selector(f"{name}_sum"), Selector(f"{name}_count")
    return MeanSource(Amount.of(total), Amount.of(count), "below", top=5.0, late=True)


AGENT_CONTRACT: Final = Source(
    emitter="the agent itself (metrics contract v1alpha1)",
    checked="the lab's sample agent, scraped by Prometheus",
    calls=_CALLS,
    metrics=MappingProxyType(
        {
            "error-rate": RatioSource(_CALLS, bad=_outcome(_CALLS, "error")),
            "escalation-rate": RatioSource(_CALLS, bad=_outcome(_CALLS, "escalated")),
            "tool-error-rate": RatioSource(_TOOL_CALLS, bad=_outcome(_TOOL_CALLS, "error")),
            "hang-rate": RatioSource(
                Selector("agent_requests_started_total"), good=_CALLS, deadline=_HANG_SECONDS
            ),
            "accuracy": RatioSource(_REVIEWED, good=Selector("agent_eval_passed_total"), late=True),
            "hallucination-rate": RatioSource(
                _REVIEWED, bad=Selector("agent_hallucinations_total"), late=True
            ),
            "retrieval-accuracy": RatioSource(
                Selector("agent_retrievals_total"),
                good=Selector("agent_retrievals_relevant_total"),
                late=True,
            ),
            "model-drift": DriftSource(_CALLS, "model"),
            **latency(Selector("agent_request_duration_seconds")),
            "quality-score": _score("agent_eval_score"),
            "satisfaction": _score("agent_feedback_score"),
            **money(Amount.of(Selector("agent_cost_usd_total")), _CALLS),
            "tokens-per-call": MeanSource(
                Amount.of(Selector("agent_tokens_total")), Amount.of(_CALLS), unit="tokens"
            ),
            **volume(_CALLS),
            "safety-flags": EventSource(Selector("agent_safety_flags_total")),
        }
    ),
    conversations=MappingProxyType(
        {
            "error-rate": RatioSource(_CONVERSATIONS, bad=_outcome(_CONVERSATIONS, "error")),
            "escalation-rate": RatioSource(
                _CONVERSATIONS, bad=_outcome(_CONVERSATIONS, "escalated")
            ),
        }
    ),
    identity=Identity(
        labels=(
            ("namespace", "{namespace}"),
            ("agent", "{agent}"),
            ("revision", "{revision}"),
            ("mode", "{mode}"),
        )
    ),
)
