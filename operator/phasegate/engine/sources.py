"""Well-known metrics and the series each source gives for them: data, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from phasegate.engine.selectors import Matcher, Selector


@dataclass(frozen=True, slots=True)
class RatioSource:
    """Calls of which some are bad. Given `good` instead of `bad`, the rest is bad."""

    total: Selector
    bad: Selector | None = None
    good: Selector | None = None


@dataclass(frozen=True, slots=True)
class EventSource:
    """A counter of which one increment is one too many."""

    counter: Selector


@dataclass(frozen=True, slots=True)
class Source:
    """A preset: who emits it, what counts calls, and the series of each well-known metric."""

    emitter: str
    calls: Selector
    metrics: Mapping[str, RatioSource | EventSource]


_CALLS: Final = Selector("agent_requests_total")
_TOOL_CALLS: Final = Selector("agent_tool_calls_total")

AGENT_CONTRACT: Final = Source(
    emitter="the agent itself (metrics contract v1alpha1)",
    calls=_CALLS,
    metrics=MappingProxyType(
        {
            "error-rate": RatioSource(
                total=_CALLS, bad=Selector(_CALLS.name, (Matcher("outcome", "=", "error"),))
            ),
            "escalation-rate": RatioSource(
                total=_CALLS, bad=Selector(_CALLS.name, (Matcher("outcome", "=", "escalated"),))
            ),
            "accuracy": RatioSource(
                total=Selector("agent_eval_total"), good=Selector("agent_eval_passed_total")
            ),
            "tool-error-rate": RatioSource(
                total=_TOOL_CALLS,
                bad=Selector(_TOOL_CALLS.name, (Matcher("outcome", "=", "error"),)),
            ),
            "safety-flags": EventSource(Selector("agent_safety_flags_total")),
        }
    ),
)

SOURCES: Final[Mapping[str, Source]] = MappingProxyType({"agent-contract": AGENT_CONTRACT})
