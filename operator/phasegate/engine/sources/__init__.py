"""Well-known metrics and the series each source gives for them: data, one module per source."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from phasegate.engine.sources.agent_contract import AGENT_CONTRACT
from phasegate.engine.sources.agentgateway import AGENTGATEWAY
from phasegate.engine.sources.base import Source
from phasegate.engine.sources.envoy_gateway import ENVOY_GATEWAY
from phasegate.engine.sources.istio import ISTIO
from phasegate.engine.sources.linkerd import LINKERD
from phasegate.engine.sources.litellm import LITELLM
from phasegate.engine.sources.otel_genai import OTEL_GENAI
from phasegate.engine.sources.traefik import TRAEFIK

__all__ = ["AGENT_CONTRACT", "SOURCES"]

SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        "agent-contract": AGENT_CONTRACT,
        "otel-genai": OTEL_GENAI,
        "istio": ISTIO,
        "envoy-gateway": ENVOY_GATEWAY,
        "traefik": TRAEFIK,
        "linkerd": LINKERD,
        "litellm": LITELLM,
        "agentgateway": AGENTGATEWAY,
    }
)
