"""gen_ai.* metrics of the OpenTelemetry conventions, through the SDK's Prometheus exporter.

Of tokens there are two: the histogram gen_ai.client.token.usage, which instrumentations in the field
write, and the counters gen_ai.client.inference.usage.*, which replace it (OTEL_GENAI_TOKENS=old,
new or both). Only loaded with TELEMETRY=otel-genai: the SDK costs start-up time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry

from lab.agent.behaviour import Turn
from lab.agent.metrics import DURATION_BUCKETS
from lab.agent.settings import Settings

CALL_BUCKETS = tuple(0.01 * 2**n for n in range(14))
TOKEN_BUCKETS = tuple(float(4**n) for n in range(14))
HANDOFF = "handoff_to_human"
"""The tool by which an agent escalates: the conventions have no metric for that."""

Attributes = Mapping[str, str]


class GenAiTelemetry:
    """The instruments that an instrumented agent framework records."""

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        self._common = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": settings.provider,
            "gen_ai.request.model": settings.model,
        }
        self._agent = {"gen_ai.agent.name": settings.name}
        # Resource.create reads OTEL_RESOURCE_ATTRIBUTES: the revision is there, in target_info.
        reader = PrometheusMetricReader(registry=registry)
        self._provider = MeterProvider(metric_readers=[reader], resource=Resource.create())
        meter = self._provider.get_meter("phasegate.lab.agent")
        self._invoke = meter.create_histogram(
            "gen_ai.invoke_agent.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._operation = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=CALL_BUCKETS,
        )
        self._tool = meter.create_histogram(
            "gen_ai.execute_tool.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=CALL_BUCKETS,
        )
        self._tokens = _tokens(meter, settings.otel_tokens)
        for token in self._tokens:
            token.begin(self._common | {"gen_ai.response.model": settings.model})

    def record(self, turn: Turn, seconds: float) -> None:
        """Record one finished request that took so long."""
        kind = "timeout" if turn.hangs else "_OTHER"
        error = {"error.type": kind} if turn.outcome == "error" else {}
        self._invoke.record(seconds, self._agent | error)
        answered = self._common | {"gen_ai.response.model": turn.model}
        for call in turn.model_calls:
            self._operation.record(call, answered | error)
        for token in self._tokens:
            token.record(turn, answered)
        for tool in turn.tool_calls:
            failed = {"error.type": "_OTHER"} if tool.outcome == "error" else {}
            self._tool.record(tool.seconds, self._agent | {"gen_ai.tool.name": tool.tool} | failed)
        if turn.outcome == "escalated":
            self._tool.record(0.0, self._agent | {"gen_ai.tool.name": HANDOFF})


class _Tokens(Protocol):
    """One way of writing down tokens."""

    def begin(self, attributes: Attributes) -> None:
        """Let the series be there from the start, where that is possible."""

    def record(self, turn: Turn, attributes: Attributes) -> None:
        """Record the tokens of one request."""


def _tokens(meter: Meter, which: str) -> list[_Tokens]:
    ways: dict[str, type[_Histogram] | type[_Counters]] = {"old": _Histogram, "new": _Counters}
    return [make(meter) for name, make in ways.items() if which in (name, "both")]


class _Histogram:
    """gen_ai.client.token.usage, by gen_ai.token.type."""

    def __init__(self, meter: Meter) -> None:
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )

    def begin(self, attributes: Attributes) -> None:
        """A histogram begins with its first value."""

    def record(self, turn: Turn, attributes: Attributes) -> None:
        for kind, count in (("input", turn.input_tokens), ("output", turn.output_tokens)):
            self._usage.record(count, {**attributes, "gen_ai.token.type": kind})


class _Counters:
    """gen_ai.client.inference.usage.input_tokens and .output_tokens."""

    def __init__(self, meter: Meter) -> None:
        prefix = "gen_ai.client.inference.usage."
        self._input = meter.create_counter(prefix + "input_tokens", unit="{token}")
        self._output = meter.create_counter(prefix + "output_tokens", unit="{token}")

    def begin(self, attributes: Attributes) -> None:
        self._input.add(0, attributes)
        self._output.add(0, attributes)

    def record(self, turn: Turn, attributes: Attributes) -> None:
        self._input.add(turn.input_tokens, attributes)
        self._output.add(turn.output_tokens, attributes)
