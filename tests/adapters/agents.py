"""An AgentDeployment as the API server returns it, and strategies for what a route can say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from phasegate.rollout.route import (
    Backend,
    Deactivation,
    HeaderRoute,
    Mirror,
    RollbackIntent,
    RoutePlan,
    Slot,
)

UID = "6a4f9d0c-0000-0000-0000-000000000001"
STABLE, CANDIDATE = "aaaaaaaaaa", "bbbbbbbbbb"


def agent(name: str = "support", uid: str = UID, **gateway_api: Any) -> dict[str, Any]:
    """An agent behind the gateway `lab`; keywords are fields of spec.traffic.gatewayAPI."""
    traffic = {"parentRefs": [{"name": "lab", "namespace": "gateway"}], **gateway_api}
    return {
        "apiVersion": "phasegate.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": uid,
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-01T12:00:00Z",
        },
        "spec": {"service": {"port": 8080}, "traffic": {"gatewayAPI": traffic}},
    }


_hashes = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=10, max_size=10)
_modes = st.sampled_from(("live", "dark", "shadow"))
_times = st.datetimes(
    datetime(2026, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.just(UTC),
)
_words = st.text(max_size=200)
_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?", fullmatch=True)
_slots = st.builds(Slot, _hashes, st.integers(0, 1_000_000))

names = _names
plans = st.builds(
    RoutePlan,
    slots=st.tuples(_slots, _slots),
    mirror=st.none() | st.builds(Mirror, _hashes, _modes, st.integers(1, 100)),
    header=st.none() | st.builds(HeaderRoute, _hashes, _modes),
    closed=st.booleans(),
    off=st.none()
    | st.builds(
        Deactivation,
        by=_words,
        reason=_words,
        decided_at=_times,
        fallback=st.none() | st.builds(Backend, _names, st.integers(1, 65535)),
    ),
    intent=st.none()
    | st.builds(
        RollbackIntent,
        rollout=_words,
        revision=_hashes,
        phase=_words,
        trigger=_words,
        message=_words,
        decided_at=_times,
        by=st.none() | _words,
        since=st.none() | _times,
    ),
)
gateway_apis = st.fixed_dictionaries(
    {},
    optional={
        "hostnames": st.lists(st.sampled_from(("a.example.com", "*.b.example.com")), unique=True),
        "matches": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "path": st.fixed_dictionaries({"value": st.sampled_from(("/", "/v1"))}),
                    "headers": st.just([{"name": "x-tenant", "value": "a"}]),
                    "method": st.sampled_from(("GET", "POST")),
                },
            ),
            max_size=3,
        ),
    },
)
