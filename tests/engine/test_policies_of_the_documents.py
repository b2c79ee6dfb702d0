"""The policies written from five runbooks say what these say, each number beside its sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from phasegate.api.rollbackpolicy import Metric, RollbackPolicySpec
from phasegate.engine.compiling import Context, compile_checks

FOLDER = Path(__file__).parents[2] / "config/samples/policies"
POLICIES = ("000", "001", "002", "003", "004")
CONTEXT = Context(model="gpt-4o-2024-11-20")


def text_of(document: str) -> str:
    return (FOLDER / f"{document}.yaml").read_text()


def policy(document: str) -> RollbackPolicySpec:
    return RollbackPolicySpec.model_validate(yaml.safe_load(text_of(document))["spec"])


# document, metric, what is written, the line of the document, the words that it rests on
TABLE = (
    ("000", "latency-p95", "baseline", 61, "key performance indicators (KPIs) such as response"),
    ("000", "error-rate", "baseline", 61, "error rate, and resource utilization"),
    ("000", "tool-error-rate", "baseline", 54, "any errors or unusual activity"),
    ("000", "safety-flags", "alert above 0", 54, "unusual activity for at least 15 minutes"),
    ("001", "spend-per-day", "alert above 50", 180, "Set daily spend alert at $50/day"),
    ("001", "spend-per-day", "alert above 50", 149, "Token costs exceed $____/day"),
    ("001", "retrieval-accuracy", "alert below 70%", 150, "Retrieval accuracy <70%"),
    ("001", "latency-p95", "alert above 5s", 151, "API latency >5s (p95)"),
    ("001", "latency-p50", "gate below 3s", 139, "End-to-end latency <3s (p50)"),
    ("001", "hallucination-rate", "alert above 10%", 152, "Hallucination rate >10%"),
    ("001", "satisfaction", "alert below 3", 153, "User feedback sentiment <3/5 average"),
    ("002", "error-rate", "alert above 0.5%", 827, "Error Rate: Warning: > 0.5%"),
    ("002", "error-rate", "gate below 1%", 828, "Error Rate: Critical: > 1%"),
    ("002", "error-rate", "rollback above 5%", 773, "Error rate increases > 5%"),
    ("002", "latency-p95", "alert above 3s", 822, "Response Time: Warning: > 3 seconds"),
    ("002", "latency-p95", "gate below 5s", 823, "Response Time: Critical: > 5 seconds"),
    ("002", "latency-p95", "baseline 1.5", 774, "Response time increases > 50%"),
    ("002", "quality-score", "alert below 4.0", 832, "Warning: < 4.0/5"),
    ("002", "quality-score", "rollback below 3.5", 833, "Quality Scores: Critical: < 3.5/5"),
    ("002", "quality-score", "baseline 0.9", 775, "Quality scores drop > 10%"),
    ("002", "safety-defect-rate", "alert above 0.1%", 837, "Safety Defect Rate: Warning: > 0.1%"),
    ("002", "safety-defect-rate", "rollback above 1%", 838, "Safety Defect Rate: Critical: > 1%"),
    ("002", "safety-violations", "rollback above 0", 777, "Safety violations detected"),
    ("002", "tokens-per-call", "baseline 1.5", 842, "Token Usage: Alert: If increases > 50%"),
    ("003", "error-rate", "alert above 1% 1h", 190, "Above 1% of calls in any 1-hour window"),
    ("003", "error-rate", "rollback above 5% 30m", 205, "exceeds 5% of calls in any 30-minute"),
    ("003", "error-rate", "baseline", 232, "all metrics stable vs. baseline"),
    ("003", "escalation-rate", "gate below 20%", 231, "Escalation rate < 20%"),
    ("003", "escalation-rate", "alert above 25% 1h", 188, "Above 25% of calls in any 1-hour"),
    (
        "003",
        "escalation-rate",
        "rollback above 50% 15m",
        206,
        "exceeds 50% of calls for more than 15",
    ),
    ("003", "accuracy", "gate above 90%", 229, "> 90% on a reviewed sample of 50+ calls"),
    ("003", "accuracy", "alert below 85%", 187, "Below 85% on any 50-call sample"),
    ("003", "accuracy", "baseline", 230, "Accuracy and cost maintained vs. baseline"),
    ("003", "latency-p95", "alert above 3s", 189, "Above 3 seconds for SaaS"),
    ("003", "latency-p95", "gate below 3s", 231, "Latency and cost within SLA vs. baseline"),
    ("003", "latency-p95", "baseline", 231, "Latency and cost within SLA vs. baseline"),
    ("003", "cost-per-call", "baseline 3", 191, "Sudden 3x spike vs. forecast baseline"),
    ("003", "cost-per-call", "baseline 3", 209, "Cost spike indicating unbounded agent behavior"),
    ("003", "spend-per-day", "baseline 3", 191, "Sudden 3x spike vs. forecast baseline"),
    ("003", "traffic-volume", "baseline 5", 192, "Sudden 5x spike vs. baseline"),
    ("003", "safety-flags", "alert above 0", 193, "Any output flagged by content safety filters"),
    (
        "003",
        "personal-data",
        "rollback above 0",
        208,
        "Confirmed data governance breach or personal",
    ),
    ("003", "satisfaction", "gate above 3", 231, "User satisfaction neutral or positive"),
    ("003", "satisfaction", "baseline", 230, "feedback on agent outputs is positive or neutral"),
    ("003", "model-drift", "alert above 1%", 298, "updated the model version silently"),
    ("004", "error-rate", "rollback above 15% 30m", 248, 'canary_metrics["error_rate"] > 0.15'),
    ("004", "error-rate", "rollback above 15% 30m", 246, 'monitor_for(duration="30m")'),
    ("004", "success-rate", "alert above 20%", 83, 'if metrics["success_rate"] < 0.80'),
    ("004", "cost-per-call", "alert above 0.50", 86, 'if metrics["cost_per_task"] > 0.50'),
    ("004", "cost-per-call", "rollback above 1.0", 37, "budget_per_task=1.0"),
    ("004", "latency-p95", "gate below 10s", 59, '"total": "< 10s"'),
)
IDS = [f"{row[0]}-{row[3]}-{row[1]}-{row[2].split()[0]}" for row in TABLE]


def written(metric: Metric) -> set[str]:
    """What a metric says, in the words of the table."""
    said = set()
    for name in ("gate", "alert", "rollback"):
        level = getattr(metric, name)
        if level is not None:
            side = "above" if level.above is not None else "below"
            said.add(" ".join(filter(None, (name, side, level.above or level.below, level.window))))
    if metric.baseline is not None:
        said.add(f"baseline {metric.baseline.worse_by or ''}".strip())
    return said


def test_every_trigger_of_the_documents_is_there_and_nothing_else() -> None:
    found = {
        (document, metric.name, words)
        for document in POLICIES
        for metric in policy(document).metrics
        for words in written(metric)
    }
    assert found == {row[:3] for row in TABLE}


@pytest.mark.parametrize("row", TABLE, ids=IDS)
def test_a_number_stands_beside_its_sentence(row: tuple[str, str, str, int, str]) -> None:
    document, _, _, line, words = row
    text = " ".join(text_of(document).replace("#", " ").split())
    assert re.search(rf"[Ll]ines? [0-9, ]*\b{line}\b.{{0,250}}?{re.escape(words)}", text)


@pytest.mark.parametrize("document", POLICIES)
def test_the_policies_compile_as_they_are(document: str) -> None:
    made = policy(document)
    assert [check.name for check in compile_checks(made, CONTEXT)] == [m.name for m in made.metrics]


def test_the_reviewed_sample_has_fifty_calls() -> None:
    (accuracy,) = (m for m in policy("003").metrics if m.name == "accuracy")
    assert accuracy.min_samples == 50
