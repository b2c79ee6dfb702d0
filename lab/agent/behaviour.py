"""What the agent does with a message: a pure function of revision, session and message."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from lab.agent.faults import Faults
from lab.agent.opinion import Outcome, Review, feel, judge
from lab.agent.settings import Settings

SAFETY_CATEGORIES = ("pii", "policy", "harmful")
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_TOOL = 60
"""A tool's description in the prompt."""


@dataclass(frozen=True)
class Model:
    """A simulated model.

    `latency_ms`: median of one call. `usd_in`, `usd_out`: price of a million tokens.
    `wrong`: share of wrong answers; `error`: share of failed calls.
    """

    latency_ms: float
    usd_in: float
    usd_out: float
    wrong: float
    error: float


# The first prefix that fits; prices are of the size that the named families really have.
MODELS: tuple[tuple[str, Model], ...] = (
    ("gpt-4o-mini", Model(20, 0.15, 0.6, 0.06, 0.002)),
    ("gpt-4o", Model(28, 2.5, 10, 0.03, 0.002)),
    ("gpt-4.1-mini", Model(20, 0.4, 1.6, 0.05, 0.002)),
    ("gpt", Model(30, 2, 8, 0.03, 0.002)),
    ("claude-haiku", Model(18, 1, 5, 0.05, 0.002)),
    ("claude-opus", Model(40, 15, 75, 0.015, 0.002)),
    ("claude", Model(30, 3, 15, 0.02, 0.002)),
    ("gemini", Model(22, 1.25, 10, 0.03, 0.002)),
    ("", Model(25, 2, 8, 0.04, 0.002)),
)

