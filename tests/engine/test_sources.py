"""Each source's series, on text of its emitter: what a metric reads, and from whom.

``recorded/envoy-gateway*.txt`` was scraped from the lab's Envoy; the other files were written after
the documentation, as their first line says.
"""

from __future__ import annotations

import re
from typing import get_args

import pytest
from phasegate.api.errors import InvalidSpec
from phasegate.api.metricrules import WELL_KNOWN
from phasegate.api.rollbackpolicy import Level, Metric, Preset, RollbackPolicySpec
from phasegate.engine.compiling import Context, compile_checks
from phasegate.engine.kinds.amount import AmountCheck
from phasegate.engine.kinds.mean import MeanCheck
from phasegate.engine.kinds.quantile import QuantileCheck
from phasegate.engine.kinds.ratio import RatioCheck
from phasegate.engine.sources import SOURCES
from phasegate.engine.sources.base import DriftSource, MeanSource, QuantileSource, RatioSource

from tests.engine.scraped import RECORDED, Sample, belonging, checked, counted, recorded

PRESETS: tuple[Preset, ...] = get_args(Preset)
GATEWAYS: tuple[Preset, ...] = ("istio", "traefik", "linkerd", "litellm", "agentgateway")
CANDIDATE, STABLE = "bbbbbbbbbb", "aaaaaaaaaa"


def arm(source: Preset, revision: str, slot: int = 1) -> list[Sample]:
    return belonging(
        recorded(source),
        SOURCES[source].identity,
        namespace="shop",
        agent="support",
        revision=revision,
        mode="live",
        workload=f"support-{revision}",
        slot=str(slot),
    )


def rate(check: RatioCheck, samples: list[Sample]) -> tuple[float, float]:
    found = counted(check, samples)
    return found[str(check.bad)], found[str(check.total)]


def test_every_preset_of_the_api_has_its_source_and_says_what_it_was_checked_against() -> None:
    assert set(SOURCES) == set(PRESETS)
    for source in SOURCES.values():
        assert any(character.isdigit() for character in source.checked) or "lab" in source.checked
        assert set(source.metrics) <= set(WELL_KNOWN)
        assert set(source.conversations) <= set(source.metrics)


def test_the_agent_contract_gives_every_well_known_metric() -> None:
    assert set(SOURCES["agent-contract"].metrics) == set(WELL_KNOWN)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", WELL_KNOWN)
def test_a_metric_compiles_to_its_kind_or_names_the_sources_that_have_it(
    preset: Preset, name: str
) -> None:
    if name in SOURCES[preset].metrics:
        kind = type(checked(name, preset)).__name__.removesuffix("Check").lower()
        assert kind == WELL_KNOWN[name]
        return
    with pytest.raises(InvalidSpec) as error:
        checked(name, preset)
    said = str(error.value)
    assert f"source {preset} has no series for {name}; " in said
    named = set(re.findall("|".join(PRESETS), said.split("; ")[1]))
    assert named == {other for other in PRESETS if name in SOURCES[other].metrics}
    assert "add ratio, quantile, mean or event" in said


@pytest.mark.parametrize("preset", GATEWAYS)
def test_errors_are_counted_of_the_candidate_alone(preset: Preset) -> None:
    check = checked("error-rate", preset)
    assert isinstance(check, RatioCheck)
    assert rate(check, arm(preset, CANDIDATE)) == (5, 50)
    assert rate(check, arm(preset, STABLE)) == (10, 960)


@pytest.mark.parametrize("preset", GATEWAYS)
def test_latency_comes_in_seconds_from_edges_of_any_unit(preset: Preset) -> None:
    check = checked("latency-p95", preset)
    assert isinstance(check, QuantileCheck)
    parts = counted(check, arm(preset, CANDIDATE))
    edges = sorted(float(part.rpartition("|")[2]) for part in parts if "|" in part)
    assert 0.1 <= edges[0] <= 0.5
    assert 5 <= edges[-2] <= 10
    assert edges[-1] == float("inf")


@pytest.mark.parametrize("preset", [*GATEWAYS, "envoy-gateway"])
def test_no_series_of_another_namespace_is_the_agents(preset: Preset) -> None:
    mine = arm(preset, CANDIDATE)
    assert mine
    assert not any("bank" in value for sample in mine for value in sample.labels.values())


@pytest.mark.parametrize("preset", GATEWAYS)
def test_traffic_is_what_the_source_counts_as_calls(preset: Preset) -> None:
    check = checked("traffic-volume", preset)
    assert isinstance(check, AmountCheck)
    assert check.per_seconds == 3600
    assert check.amount.value(counted(check, arm(preset, CANDIDATE)), 0.0) == 50
    calls = SOURCES[preset].calls
    assert sum(s.value for s in arm(preset, CANDIDATE) if calls.accepts(s.name, s.labels)) == 50


