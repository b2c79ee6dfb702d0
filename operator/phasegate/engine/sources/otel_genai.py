"""OpenTelemetry's GenAI conventions, from the agent's own SDK.

All of ``gen_ai.*`` is in Development: names change. Tokens are written in two ways (the histogram
``gen_ai.client.token.usage``, older, and counters, newer); both are read, and where an agent writes
both the larger counts.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.amounts import Amount
from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources.agent_contract import AGENT_CONTRACT
from phasegate.engine.sources.base import (
    DriftSource,
    MeanSource,
    RatioSource,
    Source,
    Tokens,
    latency,
    money,
    narrowed,
    volume,
)

_INVOKE: Final = "gen_ai_invoke_agent_duration_seconds"
_CALLS: Final = Selector(f"{_INVOKE}_count")
_TOOL_CALLS: Final = Selector("gen_ai_execute_tool_duration_seconds_count")
_MODEL_CALLS: Final = Selector("gen_ai_client_operation_duration_seconds_count")
_USAGE: Final = Selector("gen_ai_client_token_usage_sum")
_INFERENCE: Final = "gen_ai_client_inference_usage"
_HANDOFFS: Final = narrowed(_TOOL_CALLS, Matcher("gen_ai_tool_name", "=", "handoff_to_human"))
_FAILED: Final = Matcher("error_type", "!=", "")

TOKENS: Final = Tokens(
    ways=(
        (
            ("input", narrowed(_USAGE, Matcher("gen_ai_token_type", "=", "input"))),
            ("output", narrowed(_USAGE, Matcher("gen_ai_token_type", "=", "output"))),
        ),
        (
            ("input", Selector(f"{_INFERENCE}_input_tokens_total")),
            ("output", Selector(f"{_INFERENCE}_output_tokens_total")),
        ),
    ),
    model="gen_ai_response_model",
)

OTEL_GENAI: Final = Source(
    emitter="an agent or agent framework with OpenTelemetry's GenAI conventions",
    checked="opentelemetry-sdk 1.45.2 with opentelemetry-exporter-prometheus 0.66b2, scraped; "
    "names of semantic-conventions-genai 1.42.0-dev, and the older gen_ai.client.token.usage",
    calls=_CALLS,
    metrics=MappingProxyType(
        {
            "error-rate": RatioSource(_CALLS, bad=narrowed(_CALLS, _FAILED)),
            # The conventions do not know escalation: an agent hands over to a person by a tool.
            "escalation-rate": RatioSource(_CALLS, bad=_HANDOFFS),
            "tool-error-rate": RatioSource(_TOOL_CALLS, bad=narrowed(_TOOL_CALLS, _FAILED)),
            "model-drift": DriftSource(_MODEL_CALLS, "gen_ai_response_model"),
            **latency(Selector(_INVOKE)),
            "tokens-per-call": MeanSource(TOKENS.amount(), Amount.of(_CALLS), unit="tokens"),
            **money(TOKENS, _CALLS),
            **volume(_CALLS),
        }
    ),
    # The conventions put no revision on metrics; the scrape does, as it does for the contract.
    identity=AGENT_CONTRACT.identity,
)
