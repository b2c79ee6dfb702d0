"""gen_ai.* metrics of the OpenTelemetry conventions, through the SDK's Prometheus exporter.

Only loaded with TELEMETRY=otel-genai: the SDK costs start-up time.
"""

from __future__ import annotations

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry

from lab.agent.behaviour import Turn
from lab.agent.metrics import DURATION_BUCKETS
from lab.agent.settings import Settings

CALL_BUCKETS = tuple(0.01 * 2**n for n in range(14))
TOKEN_BUCKETS = tuple(float(4**n) for n in range(14))


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
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )
        self._tool = meter.create_histogram(
            "gen_ai.execute_tool.duration",
            unit="s",
            explicit_bucket_boundaries_advisory=CALL_BUCKETS,
        )
        names = ("input_tokens", "output_tokens")
        prefix = "gen_ai.client.inference.usage."
        self._input, self._output = (
            meter.create_counter(prefix + name, unit="{token}") for name in names
        )
        for counter in (self._input, self._output):
            counter.add(0, self._common | {"gen_ai.response.model": settings.model})

    def record(self, turn: Turn, seconds: float) -> None:
        """Record one finished request that took so long."""
        error = {"error.type": "_OTHER"} if turn.outcome == "error" else {}
        self._invoke.record(seconds, self._agent | error)
        answered = self._common | {"gen_ai.response.model": turn.model}
        for call in turn.model_calls:
            self._operation.record(call, answered | error)
        tokens = {"input": turn.input_tokens, "output": turn.output_tokens}
        for kind, count in tokens.items():
            self._usage.record(count, answered | {"gen_ai.token.type": kind})
        self._input.add(turn.input_tokens, answered)
        self._output.add(turn.output_tokens, answered)
        for tool in turn.tool_calls:
            failed = {"error.type": "_OTHER"} if tool.outcome == "error" else {}
            self._tool.record(tool.seconds, self._agent | {"gen_ai.tool.name": tool.tool} | failed)
