"""agentgateway, between the agent and its models: a call is a model call, not a user's request.

Whose a series is: labels that the administrator adds to its metrics by CEL (see docs/metrics.md).
Its own ``backend`` label is not on the series about tokens and money.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from phasegate.engine.amounts import Amount
from phasegate.engine.selectors import Matcher, Selector
from phasegate.engine.sources.base import (
    DriftSource,
    Identity,
    MeanSource,
    RatioSource,
    Source,
    latency,
    money,
    narrowed,
    volume,
)

_CALLS: Final = Selector("agentgateway_requests_total")
_LOOKUPS: Final = Selector("agentgateway_cost_catalog_lookups_total")
_SPENT: Final = Amount(
    ways=((Selector("agentgateway_gen_ai_client_cost_usd_total"),),),
    gaps=(narrowed(_LOOKUPS, Matcher("status", "!=", "Exact")),),
)

AGENTGATEWAY: Final = Source(
    emitter="agentgateway",
    checked="the documentation and source of agentgateway 1.4; not scraped",
    calls=_CALLS,
    metrics=MappingProxyType(
        {
            "error-rate": RatioSource(_CALLS, bad=narrowed(_CALLS, Matcher("status", "=~", "5.."))),
            # Without `_seconds` in its name, unlike the histogram of all requests.
            "model-drift": DriftSource(
                Selector("agentgateway_gen_ai_server_request_duration_count"),
                "gen_ai_response_model",
            ),
            **latency(Selector("agentgateway_request_duration_seconds")),
            # cached_input and reasoning are parts of these two.
            "tokens-per-call": MeanSource(
                Amount.of(
                    narrowed(
                        Selector("agentgateway_gen_ai_client_token_usage_sum"),
                        Matcher("gen_ai_token_type", "=~", "input|output"),
                    )
                ),
                Amount.of(_CALLS),
                unit="tokens",
            ),
            **money(_SPENT, _CALLS),
            **volume(_CALLS),
        }
    ),
    identity=Identity(
        labels=(
            ("agent_namespace", "{namespace}"),
            ("agent_name", "{agent}"),
            ("agent_revision", "{revision}"),
        ),
    ),
)
