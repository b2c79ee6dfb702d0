"""LiteLLM's proxy, between the agent and its models: a call is a model call, not a user's request.

Whose a series is: the virtual key, one for each agent, which the proxy checks; and the revision,
which the agent sends with its calls as metadata (see docs/metrics.md).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.amounts import Amount
from phasegate.engine.selectors import Selector
from phasegate.engine.sources.base import (
    DriftSource,
    Identity,
    MeanSource,
    RatioSource,
    Source,
    latency,
    money,
    volume,
)

_CALLS: Final = Selector("litellm_proxy_total_requests_metric_total")
_SPENT: Final = Amount(
    ways=((Selector("litellm_spend_metric_total"),),),
    gaps=(Selector("litellm_zero_cost_requests_total"),),
)

LITELLM: Final = Source(
    emitter="LiteLLM proxy",
    checked="the documentation of LiteLLM's proxy as of 2026-10 (proxy/prometheus); not scraped",
    calls=_CALLS,
    metrics=MappingProxyType(
        {
            "error-rate": RatioSource(
                _CALLS, bad=Selector("litellm_proxy_failed_requests_metric_total")
            ),
            "model-drift": DriftSource(
                Selector("litellm_deployment_success_responses_total"), "litellm_model_name"
            ),
            **latency(Selector("litellm_request_total_latency_metric")),
            "tokens-per-call": MeanSource(
                Amount.of(Selector("litellm_total_tokens_metric_total")),
                Amount.of(_CALLS),
                unit="tokens",
            ),
            **money(_SPENT, _CALLS),
            **volume(_CALLS),
        }
    ),
    identity=Identity(
        labels=(
            ("api_key_alias", "{namespace}/{agent}"),
            ("metadata_agent_revision", "{revision}"),
        ),
    ),
)
