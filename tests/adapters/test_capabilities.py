from __future__ import annotations

from typing import Any

import pytest
from phasegate.adapters.routers.capabilities import UNKNOWN, Features, common, features_of

ENVOY = "gateway.envoyproxy.io/gatewayclass-controller"
TRAEFIK = "traefik.io/gateway-controller"
MIRROR, PERCENT = "HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"
BACKEND_HEADERS = "HTTPRouteBackendRequestHeaderModification"


def gateway_class(controller: str, *features: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "class"},
        "spec": {"controllerName": controller},
        "status": {"supportedFeatures": list(features)},
    }


def can(features: Features) -> tuple[bool, bool, bool]:
    return features.mirror, features.mirror_percent, features.backend_headers


def test_what_the_class_reports_counts_more_than_the_table() -> None:
    reported = features_of(gateway_class(ENVOY, {"name": MIRROR}), {})
    assert can(reported) == (True, False, False)
    assert "supportedFeatures" in reported.source


def test_features_may_be_plain_strings_as_in_older_versions() -> None:
    reported = features_of(gateway_class(TRAEFIK, MIRROR, PERCENT, BACKEND_HEADERS), {})
    assert can(reported) == (True, True, True)


def test_a_class_that_reports_nothing_is_looked_up_by_its_controller() -> None:
    assert can(features_of(gateway_class(ENVOY), {})) == (True, True, True)
    assert can(features_of(gateway_class(TRAEFIK), {})) == (False, False, True)


def test_what_nobody_knows_counts_as_not_there() -> None:
    assert features_of(gateway_class("example.com/new"), {}) == UNKNOWN
    assert can(UNKNOWN) == (False, False, False)


def test_the_administrators_word_counts_most() -> None:
    word = Features(mirror=True, source="the operator's configuration")
    assert features_of(gateway_class(TRAEFIK, {"name": PERCENT}), {TRAEFIK: word}) == word


def test_several_gateways_can_what_all_of_them_can() -> None:
    envoy, traefik = (features_of(gateway_class(name), {}) for name in (ENVOY, TRAEFIK))
    both = common([envoy, traefik])
    assert can(both) == (False, False, True)
    assert ENVOY in both.source
    assert TRAEFIK in both.source


@pytest.mark.parametrize("features", [[], [UNKNOWN]])
def test_no_known_gateway_can_nothing(features: list[Features]) -> None:
    assert can(common(features)) == (False, False, False)
