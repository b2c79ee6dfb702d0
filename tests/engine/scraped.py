"""Scraped text, as the engine would see it: names, labels, values, and the parts of a check."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from phasegate.api.rollbackpolicy import Baseline, Metric, Preset, RollbackPolicySpec
from phasegate.engine.checks import CheckSpec
from phasegate.engine.compiling import Context, compile_checks
from phasegate.engine.prices import parse_prices
from phasegate.engine.sources.base import Identity
from prometheus_client.parser import text_string_to_metric_families

RECORDED = Path(__file__).parent / "recorded"
PINNED = "gpt-4o-2024-11-20"
PRICES = parse_prices(
    f"prices: [{{model: {PINNED}, usdPerMillionTokens: {{input: '2.5', output: '10'}}}}]"
)


class Sample(NamedTuple):
    """One line of an exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse(text: str) -> list[Sample]:
    """The samples of an exposition in Prometheus' text format, under the names it has there.

    Without the types: of a counter whose name does not end so, the parser would make ``_total``.
    """
    lines = (line for line in text.splitlines(keepends=True) if not line.startswith("# TYPE"))
    families = text_string_to_metric_families("".join(lines))
    return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]


def recorded(name: str) -> list[Sample]:
    return parse((RECORDED / f"{name}.txt").read_text())


def belonging(samples: list[Sample], identity: Identity, **fields: str) -> list[Sample]:
    """The samples of one revision, as the source's identity tells them."""

    def mine(sample: Sample) -> bool:
        label = sample.labels.get
        return (
            all(label(name, "") == value.format(**fields) for name, value in identity.labels)
            and all(
                re.fullmatch(pattern.format(**fields), label(name, ""))
                for name, pattern in identity.patterns
            )
            and all(m.accepts(label(m.label, "")) for m in identity.fixed)
        )

    return [sample for sample in samples if mine(sample)]


def checked(name: str, source: Preset) -> CheckSpec:
    """A well-known metric, compiled with the least that a policy can say of it."""
    levels = {
        "model-drift": {"rollback": {"above": "1%"}},
        "safety-flags": {"rollback": {"above": "0"}},
    }
    written = {"name": name, **levels.get(name, {"baseline": Baseline()})}
    policy = RollbackPolicySpec(source=source, metrics=(Metric.model_validate(written),))
    (check,) = compile_checks(policy, Context(model=PINNED, prices=PRICES))
    return check


def counted(check: CheckSpec, samples: list[Sample]) -> Counter[str]:
    """What the samples add to each part of a check."""
    parts: Counter[str] = Counter()
    for sample in samples:
        if not math.isnan(sample.value):
            for part in check.parts(sample.name, sample.labels):
                parts[part] += sample.value  # type: ignore[assignment]  # counts are floats here
    return parts