def test_a_call_that_two_proxies_report_counts_once() -> None:
    reporters = {sample.labels["reporter"] for sample in arm("istio", CANDIDATE)}
    assert reporters == {"destination"}


def test_a_call_without_an_answer_is_an_error_to_linkerd() -> None:
    timeouts = [s for s in arm("linkerd", CANDIDATE) if s.labels.get("error") == "REQUEST_TIMEOUT"]
    check = checked("error-rate", "linkerd")
    assert isinstance(check, RatioCheck)
    assert rate(check, timeouts) == (2, 2)


@pytest.mark.parametrize("preset", ["litellm", "agentgateway"])
def test_ai_gateways_know_money_tokens_and_the_model_that_answered(preset: Preset) -> None:
    mine = arm(preset, CANDIDATE)
    cost, tokens, drift = (
        checked(name, preset) for name in ("cost-per-call", "tokens-per-call", "model-drift")
    )
    assert isinstance(cost, MeanCheck)
    assert isinstance(tokens, MeanCheck)
    assert isinstance(drift, RatioCheck)
    assert cost.sum.value(counted(cost, mine), 0.0) == pytest.approx(0.9)
    assert cost.count.value(counted(cost, mine), 0.0) == 50
    per_call = tokens.sum.value(counted(tokens, mine), 0.0) / 50
    assert per_call == pytest.approx({"litellm": 100, "agentgateway": 90}[preset])
    assert rate(drift, mine) == (5, 45)


@pytest.mark.parametrize("preset", ["litellm", "agentgateway"])
def test_calls_that_the_gateway_could_not_price_are_said_to_be_missing(preset: Preset) -> None:
    cost = checked("cost-per-call", preset)
    assert isinstance(cost, MeanCheck)
    assert cost.sum.unknown(counted(cost, arm(preset, CANDIDATE)), 0.0)
    assert not cost.sum.unknown(counted(cost, arm(preset, STABLE)), 0.0)


def test_envoys_clusters_tell_the_slots_of_a_route_apart() -> None:
    check = checked("error-rate", "envoy-gateway")
    assert isinstance(check, RatioCheck)
    assert rate(check, arm("envoy-gateway", STABLE, slot=0)) == (0, 1221)
    assert rate(check, arm("envoy-gateway", CANDIDATE, slot=1)) == (30, 336)
    calls = SOURCES["envoy-gateway"].calls
    mine = [s for s in arm("envoy-gateway", CANDIDATE) if calls.accepts(s.name, s.labels)]
    assert [s.value for s in mine] == [336]


def test_envoys_latency_is_in_milliseconds() -> None:
    check = checked("latency-p95", "envoy-gateway")
    parts = counted(check, arm("envoy-gateway", CANDIDATE))
    assert parts["envoy_cluster_upstream_rq_time|0.25"] == 249
    assert parts["envoy_cluster_upstream_rq_time|0.05"] == 0
    assert parts["envoy_cluster_upstream_rq_time|inf"] == 249


def test_a_mirrored_copy_has_a_cluster_of_its_own() -> None:
    ((label, template),) = SOURCES["envoy-gateway"].identity.mirrored
    cluster = template.format(namespace="shop", agent="support")
    copies = [s for s in recorded("envoy-gateway-shadow") if s.labels.get(label) == cluster]
    check = checked("error-rate", "envoy-gateway")
    assert isinstance(check, RatioCheck)
    bad, total = rate(check, copies)
    assert (bad, total) == (43, 564)


def test_what_was_not_scraped_says_so() -> None:
    for path in RECORDED.glob("*.txt"):
        first = path.read_text().partition("\n")[0]
        source = SOURCES[path.stem.removesuffix("-shadow")]
        scraped = first.startswith("# Recorded from the lab")
        assert scraped or first.startswith("# Not scraped: written after ")
        assert scraped == ("not scraped" not in source.checked)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_policy_may_not_name_the_labels_that_say_whose_a_series_is(preset: Preset) -> None:
    for label in SOURCES[preset].identity.names:
        metric = Metric.model_validate(
            {
                "name": "mine",
                "event": {"counter": f'flags_total{{{label}=~".+"}}'},
                "rollback": Level(above="0"),
            }
        )
        policy = RollbackPolicySpec(source=preset, metrics=(metric,))
        with pytest.raises(InvalidSpec, match=f"label '{label}' is set by the operator"):
            compile_checks(policy, Context())


def test_no_source_compares_series_of_different_histograms_by_mistake() -> None:
    for source in SOURCES.values():
        for metric in source.metrics.values():
            match metric:
                case RatioSource(total=total, bad=bad, good=good):
                    assert (bad is None) != (good is None)
                    assert total not in (bad, good)
                case QuantileSource(histogram=histogram):
                    assert not histogram.name.endswith(("_bucket", "_sum", "_count"))
                case MeanSource(worse=worse, top=top):
                    assert (worse == "below") == (top is not None)
                case DriftSource(label=label):
                    assert "model" in label
