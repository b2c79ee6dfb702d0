"""What an agent is: read from the environment that the operator stamps on its pods."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.agent.faults import Faults, parse
from lab.errors import LabError

MODES = ("live", "dark", "shadow")
DEFAULT_TOOLS = ("crm_lookup", "ticket_create")


class SettingsError(LabError):
    """An environment variable the agent cannot make sense of."""


@dataclass(frozen=True)
class Settings:
    """One revision of the agent, in one mode, and how it is served.

    `latency_ms`: typical time of one model call, None: the model's own. `eval_share`: share of
    answers that the simulated reviewer looks at, `eval_delay_s`: how long that takes,
    `evaluator_url`: the process that counts it (`lab.agent.evaluator`), empty: the agent itself.
    `feedback_share`: share of answers that users give a score. `idle_s`: silence after which a
    conversation is over. `otel_tokens`: which of OpenTelemetry's token metrics are written, `old`,
    `new` or `both`. `drain_s`: how long it goes on serving after
    SIGTERM, for clients that have not heard yet. `fault_control`: whether POST /fault changes its
    faults while it runs.
    """

    revision: str
    mode: str
    name: str
    prompt: str
    provider: str
    model: str
    temperature: float
    tools: tuple[str, ...]
    faults: Faults
    seed: str
    port: int
    latency_ms: float | None
    eval_share: float
    eval_delay_s: float
    evaluator_url: str
    feedback_share: float
    idle_s: float
    hang_s: float
    drain_s: float
    telemetry: str
    otel_tokens: str
    fault_control: bool

    @property
    def dry(self) -> bool:
        """Whether tools run without their side effects."""
        return self.mode != "live"


def read(environ: Mapping[str, str]) -> Settings:
    """Read the settings. Raises SettingsError or FaultError naming the variable."""
    prompt = environ.get("AGENT_SYSTEM_PROMPT", "")
    mode = _one_of(environ, "AGENT_MODE", MODES)
    parameters = _json(environ, "AGENT_MODEL_PARAMETERS", {})
    tools = _json(environ, "AGENT_TOOLS", [{"name": name} for name in DEFAULT_TOOLS])
    latency = environ.get("AGENT_LATENCY_MS")
    return Settings(
        revision=environ.get("AGENT_REVISION") or _digest(environ),
        mode=mode,
        name=environ.get("AGENT_NAME", "agent"),
        prompt=prompt,
        provider=environ.get("AGENT_MODEL_PROVIDER", "simulated"),
        model=environ.get("AGENT_MODEL", "simulated-medium"),
        temperature=number(parameters, "temperature", 0.2),
        tools=tuple(str(tool["name"]) for tool in tools),
        faults=parse(environ, prompt),
        seed=environ.get("AGENT_SEED", ""),
        port=int(number(environ, "AGENT_PORT", 8080)),
        latency_ms=None if latency is None else number(environ, "AGENT_LATENCY_MS", 0),
        eval_share=number(environ, "AGENT_EVAL_SHARE", 0.25),
        eval_delay_s=number(environ, "EVAL_DELAY_S", 0),
        evaluator_url=environ.get("AGENT_EVALUATOR_URL", ""),
        feedback_share=number(environ, "AGENT_FEEDBACK_SHARE", 0.2),
        idle_s=number(environ, "AGENT_CONVERSATION_IDLE_S", 30),
        hang_s=number(environ, "AGENT_HANG_S", 60),
        drain_s=number(environ, "AGENT_DRAIN_S", 2),
        telemetry=environ.get("TELEMETRY", ""),
        otel_tokens=_one_of(environ, "OTEL_GENAI_TOKENS", ("both", "old", "new")),
        fault_control=environ.get("AGENT_FAULT_CONTROL", "") == "1",
    )


def _one_of(environ: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    """One of the known words, the first where nothing is said."""
    word = environ.get(name, known[0])
    if word not in known:
        raise SettingsError(f"{name}={word}: must be one of {', '.join(known)}")
    return word


def _digest(environ: Mapping[str, str]) -> str:
    parts = ("AGENT_SYSTEM_PROMPT", "AGENT_MODEL", "AGENT_MODEL_PARAMETERS", "AGENT_TOOLS")
    text = "\0".join(environ.get(part, "") for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _json(environ: Mapping[str, str], name: str, default: Any) -> Any:
    text = environ.get(name)
    if not text:
        return default
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{name} is not JSON: {error}") from error
    if type(value) is not type(default):
        kind = "a JSON object" if isinstance(default, dict) else "a JSON list"
        raise SettingsError(f"{name} must be {kind}")
    if isinstance(value, list) and not all(isinstance(i, dict) and "name" in i for i in value):
        raise SettingsError(f'{name} must be a list of objects with a "name"')
    return value


def number(values: Mapping[str, Any], name: str, default: float) -> float:
    """A number by name. Raises SettingsError naming it."""
    try:
        return float(values.get(name, default))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name}={values[name]}: must be a number") from error