BASE_ESCALATION = 0.02
BASE_REFUSAL = 0.005
BASE_TOOL_ERROR = 0.004
BASE_IRRELEVANT = 0.08
"""Share of retrievals that bring nothing of use."""


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool; `dry_run`: checked and counted, but without its side effect."""

    tool: str
    outcome: Literal["success", "error", "dry_run"]
    seconds: float


@dataclass(frozen=True)
class Turn:
    """Everything one request does; `hangs`: it gets no answer for a long time, then an error.

    `relevant`: for each retrieval whether it brought something of use. `review`: what the simulated
    reviewer finds, None where it does not look. `feedback`: what the user gives (0…5), if anything.
    """

    outcome: Outcome
    answer: str
    model: str
    hangs: bool
    model_calls: tuple[float, ...]
    extra_seconds: float
    tool_calls: tuple[ToolCall, ...]
    input_tokens: int
    output_tokens: int
    cost_usd: float
    relevant: tuple[bool, ...]
    review: Review | None
    feedback: float | None
    safety_flag: str | None


def find_model(name: str) -> Model:
    """Return the simulated model of a name; unknown names get a middling one."""
    return next(model for prefix, model in MODELS if name.startswith(prefix))


def decide(settings: Settings, session: str, message: str, faulty: bool) -> Turn:
    """Return what the agent does with a message; the same arguments give the same turn.

    Args:
        settings: the revision; its seed varies all chance at once.
        session: who asks.
        message: what is asked.
        faulty: whether the revision's faults are in force (False before `FAULT_AFTER_S`).
    """
    faults = settings.faults if faulty else Faults()
    # A str seeds through SHA-512, the same on every machine and in every process.
    key = (settings.seed, settings.revision, session, message)
    chance = random.Random("\0".join(key))
    # Every question gets its own draw, in a fixed order: one fault must not shift another's.
    draw = {name: chance.random() for name in _QUESTIONS}
    model_name = faults.model or settings.model
    model = find_model(model_name)
    tool_calls = tuple(_tool_calls(settings, faults, message, chance, draw))
    outcome = _outcome(settings, faults, model, message, draw)
    wrong = draw["wrong"] < _given(faults.wrong_rate, _wrongness(settings, model))
    flagged = draw["safety"] < _given(faults.safety_rate, 0.0)
    turn = Turn(
        outcome=outcome,
        answer=_answer(outcome, message, wrong),
        model=model_name,
        hangs=draw["hang"] < _given(faults.hang_rate, 0.0),
        model_calls=tuple(_latencies(settings, model, len(tool_calls) + 1, chance)),
        extra_seconds=faults.latency_ms / 1000 if draw["tail"] < faults.latency_tail else 0.0,
        tool_calls=tool_calls,
        input_tokens=_input_tokens(settings, message, len(tool_calls)),
        output_tokens=40 + int(80 * draw["length"]) + faults.tokens,
        cost_usd=0.0,
        relevant=tuple(_retrievals(faults, draw)),
        review=judge(settings.eval_share, faults, outcome, wrong, draw),
        feedback=feel(settings.feedback_share, faults, outcome, wrong, draw),
        safety_flag=SAFETY_CATEGORIES[int(draw["category"] * 3)] if flagged else None,
    )
    tokens_usd = turn.input_tokens * model.usd_in + turn.output_tokens * model.usd_out
    return replace(turn, cost_usd=tokens_usd / 1e6 + faults.cost_usd)


_QUESTIONS = (
    *("error", "hang", "escalation", "refusal", "safety", "category"),
    *("wrong", "reviewed", "score", "length", "tool", "tool_again"),
    *("tail", "made_up", "feedback", "mood", "retrieval", "retrieval_again"),
    *("relevant", "relevant_again"),
)


def _given(rate: float | None, otherwise: float) -> float:
    return otherwise if rate is None else rate


def _wrongness(settings: Settings, model: Model) -> float:
    """A hot temperature and an empty prompt make answers worse."""
    heat = 1 + max(0.0, settings.temperature - 0.7) * 2
    return min(1.0, model.wrong * heat + (0.0 if settings.prompt.strip() else 0.05))


def _outcome(
    settings: Settings, faults: Faults, model: Model, message: str, draw: dict[str, float]
) -> Outcome:
    if draw["error"] < _given(faults.error_rate, model.error):
        return "error"
    # Without tools it can look nothing up, and hands over more often.
    base = BASE_ESCALATION if settings.tools else BASE_ESCALATION + 0.05
    asked = "human" in message.lower()
    if asked or draw["escalation"] < _given(faults.escalation_rate, base):
        return "escalated"
    return "refused" if draw["refusal"] < BASE_REFUSAL else "success"


def _tool_calls(
    settings: Settings,
    faults: Faults,
    message: str,
    chance: random.Random,
    draw: dict[str, float],
) -> Iterator[ToolCall]:
    """Yield one or two calls: the tool the message speaks of, else any; errors show in dry runs."""
    if not settings.tools:
        return
    words = message.lower()
    named = [tool for tool in settings.tools if tool.split("_")[0].lower() in words]
    first = named[0] if named else settings.tools[int(draw["tool"] * len(settings.tools))]
    chosen = [first] if draw["tool_again"] < 0.7 else [first, settings.tools[-1]]
    for tool in chosen:
        failed = chance.random() < _given(faults.tool_error_rate, BASE_TOOL_ERROR)
        good: Literal["dry_run", "success"] = "dry_run" if settings.dry else "success"
        yield ToolCall(tool, "error" if failed else good, 0.002 + 0.004 * chance.random())


def _latencies(
    settings: Settings, model: Model, calls: int, chance: random.Random
) -> Iterator[float]:
    """Yield the seconds of each model call: log-normal, longer for a long prompt."""
    median = _given(settings.latency_ms, model.latency_ms) / calls
    reading = len(settings.prompt) / CHARACTERS_PER_TOKEN / 1000  # 1 ms per 1,000 tokens
    for _ in range(calls):
        yield min(median * chance.lognormvariate(0, 0.3) + reading, 60_000) / 1000


def _input_tokens(settings: Settings, message: str, tool_calls: int) -> int:
    """Prompt, tools and message are read anew at every model call."""
    text = len(settings.prompt) + len(message)
    once = text // CHARACTERS_PER_TOKEN + TOKENS_PER_TOOL * len(settings.tools) + 8
    return once * (tool_calls + 1)


def _retrievals(faults: Faults, draw: dict[str, float]) -> Iterator[bool]:
    """Yield for each look into the knowledge base, one in two of the answers, how it went."""
    irrelevant = _given(faults.retrieval_rate, BASE_IRRELEVANT)
    if draw["retrieval"] < 0.5:
        yield draw["relevant"] >= irrelevant
    if draw["retrieval_again"] < 0.1:  # asked anew in other words
        yield draw["relevant_again"] >= irrelevant


def _answer(outcome: Outcome, message: str, wrong: bool) -> str:
    about = message[:80]
    answers: dict[Outcome, str] = {
        "success": f"Here is what I found about: {about}",
        "escalated": "I have handed this over to a colleague who will get back to you.",
        "refused": "I can't help with that.",
        "error": "Something went wrong on my side.",
    }
    if outcome == "success" and wrong:
        return f"I am quite sure that this does not concern you: {about}"
    return answers[outcome]
